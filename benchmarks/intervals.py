"""How far a measured rate may be from the true one: 95 % intervals.

Photos are the units: what one photo shows is hit or missed together. A rate of 0 or 1 resamples to
itself, so it gets the exact interval of Clopper and Pearson (1934) instead of a bootstrap.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, bootstrap

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 2024

Interval = tuple[float, float]
Doubles = npt.NDArray[np.float64]
# Of each photo: how much was hit, and of how much.
Tally = Sequence[tuple[int, int]]


def rate(tally: Tally) -> float | None:
    """The hits of all photos over all there was to hit; None without photos."""
    return sum(hit for hit, _ in tally) / sum(of for _, of in tally) if tally else None


def interval(tally: Tally) -> Interval | None:
    """The 95 % interval of ``rate``; None without photos."""
    if not tally:
        return None
    hits, of = np.array(tally, np.float64).T
    if len(tally) == 1:
        return exact_interval(int(hits[0]), int(of[0]))
    if hits.sum() in (0, of.sum()):
        return exact_interval(len(tally) if hits.any() else 0, len(tally))
    return bootstrap_interval(_ratio, hits, of)


def exact_interval(hits: int, trials: int) -> Interval:
    """The 95 % interval of a rate by Clopper and Pearson (1934); ``trials`` is at least 1."""
    found = binomtest(hits, trials).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def bootstrap_interval(statistic: Callable[..., Any], *columns: Doubles) -> Interval:
    """The 95 % percentile bootstrap (Efron, 1979) of a statistic of columns float64 [photos].

    A photo is a row of all columns, at least two are needed. A statistic with a parameter ``axis``
    is given many resamples at once. The same input gives the same interval.
    """
    found = bootstrap(
        columns,
        statistic,
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def _ratio(hits: Doubles, of: Doubles, axis: int = -1) -> Any:
    return hits.sum(axis) / of.sum(axis)
