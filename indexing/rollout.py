"""How a model version takes the place of another: the states of a rollout, and what each allows.

``backfilling → evaluating → ready → canary → active → completed``; from ``canary`` and ``active`` a
rollback leads to ``ready`` again, and what has switched no publisher may be ``cancelled``. A version
that cannot be used is ``failed``.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from indexing.errors import RolloutStateInvalid

# The watch judges no fewer scans than these.
WATCHED_SCANS = 50
# It rolls back where the match rate fell by more than this share of what it was, and chance does not
# explain it (standard errors), or where scans take this many times as long.
TOLERATED_FALL = 0.1
STANDARD_ERRORS = 3.0
TOLERATED_SLOWDOWN = 2.0


class RolloutState(StrEnum):
    """How far a rollout is."""

    BACKFILLING = "backfilling"
    """Images get features of the new version."""
    EVALUATING = "evaluating"
    """All images have them; scanners load the new version, and it is compared."""
    READY = "ready"
    CANARY = "canary"
    """Some publishers are switched."""
    ACTIVE = "active"
    """All are."""
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


UNDER_WAY = frozenset(RolloutState) - {
    RolloutState.COMPLETED,
    RolloutState.CANCELLED,
    RolloutState.FAILED,
}
SWITCHED = frozenset({RolloutState.CANARY, RolloutState.ACTIVE})
SWITCHABLE = SWITCHED | {RolloutState.READY}


@dataclass(frozen=True, slots=True)
class Rollout:
    """The way of a model version into service.

    ``problem`` says why it failed or was rolled back; ``switch_time`` is when publishers were last
    switched, in either direction; ``gate_passed`` is None before the versions were compared.
    """

    id: str
    model: str
    former: str
    state: RolloutState
    create_time: datetime
    state_time: datetime
    paused: bool
    max_images_per_second: float
    shadow_share: float
    gate_passed: bool | None
    forced: bool
    problem: str
    switch_time: datetime | None

    def check(self, allowed: Collection[RolloutState], problem: str) -> None:
        """Raises RolloutStateInvalid, with what the problem is, in a state that is not allowed."""
        if self.state not in allowed:
            raise self.refusal(problem)

    def refusal(self, problem: str) -> RolloutStateInvalid:
        """The error that its state does not allow something."""
        return RolloutStateInvalid(rollout=self.id, state=self.state, problem=problem)


@dataclass(frozen=True, slots=True)
class Serving:
    """Which model version serves whom, as of one moment.

    ``publishers`` are those that ``default`` does not serve; ``rollout`` is the one under way.
    """

    epoch: int
    default: str
    publishers: Mapping[str, str]
    rollout: Rollout | None

    def version(self, publisher: str) -> str:
        """The version that serves a publisher."""
        return self.publishers.get(publisher, self.default)

    @property
    def written(self) -> tuple[str, ...]:
        """The versions that every image that is written needs features of."""
        rollout = self.rollout
        versions = [self.default, *((rollout.model, rollout.former) if rollout else ())]
        return tuple(dict.fromkeys(versions))

    @property
    def needed(self) -> frozenset[str]:
        """The versions that serve or are to serve soon: two at most."""
        return frozenset({*self.written, *self.publishers.values()})


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How many of all images have features, and of these, how many are unusable to the version.

    ``images_per_second`` is 0 where nothing moved lately.
    """

    done: int
    images: int
    unusable: int
    images_per_second: float

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at this pace; None where that cannot be told."""
        left = max(0, self.images - self.done)
        if not left:
            return 0.0
        return left / self.images_per_second if self.images_per_second else None


@dataclass(frozen=True, slots=True)
class ScanRates:
    """How scans went: how many, how many found something, and the seconds they took together."""

    scans: int = 0
    matches: int = 0
    seconds: float = 0.0

    @property
    def match_rate(self) -> float:
        """The share of scans that found something."""
        return self.matches / self.scans if self.scans else 0.0

    @property
    def mean_seconds(self) -> float:
        """How long a scan took."""
        return self.seconds / self.scans if self.scans else 0.0


@dataclass(frozen=True, slots=True)
class ShadowAgreement:
    """Scans that both versions answered: all, those alike, and those that one alone matched."""

    scans: int = 0
    agreed: int = 0
    former_only: int = 0
    new_only: int = 0


def canary(publishers: Iterable[str], percent: float) -> list[str]:
    """The share of publishers that goes first: a greater one contains each smaller one."""
    return [each for each in publishers if _share(each) < percent / 100]


def decline(before: ScanRates, now: ScanRates) -> str | None:
    """What became worse with a new version, so that it should be rolled back; None for nothing.

    The match rates are compared by the two-proportion z-test.
    """
    if min(before.scans, now.scans) < WATCHED_SCANS:
        return None
    fall = before.match_rate - now.match_rate
    pooled = (before.matches + now.matches) / (before.scans + now.scans)
    error = math.sqrt(pooled * (1 - pooled) * (1 / before.scans + 1 / now.scans))
    if fall > TOLERATED_FALL * before.match_rate and fall > STANDARD_ERRORS * error:
        rates = f"{before.match_rate:.1%} to {now.match_rate:.1%}"
        return f"The share of scans that find something fell from {rates}."
    if now.mean_seconds > TOLERATED_SLOWDOWN * before.mean_seconds:
        times = f"{before.mean_seconds * 1000:.0f} to {now.mean_seconds * 1000:.0f} ms"
        return f"The mean time of a scan grew from {times}."
    return None


def _share(publisher: str) -> float:
    digest = hashlib.blake2b(publisher.encode(), digest_size=8, person=b"canary").digest()
    return int.from_bytes(digest) / 2**64
