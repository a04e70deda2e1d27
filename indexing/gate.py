"""Whether a new model version is good enough to take the place of the one in service.

Both answer the same photos: views of registered references, views of things that are not to be
found, and scans that were kept. What the new one loses by more than chance explains, it fails in.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

# Differences up to this share of the photos are tolerated, and those within so many standard errors.
TOLERATED_LOSS = 0.01
STANDARD_ERRORS = 2.0
TOLERATED_CALIBRATION_ERROR = 0.05
TOLERATED_SLOWDOWN = 1.5
CALIBRATION_BINS = 10
NAMED_FLIPS = 1000
KEPT_SCAN = "kept scan"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a version answers to a photo: its best reference, ``None`` for no match.

    ``right`` says whether that is what the photo shows; ``seconds`` is the time that it took.
    """

    reference: str | None
    probability: float
    right: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A photo that both versions answered. ``reference`` is what it shows, None for a stranger."""

    publisher: str
    reference: str | None
    view: str
    former: Answer
    new: Answer


@dataclass(frozen=True, slots=True)
class Rescan:
    """A kept scan that both versions answered, each with these references.

    Nobody knows what it shows: what the former version finds is what is not to be lost.
    """

    publisher: str
    former: frozenset[str]
    new: frozenset[str]

    @property
    def lost(self) -> bool:
        """Whether the new version finds less."""
        return self.new < self.former

    @property
    def gained(self) -> bool:
        """Whether the new version finds more."""
        return self.new > self.former

    @property
    def changed(self) -> bool:
        """Whether each version finds something that the other does not."""
        return not (self.new <= self.former or self.new >= self.former)


@dataclass(frozen=True, slots=True)
class VersionQuality:
    """How a version did: over ``views`` of registered references, and over views of strangers.

    ``recall``, ``false_accepts`` and ``calibration_error`` are shares, from 0 to 1.
    """

    views: int
    recall: float
    false_accepts: float
    calibration_error: float
    mean_seconds: float


@dataclass(frozen=True, slots=True)
class NegativeFlip:
    """A view, or kept scan, that the former version finds a reference in and the new one does not."""

    publisher: str
    reference: str
    view: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class KeptScanAgreement:
    """How many kept scans there were, and how the answers of both versions to them compare."""

    scans: int = 0
    agreed: int = 0
    lost: int = 0
    changed: int = 0
    gained: int = 0


@dataclass(frozen=True, slots=True)
class GateReport:
    """The comparison of two versions; without ``problems`` the new one is good enough.

    Reports of before there were kept scans have none.
    """

    former: VersionQuality
    new: VersionQuality
    problems: tuple[str, ...]
    flips: tuple[NegativeFlip, ...]
    kept_scans: KeptScanAgreement = KeptScanAgreement()

    @property
    def passed(self) -> bool:
        """Whether the new version is good enough."""
        return not self.problems


def compare(trials: Sequence[Trial], rescans: Sequence[Rescan], unusable_images: int) -> GateReport:
    """Compares two versions; ``unusable_images`` are those the new one can make nothing of.

    Without any trial (nothing is registered) there is nothing to lose.
    """
    known = [trial for trial in trials if trial.reference is not None]
    strangers = [trial for trial in trials if trial.reference is None]
    former = _quality([t.former for t in known], [t.former for t in strangers])
    new = _quality([t.new for t in known], [t.new for t in strangers])
    agreement = _agreement(rescans)
    problems = [
        _unusable(unusable_images),
        _fewer_recognised(known),
        _more_accepted(strangers),
        _less_calibrated(former, new),
        _slower(former, new),
        _found_otherwise(agreement),
    ]
    flips = [*_negative_flips(known), *chain.from_iterable(map(_lost_references, rescans))]
    return GateReport(
        former, new, tuple(filter(None, problems)), tuple(flips[:NAMED_FLIPS]), agreement
    )


def _quality(known: Sequence[Answer], strangers: Sequence[Answer]) -> VersionQuality:
    every = [*known, *strangers]
    return VersionQuality(
        len(known),
        _mean([answer.right for answer in known]),
        _mean([answer.reference is not None for answer in strangers]),
        _calibration_error([answer for answer in every if answer.reference is not None]),
        _mean([answer.seconds for answer in every]),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _calibration_error(answers: Sequence[Answer]) -> float:
    """The expected calibration error (Naeini et al., 2015) of what was answered."""
    if not answers:
        return 0.0
    said = np.array([answer.probability for answer in answers])
    true = np.array([answer.right for answer in answers], float)
    bins = np.minimum((said * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs((said - true)[bins == each].sum()) for each in range(CALIBRATION_BINS)]
    return float(sum(gaps) / len(answers))


def _unusable(images: int) -> str:
    return f"It can make nothing of {images} registered images." if images else ""


def _fewer_recognised(known: Sequence[Trial]) -> str:
    lost = sum(trial.former.right and not trial.new.right for trial in known)
    won = sum(trial.new.right and not trial.former.right for trial in known)
    if _is_excess(lost, won, len(known)):
        return f"Of {len(known)} views of registered references it loses {lost} and wins {won}."
    return ""


def _more_accepted(strangers: Sequence[Trial]) -> str:
    former = sum(trial.former.reference is not None for trial in strangers)
    new = sum(trial.new.reference is not None for trial in strangers)
    if _is_excess(new, former, len(strangers)):
        return f"Of {len(strangers)} views of strangers it accepts {new}, not {former}."
    return ""


def _is_excess(more: int, fewer: int, photos: int) -> bool:
    excess = more - fewer
    return excess > TOLERATED_LOSS * photos and excess > STANDARD_ERRORS * math.sqrt(more + fewer)


def _less_calibrated(former: VersionQuality, new: VersionQuality) -> str:
    if new.calibration_error > former.calibration_error + TOLERATED_CALIBRATION_ERROR:
        errors = f"{new.calibration_error:.3f}, not {former.calibration_error:.3f}"
        return f"Its calibration error is {errors}."
    return ""


def _slower(former: VersionQuality, new: VersionQuality) -> str:
    if new.mean_seconds > TOLERATED_SLOWDOWN * former.mean_seconds:
        times = f"{new.mean_seconds * 1000:.0f} ms, not {former.mean_seconds * 1000:.0f}"
        return f"It takes {times}."
    return ""


def _agreement(rescans: Sequence[Rescan]) -> KeptScanAgreement:
    return KeptScanAgreement(
        len(rescans),
        sum(scan.former == scan.new for scan in rescans),
        sum(scan.lost for scan in rescans),
        sum(scan.changed for scan in rescans),
        sum(scan.gained for scan in rescans),
    )


def _found_otherwise(kept: KeptScanAgreement) -> str:
    # What it gains makes up for nothing: nobody knows whether it is there.
    if _is_excess(kept.lost + kept.changed, 0, kept.scans):
        return (
            f"Of {kept.scans} kept scans it loses {kept.lost} and answers {kept.changed} otherwise."
        )
    return ""


def _negative_flips(known: Sequence[Trial]) -> list[NegativeFlip]:
    return [
        NegativeFlip(trial.publisher, trial.reference, trial.view, trial.new.reference)
        for trial in known
        if trial.reference is not None and trial.former.right and not trial.new.right
    ]


def _lost_references(scan: Rescan) -> list[NegativeFlip]:
    instead = min(scan.new - scan.former, default=None)
    lost = sorted(scan.former - scan.new)
    return [NegativeFlip(scan.publisher, reference, KEPT_SCAN, instead) for reference in lost]
