"""The decision rule: from what was measured to a probability, and from that to an answer.

The probability is a logistic regression over the evidence of one candidate. The accept
threshold follows the publisher's false-accept budget: over photos of unregistered things the
log-odds of the best wrong candidate have an exponential tail, fitted with the regression. Both are
fitted on rendered views and shipped in the model's bundle.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from indexing.appearance import Agreement
from indexing.keypoints import Channel
from indexing.verification import Geometry, overlap

# Two answers that share this much of the smaller quad are one thing seen as two references.
SAME_PLACE = 0.3
# In nats: e ** -50 of all photos are none.
GREATEST_RARITY = 50.0
SHORTEST_TAIL = 1e-3
# In roots of the quad's area.
POSE_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured between a photo and one reference image.

    ``similarity`` is the cosine of the embeddings, None where the photo's was not computed;
    ``vote_share`` is the share of the photo's votes, ``agreement`` how alike the two look where the
    geometry says (``appearance.agreement``), ``pose_error`` how far it is from one that a camera sees
    (``verification.pose_error``).
    """

    channel: Channel
    similarity: float | None
    vote_share: float
    geometry: Geometry
    agreement: Agreement
    pose_error: float

    def features(self) -> dict[str, float]:
        """The inputs of logistic regressions by their names; without the similarity where it is unknown."""
        significance = max(self.geometry.significance, 0.0)
        features = {
            "log_significance": math.log1p(significance),
            "coverage": self.geometry.coverage,
            "spread_significance": math.sqrt(significance * self.geometry.coverage),
            "inlier_ratio": self.geometry.inlier_ratio,
            "agreement": max(self.agreement.everywhere, 0.0),
            "better_half_agreement": max(self.agreement.better_half, 0.0),
            "pose": math.exp(-self.pose_error / POSE_TOLERANCE),
        }
        if self.similarity is not None:
            features["similarity"] = max(self.similarity, 0.0)
        return features


# What is known of a candidate in every channel, and what only the embedding tells.
COMMON_FEATURES = (
    "spread_significance",
    "inlier_ratio",
    "agreement",
    "better_half_agreement",
    "pose",
)
FEATURES = (*COMMON_FEATURES, "similarity")
# What older models weigh, in the order in which their bundles list the weights.
FORMER_FEATURES = (
    "log_significance",
    "coverage",
    "inlier_ratio",
    "agreement",
    "better_half_agreement",
    "pose",
    "similarity",
)


@dataclass(frozen=True, slots=True)
class ChannelCalibration:
    """The regression of one channel, and the tail of its wrong candidates.

    Log-odds are ``intercept + weights · features``, the weights by the features' names. A share b of
    photos of unregistered things has a candidate above ``tail_offset + tail_scale * ln(1 / b)``.
    """

    weights: Mapping[str, float]
    intercept: float
    tail_offset: float
    tail_scale: float

    def log_odds(self, evidence: Evidence) -> float:
        """The log-odds that the photo shows the reference."""
        features = evidence.features()
        # A channel that is asked without an embedding knows no similarity.
        return self.intercept + sum(
            weight * features.get(name, 0.0) for name, weight in self.weights.items()
        )

    def threshold(self, false_accept_budget: float) -> float:
        """The log-odds from which on a candidate is accepted.

        The budget is that of a whole scan: each channel may use up an equal share of it.
        """
        return self.tail_offset + self.tail_scale * math.log(len(Channel) / false_accept_budget)

    def rarity(self, log_odds: float) -> float:
        """Minus the natural logarithm of the budget whose threshold these log-odds are; at least 0.

        So rarely does a photo of unregistered things have a candidate as good. Those of right ones,
        far beyond any budget, are all called equally rare.
        """
        beyond = (log_odds - self.tail_offset) / max(self.tail_scale, SHORTEST_TAIL)
        return min(max(beyond - math.log(len(Channel)), 0.0), GREATEST_RARITY)


Calibration = Mapping[Channel, ChannelCalibration]


class NoMatch(StrEnum):
    """Why a scan found nothing."""

    NOTHING_REGISTERED = "nothing_registered"
    NOTHING_SIMILAR = "nothing_similar"
    NOT_VERIFIED = "not_verified"
    AMBIGUOUS = "ambiguous"
    IMAGE_TOO_POOR = "image_too_poor"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reference that may stand in the photo, with what a match of it would answer."""

    reference: str
    link: str
    metadata: Mapping[str, str]
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Match:
    """An accepted candidate. ``log_odds`` and ``probability`` say how likely it is right."""

    candidate: Candidate
    log_odds: float

    @property
    def probability(self) -> float:
        """From 0 to 1."""
        return 1 / (1 + math.exp(-min(max(self.log_odds, -50.0), 50.0)))


def accepted(
    candidates: Sequence[Candidate], calibration: Calibration, false_accept_budget: float
) -> tuple[Match, ...]:
    """The candidates beyond the threshold, the most probable first.

    Of several of one reference the one whose inliers cover most of it says where it stands; of
    several references at one place only the most probable is kept.
    """
    best: dict[str, Match] = {}
    for candidate in candidates:
        channel = calibration[candidate.evidence.channel]
        match = Match(candidate, channel.log_odds(candidate.evidence))
        beyond = match.log_odds >= channel.threshold(false_accept_budget)
        if candidate.evidence.geometry.plausible and beyond:
            other = best.get(candidate.reference)
            best[candidate.reference] = match if other is None else _merged(match, other)
    kept: list[Match] = []
    for match in sorted(best.values(), key=lambda match: -match.log_odds):
        if not any(same_place(match, other) for other in kept):
            kept.append(match)
    return tuple(kept)


def _merged(first: Match, second: Match) -> Match:
    wider = max(first, second, key=lambda match: match.candidate.evidence.geometry.coverage)
    return Match(wider.candidate, max(first.log_odds, second.log_odds))


def same_place(first: Match, second: Match) -> bool:
    """Whether two matches are one thing in the photo."""
    quads = [match.candidate.evidence.geometry.quad for match in (first, second)]
    return overlap(*quads) > SAME_PLACE
