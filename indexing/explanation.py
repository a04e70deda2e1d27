"""Why references were found in a photo, or why they were not: the decision, candidate by candidate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import expit

from indexing.decision import Calibration, Candidate, Match, accepted
from indexing.keypoints import Channel


class Verdict(StrEnum):
    """What was decided of a reference."""

    ACCEPTED = "accepted"
    SAME_PLACE_AS_BETTER = "same_place_as_better"
    BELOW_THRESHOLD = "below_threshold"
    IMPLAUSIBLE_QUAD = "implausible_quad"
    NOT_A_CANDIDATE = "not_a_candidate"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate with its log-odds, and the log-odds from which on it is accepted."""

    match: Match
    threshold: float

    @property
    def margin(self) -> float:
        """How far the log-odds are above the threshold; negative below it."""
        return self.match.log_odds - self.threshold

    @property
    def threshold_probability(self) -> float:
        """The threshold as a probability, from 0 to 1."""
        return float(expit(self.threshold))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was decided of a reference.

    ``comparison`` is the one that came nearest to acceptance; None where there was none, as the
    reference is no candidate.
    """

    reference: str
    verdict: Verdict
    comparison: Comparison | None = None

    @property
    def margin(self) -> float:
        """That of the comparison; minus infinity where there was none."""
        return -math.inf if self.comparison is None else self.comparison.margin

    @property
    def channel(self) -> Channel | None:
        """The kind of local features that was compared; None where none was."""
        if self.comparison is None:
            return None
        return self.comparison.match.candidate.evidence.channel


class Judge:
    """Says of each candidate what the decision rule made of it.

    ``calibration`` and ``false_accept_budget`` are those under which the photo was recognised.
    """

    def __init__(self, calibration: Calibration, false_accept_budget: float) -> None:
        self._calibration = calibration
        self._budget = false_accept_budget

    def judge(self, candidates: Sequence[Candidate], matches: Sequence[Match]) -> list[Judgement]:
        """One judgement per reference, from a recognition's candidates and its matches.

        The matches come first and in their order, then the others by falling margin.
        """
        found = [self._judgement(Verdict.ACCEPTED, match) for match in matches]
        names = {judgement.reference for judgement in found}
        others: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            if candidate.reference not in names:
                others.setdefault(candidate.reference, []).append(candidate)
        rejected = [self._rejected(own) for own in others.values()]
        return found + sorted(rejected, key=lambda judgement: -judgement.margin)

    def _rejected(self, candidates: Sequence[Candidate]) -> Judgement:
        # What would be accepted if it were alone gave way to another.
        alone = accepted(candidates, self._calibration, self._budget)
        if alone:
            return self._judgement(Verdict.SAME_PLACE_AS_BETTER, alone[0])
        judged = [self._judgement(_shortcoming(each), self._match(each)) for each in candidates]
        return max(judged, key=lambda judgement: judgement.margin)

    def _match(self, candidate: Candidate) -> Match:
        channel = self._calibration[candidate.evidence.channel]
        return Match(candidate, channel.log_odds(candidate.evidence))

    def _judgement(self, verdict: Verdict, match: Match) -> Judgement:
        channel = self._calibration[match.candidate.evidence.channel]
        comparison = Comparison(match, channel.threshold(self._budget))
        return Judgement(match.candidate.reference, verdict, comparison)


def _shortcoming(candidate: Candidate) -> Verdict:
    plausible = candidate.evidence.geometry.plausible
    return Verdict.BELOW_THRESHOLD if plausible else Verdict.IMPLAUSIBLE_QUAD
