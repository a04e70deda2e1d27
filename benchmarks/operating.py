"""Operating points: how much is recalled where the threshold is set for a precision."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.intervals import Doubles, Interval, bootstrap_interval, exact_interval

PRECISIONS = (0.9, 0.999)


class Ranked(NamedTuple):
    """The score of a photo's best candidate (minus infinity without any), and whether it is right.

    ``registered`` says whether the photo shows anything that could be found.
    """

    score: float
    right: bool
    registered: bool


def recall_at_precision(ranked: Sequence[Ranked], precision: float) -> float | None:
    """The greatest share of registered photos answered rightly by one threshold on the score.

    Of the photos that pass the threshold at least ``precision`` must be right. 0 where no
    threshold does that, None where no photo shows anything registered.
    """
    if not any(each.registered for each in ranked):
        return None
    score, right, registered = np.array(ranked, np.float64).T
    return _recall(score, right, registered, precision)


def recall_interval(ranked: Sequence[Ranked] | None, precision: float) -> Interval | None:
    """The 95 % interval of ``recall_at_precision``, resampling photos; exact at 0 and 1."""
    recall = recall_at_precision(ranked or (), precision)
    if recall is None or ranked is None:
        return None
    registered = sum(each.registered for each in ranked)
    if recall in (0.0, 1.0) or len(ranked) < 2:
        return exact_interval(round(recall * registered), registered)
    return bootstrap_interval(
        partial(_recall, precision=precision), *np.array(ranked, np.float64).T
    )


def _recall(score: Doubles, right: Doubles, registered: Doubles, precision: float) -> float:
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(right[order])
    # A threshold lets all photos of one score through, or none.
    ends = np.append(score[1:] != score[:-1], True) & np.isfinite(score)
    enough = ends & (hits >= precision * np.arange(1, len(hits) + 1))
    return float(hits[enough].max(initial=0.0) / max(registered.sum(), 1.0))
