"""What a camera session makes of its frames: certainty that adds up, and each reference told once.

Of each frame, a candidate has its *rarity*: minus the logarithm of how rarely a photo of unregistered
things has a candidate as good (``ChannelCalibration.rarity``). Were frames independent, the rarities of
one reference could be added up as Fisher did with the logarithms of p-values. But they show one scene
from nearly one place, so that chance repeats itself: Brown (1975) tells how much less the sum means
then. With a correlation of r between any two, n frames are worth ``n / (1 + (n - 1) r)``, and never
more than ``1 / r``, however long one looks: what merely resembles a reference does not become it.

Looking often is more chances for chance. Each frame ends several windows of frames, and each of these
may use up an equal share of the false-accept budget, so that a frame of a session begins a false answer
no more often than a scan of the frame alone would give one.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from scipy.special import gammaincc

from indexing.decision import Calibration, Candidate, Match, accepted, same_place

# Of a stranger's rarities in two frames of a session. `python -m benchmarks stream` measures far less, but
# a phone that lies still, or a stranger that looks like a reference, repeats what rendered ones do not.
CORRELATION = 0.5
# How many of the last frames are judged together.
WINDOWS = (1, 2, 4, 8)
# A candidate as good as the best of this share of strangers' photos is watched from then on.
WATCHED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Sighting:
    """A reference that came into view.

    ``match`` is the one of the latest frame, with the certainty of the last ``frames`` together.
    """

    match: Match
    frames: int


class Session:
    """What one camera saw so far. Seconds are of any one clock."""

    def __init__(
        self, false_accept_budget: float, reappear_after: float, correlation: float = CORRELATION
    ) -> None:
        """``reappear_after`` is how many seconds a reference is out of view before it is new again."""
        self._budget = false_accept_budget
        self._reappear_after = reappear_after
        self._correlation = correlation
        self._tracks: dict[str, _Track] = {}

    def see(
        self, candidates: Sequence[Candidate], calibration: Calibration, seconds: float
    ) -> list[Sighting]:
        """Takes in the candidates of a frame seen at ``seconds``; returns what is new and certain."""
        seen = {
            match.candidate.reference: match for match in self._watched(candidates, calibration)
        }
        self._forget(seconds, seen)
        for reference in seen.keys() - self._tracks.keys():
            self._tracks[reference] = _Track()
        sightings = []
        for reference, track in self._tracks.items():
            match = seen.get(reference)
            track.add(0.0 if match is None else _rarity(match, calibration), seconds)
            if match is not None and not track.told:
                sightings += self._judged(track, match, calibration)
        return sorted(sightings, key=lambda sighting: -sighting.match.log_odds)

    def _watched(
        self, candidates: Sequence[Candidate], calibration: Calibration
    ) -> Iterator[Match]:
        """The candidates worth following, one at each place.

        Where something stands that was told and would be accepted again, nothing else is followed: of
        two references that show the same, chance would choose now one, now the other.
        """
        told = [each for each in candidates if self._is_told(each.reference)]
        others = [each for each in candidates if not self._is_told(each.reference)]
        yield from accepted(told, calibration, WATCHED_SHARE)
        certain = accepted(told, calibration, self._budget)
        for match in accepted(others, calibration, WATCHED_SHARE):
            if not any(same_place(match, other) for other in certain):
                yield match

    def _is_told(self, reference: str) -> bool:
        return reference in self._tracks and self._tracks[reference].told

    def _forget(self, seconds: float, seen: dict[str, Match]) -> None:
        for reference, track in list(self._tracks.items()):
            if track.told:
                over = track.out_of_view(seconds) >= self._reappear_after
            else:
                over = reference not in seen and not any(track.rarities)
            if over:
                del self._tracks[reference]

    def _judged(self, track: "_Track", match: Match, calibration: Calibration) -> list[Sighting]:
        rarity, frames = track.certainty(self._correlation)
        if rarity < -math.log(self._budget):
            return []
        track.told = True
        channel = calibration[match.candidate.evidence.channel]
        log_odds = max(match.log_odds, channel.threshold(math.exp(-rarity)))
        return [Sighting(replace(match, log_odds=log_odds), frames)]


@dataclass(slots=True)
class _Track:
    """The last frames of one reference, 0 where it was not seen, and whether it was told."""

    rarities: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOWS[-1]))
    told: bool = False
    out_since: float | None = None

    def add(self, rarity: float, seconds: float) -> None:
        """Takes in a frame."""
        self.rarities.append(rarity)
        if rarity:
            self.out_since = None
        elif self.out_since is None:
            self.out_since = seconds

    def out_of_view(self, seconds: float) -> float:
        """For how long frames have not shown it. A time without frames tells nothing."""
        return 0.0 if self.out_since is None else seconds - self.out_since

    def certainty(self, correlation: float) -> tuple[float, int]:
        """The rarity of the window that says most, after its share of the budget; its frames."""
        latest = list(self.rarities)
        windows = [size for size in WINDOWS if size <= len(latest)]
        judged = [(joint_rarity(latest[-size:], correlation), size) for size in windows]
        rarity, frames = max(judged)
        return rarity - math.log(len(WINDOWS)), frames


def joint_rarity(rarities: Sequence[float], correlation: float) -> float:
    """How rare several frames are together, in nats; any two of them have this correlation.

    Brown's method: chance gives each frame a rarity of an exponential distribution, and their sum
    about a gamma distribution with the mean and the variance of the sum.
    """
    worth = len(rarities) / (1 + (len(rarities) - 1) * correlation)
    chance = float(gammaincc(worth, worth * sum(rarities) / len(rarities)))
    return -math.log(chance) if chance else math.inf


def _rarity(match: Match, calibration: Calibration) -> float:
    return calibration[match.candidate.evidence.channel].rarity(match.log_odds)
