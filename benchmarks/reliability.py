"""Whether the probabilities mean what they say.

All candidates that could be accepted are judged, the accepted and the others: the best one of each
reference in each photo, where its geometry is plausible.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.metrics import Answer

BINS = 15


class Judged(NamedTuple):
    """A candidate's probability, and whether the photo shows the reference."""

    probability: float
    right: bool


class Bin(TypedDict):
    """The candidates with a probability from ``low`` to ``high``."""

    low: float
    high: float
    candidates: int
    mean_probability: float
    share_right: float


class Reliability(TypedDict):
    """How far probabilities are from what came true.

    The expected calibration error (Naeini et al., 2015) is the mean distance between probability
    and share of right candidates over 15 bins of equal width, weighted by their counts. The Brier
    score (1950) is the mean squared distance of a probability from 1 or 0. ``bins`` are those that
    hold candidates.
    """

    candidates: int
    right: int
    expected_calibration_error: float
    brier_score: float
    bins: list[Bin]


def judged(answer: Answer, shown: Collection[Path]) -> list[Judged]:
    """The candidates of an answer to a photo that shows some references, or none."""
    verified = [each for each in answer.verified or () if each.plausible]
    return [Judged(each.probability, each.reference in shown) for each in verified]


def reliability(candidates: Iterable[Judged]) -> Reliability | None:
    """The reliability of the probabilities of candidates; None without any."""
    listed = list(candidates)
    if not listed:
        return None
    probability, right = np.array(listed, np.float64).T
    number = np.minimum((probability * BINS).astype(int), BINS - 1)
    bins = []
    for low in np.unique(number).tolist():
        inside = number == low
        bins.append(
            Bin(
                low=low / BINS,
                high=(low + 1) / BINS,
                candidates=int(inside.sum()),
                mean_probability=float(probability[inside].mean()),
                share_right=float(right[inside].mean()),
            )
        )
    return Reliability(
        candidates=len(listed),
        right=int(right.sum()),
        expected_calibration_error=_expected_calibration_error(bins),
        brier_score=float(np.square(probability - right).mean()),
        bins=bins,
    )


def plot_reliability(reliabilities: Mapping[str, Reliability | None], file: Path) -> None:
    """Draws a reliability diagram of each with its counts, side by side, as a PNG file."""
    figure = Figure(figsize=(4.2 * len(reliabilities), 5.4), layout="constrained")
    rows = figure.subplots(2, len(reliabilities), squeeze=False, sharex=True, height_ratios=(3, 1))
    for (diagram, counts), (title, each) in zip(rows.T, reliabilities.items(), strict=True):
        diagram.set_title(_heading(title, each), fontsize=9)
        diagram.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="dashed")
        if each is not None:
            _draw_diagram(diagram, each["bins"])
            _draw_counts(counts, each["bins"])
        diagram.set(xlim=(0, 1), ylim=(0, 1.02))
        counts.set_xlabel("probability")
    rows[0][0].set_ylabel("share that is right")
    rows[1][0].set_ylabel("candidates")
    figure.savefig(file, dpi=120)


def _expected_calibration_error(bins: Sequence[Bin]) -> float:
    gaps = [abs(each["mean_probability"] - each["share_right"]) for each in bins]
    return float(np.average(gaps, weights=[each["candidates"] for each in bins]))


def _heading(title: str, reliability: Reliability | None) -> str:
    words = title.replace("_", " ")
    if reliability is None:
        return f"{words}\nno candidates"
    error, brier = reliability["expected_calibration_error"], reliability["brier_score"]
    return f"{words}\ncalibration error {error:.4f}, Brier score {brier:.4f}"


def _draw_diagram(axes: Axes, bins: Sequence[Bin]) -> None:
    axes.bar(
        [each["low"] for each in bins],
        [each["share_right"] for each in bins],
        width=1 / BINS,
        align="edge",
        edgecolor="white",
    )
    axes.plot(
        [each["mean_probability"] for each in bins],
        [each["share_right"] for each in bins],
        "o",
        color="black",
        markersize=4,
    )


def _draw_counts(axes: Axes, bins: Sequence[Bin]) -> None:
    lows, counts = [each["low"] for each in bins], [each["candidates"] for each in bins]
    bars = axes.bar(lows, counts, width=1 / BINS, align="edge", color="grey", edgecolor="white")
    axes.bar_label(bars, fontsize=6)
    axes.set_yscale("log")
    axes.set_ylim(0.5, 5 * max(counts))
