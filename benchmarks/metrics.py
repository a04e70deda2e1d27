"""What a recognition benchmark measures, from the outcomes of its photos."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from benchmarks.intervals import Interval, Tally, interval, rate
from benchmarks.operating import PRECISIONS, Ranked, recall_at_precision, recall_interval
from indexing.image import Pixels

Quad = npt.NDArray[np.float32]
# Draws or reads a photo, RGB uint8 [height, width, 3], whenever it is wanted.
Picture = Callable[[], Pixels]

SHORTLIST_SIZES = (1, 5, 20, 50)


@dataclass(frozen=True, slots=True)
class Found:
    """A reference that was accepted, and its quad, float32 [4, 2] in shares of the photo's sides."""

    reference: Path
    probability: float
    quad: Quad


@dataclass(frozen=True, slots=True)
class Verified:
    """The best candidate of a reference in a photo, accepted or not.

    ``inliers`` of its ``matches`` agree, in a ``coverage`` share of the reference. Only a
    ``plausible`` one can be accepted; ``beyond`` says whether its log-odds pass the threshold.
    ``quad`` is float32 [4, 2] in shares of the photo's sides.
    """

    reference: Path
    log_odds: float
    probability: float
    inliers: int
    matches: int
    coverage: float
    plausible: bool
    beyond: bool
    quad: Quad


@dataclass(frozen=True, slots=True)
class Answer:
    """What the pipeline said to one photo.

    ``shortlist`` names references, the accepted ones first, the others by falling resemblance;
    ``verified`` is by falling probability, the implausible last. ``cpu`` are the milliseconds on a
    processor after decoding, ``stages`` how they divide among the stages. Each is None where the
    pipeline does not tell.
    """

    found: tuple[Found, ...]
    shortlist: tuple[Path, ...] | None
    milliseconds: float
    verified: tuple[Verified, ...] | None = None
    stages: Mapping[str, float] | None = None
    cpu: float | None = None

    @property
    def references(self) -> tuple[Path, ...]:
        """The accepted references, the most probable first."""
        return tuple(found.reference for found in self.found)

    @property
    def best(self) -> Verified | None:
        """The most probable candidate that could be accepted."""
        return next((each for each in self.verified or () if each.plausible), None)

    def candidate(self, reference: Path) -> Verified | None:
        """A reference's best candidate."""
        return next((each for each in self.verified or () if each.reference == reference), None)


@dataclass(frozen=True, slots=True)
class Covered:
    """A photo with a part of what it shows hidden, and the answer to that."""

    picture: Picture
    answer: Answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """A photo, the references it shows, the answer to it, and that without them in the gallery.

    ``group`` is the sub-folder that the photo is in, such as that of a phone.
    """

    photo: Path
    expected: tuple[Path, ...]
    answer: Answer
    left_out: Answer | None = None
    covered: Covered | None = None
    group: str = ""

    @property
    def missed(self) -> tuple[Path, ...]:
        """The references that the photo shows and that were not accepted."""
        return tuple(path for path in self.expected if path not in self.answer.references)

    @property
    def wrong(self) -> tuple[Path, ...]:
        """The references that were accepted and that the photo does not show."""
        return tuple(path for path in self.answer.references if path not in self.expected)


class Rates(TypedDict):
    """How often photos were answered rightly and wrongly; None where no photo can tell.

    ``false_positive_identification_rate`` is over the photos of what is not in the gallery, be it
    unregistered or left out. ``intervals`` has the 95 % interval of each rate under its name.
    """

    queries: int
    shortlist_recall: dict[str, float] | None
    recall_at_1: float | None
    covered_recall_at_1: float | None
    false_accept_rate: float | None
    left_out_false_accept_rate: float | None
    false_positive_identification_rate: float | None
    wrong_accept_rate: float | None
    recall_at_precision: dict[str, float] | None
    intervals: dict[str, Interval]


def corner_error(found: Quad, true: Quad) -> float:
    """The mean distance of corners, [4, 2], as a share of the geometric mean of the true sides."""
    sides = np.linalg.norm(true - np.roll(true, -1, axis=0), axis=1)
    distances = np.linalg.norm(found - true, axis=1)
    return float(distances.mean() / np.exp(np.log(sides).mean()))


class Metrics(Rates):
    """A dataset's results, in all and by the sub-folders of its photos."""

    milliseconds_per_query: float | None
    by_group: dict[str, Rates]


def measured(outcomes: Sequence[Outcome]) -> Metrics:
    """The metrics of a dataset's outcomes."""
    groups = dict.fromkeys(sorted(outcome.group for outcome in outcomes if outcome.group))
    return Metrics(
        **rates(outcomes),
        milliseconds_per_query=_mean(outcome.answer.milliseconds for outcome in outcomes),
        by_group={group: rates([o for o in outcomes if o.group == group]) for group in groups},
    )


def rates(outcomes: Sequence[Outcome]) -> Rates:
    """The rates of some outcomes, with their intervals."""
    tallies = {name: tally(outcomes) for name, tally in TALLIES.items()}
    shortlists = {size: _listed(outcomes, size) for size in SHORTLIST_SIZES}
    recalls = {str(size): value for size, t in shortlists.items() if (value := rate(t)) is not None}
    ranked = _ranked(outcomes)
    tallies |= {f"shortlist_recall_at_{size}": tally for size, tally in shortlists.items()}
    bounds = {name: interval(tally) for name, tally in tallies.items()}
    bounds |= {f"recall_at_{p}_precision": recall_interval(ranked, p) for p in PRECISIONS}
    return Rates(
        queries=len(outcomes),
        shortlist_recall=recalls or None,
        recall_at_1=rate(tallies["recall_at_1"]),
        covered_recall_at_1=rate(tallies["covered_recall_at_1"]),
        false_accept_rate=rate(tallies["false_accept_rate"]),
        left_out_false_accept_rate=rate(tallies["left_out_false_accept_rate"]),
        false_positive_identification_rate=rate(tallies["false_positive_identification_rate"]),
        wrong_accept_rate=rate(tallies["wrong_accept_rate"]),
        recall_at_precision=_recall_at_precision(ranked),
        intervals={name: each for name, each in bounds.items() if each},
    )


def accepted_first(found: Iterable[Path], shortlist: Iterable[Path]) -> tuple[Path, ...]:
    """The accepted references, then the rest of the shortlist."""
    return tuple(dict.fromkeys([*found, *shortlist]))


# What was hit in each photo, and of how much


def _recalled(outcomes: Sequence[Outcome]) -> Tally:
    return [(len(o.expected) - len(o.missed), len(o.expected)) for o in outcomes if o.expected]


def _recalled_covered(outcomes: Sequence[Outcome]) -> Tally:
    return [
        (sum(path in o.covered.answer.references for path in o.expected), len(o.expected))
        for o in outcomes
        if o.covered
    ]


def _false_accepts(outcomes: Sequence[Outcome]) -> Tally:
    return _accepts(outcome.answer for outcome in outcomes if not outcome.expected)


def _left_out_accepts(outcomes: Sequence[Outcome]) -> Tally:
    return _accepts(outcome.left_out for outcome in outcomes if outcome.left_out)


def _all_false_accepts(outcomes: Sequence[Outcome]) -> Tally:
    return [*_false_accepts(outcomes), *_left_out_accepts(outcomes)]


def _wrong_accepts(outcomes: Sequence[Outcome]) -> Tally:
    return [(int(bool(outcome.wrong)), 1) for outcome in outcomes if outcome.expected]


def _accepts(answers: Iterable[Answer]) -> Tally:
    return [(int(bool(answer.found)), 1) for answer in answers]


TALLIES: Mapping[str, Callable[[Sequence[Outcome]], Tally]] = {
    "recall_at_1": _recalled,
    "covered_recall_at_1": _recalled_covered,
    "false_accept_rate": _false_accepts,
    "left_out_false_accept_rate": _left_out_accepts,
    "false_positive_identification_rate": _all_false_accepts,
    "wrong_accept_rate": _wrong_accepts,
}


def _listed(outcomes: Sequence[Outcome], size: int) -> Tally:
    return [
        (sum(path in outcome.answer.shortlist[:size] for path in outcome.expected), len(expected))
        for outcome in outcomes
        if (expected := outcome.expected) and outcome.answer.shortlist is not None
    ]


def _ranked(outcomes: Sequence[Outcome]) -> list[Ranked] | None:
    if any(outcome.answer.verified is None for outcome in outcomes):
        return None
    return list(_best_of_each(outcomes))


def _best_of_each(outcomes: Sequence[Outcome]) -> Iterator[Ranked]:
    for outcome in outcomes:
        best = outcome.answer.best
        right = best is not None and best.reference in outcome.expected
        score = best.log_odds if best else -np.inf
        yield Ranked(score, right, bool(outcome.expected))


def _recall_at_precision(ranked: Sequence[Ranked] | None) -> dict[str, float] | None:
    recalls = {str(p): recall_at_precision(ranked or (), p) for p in PRECISIONS}
    return {p: recall for p, recall in recalls.items() if recall is not None} or None


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None
