"""What a recognition benchmark measures, from the outcomes of its photos."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt

Quad = npt.NDArray[np.float32]

SHORTLIST_SIZES = (1, 5, 20, 50)


@dataclass(frozen=True, slots=True)
class Found:
    """A reference that was accepted, and its quad, float32 [4, 2] in shares of the photo's sides."""

    reference: Path
    probability: float
    quad: Quad


@dataclass(frozen=True, slots=True)
class Answer:
    """What the pipeline said to one photo.

    ``shortlist`` names references, the accepted ones first, the others by falling resemblance;
    it is None where the pipeline does not tell.
    """

    found: tuple[Found, ...]
    shortlist: tuple[Path, ...] | None
    milliseconds: float

    @property
    def references(self) -> tuple[Path, ...]:
        """The accepted references, the most probable first."""
        return tuple(found.reference for found in self.found)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A photo, the references it shows, the answer to it, and that without them in the gallery."""

    photo: Path
    expected: tuple[Path, ...]
    answer: Answer
    left_out: Answer | None = None

    @property
    def missed(self) -> tuple[Path, ...]:
        """The references that the photo shows and that were not accepted."""
        return tuple(path for path in self.expected if path not in self.answer.references)

    @property
    def wrong(self) -> tuple[Path, ...]:
        """The references that were accepted and that the photo does not show."""
        return tuple(path for path in self.answer.references if path not in self.expected)


class Metrics(TypedDict):
    """A dataset's results; None where no photo of it can tell."""

    queries: int
    shortlist_recall: dict[str, float] | None
    recall_at_1: float | None
    false_accept_rate: float | None
    left_out_false_accept_rate: float | None
    wrong_accept_rate: float | None
    milliseconds_per_query: float | None


def measured(outcomes: Sequence[Outcome]) -> Metrics:
    """The metrics of a dataset's outcomes."""
    answered = [outcome for outcome in outcomes if outcome.expected]
    unanswered = [outcome for outcome in outcomes if not outcome.expected]
    left_out = [outcome.left_out for outcome in answered if outcome.left_out]
    return Metrics(
        queries=len(outcomes),
        shortlist_recall=_shortlist_recall(answered),
        recall_at_1=_mean(path not in o.missed for o in answered for path in o.expected),
        false_accept_rate=_mean(bool(outcome.answer.found) for outcome in unanswered),
        left_out_false_accept_rate=_mean(bool(answer.found) for answer in left_out),
        wrong_accept_rate=_mean(bool(outcome.wrong) for outcome in answered),
        milliseconds_per_query=_mean(outcome.answer.milliseconds for outcome in outcomes),
    )


def accepted_first(found: Iterable[Path], shortlist: Iterable[Path]) -> tuple[Path, ...]:
    """The accepted references, then the rest of the shortlist."""
    return tuple(dict.fromkeys([*found, *shortlist]))


def _shortlist_recall(answered: Sequence[Outcome]) -> dict[str, float] | None:
    listed = [
        (path, outcome.answer.shortlist)
        for outcome in answered
        for path in outcome.expected
        if outcome.answer.shortlist is not None
    ]
    if not listed:
        return None
    return {
        str(size): sum(path in shortlist[:size] for path, shortlist in listed) / len(listed)
        for size in SHORTLIST_SIZES
    }


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None
