"""Plots of methods beside each other: how deep one has to look, and what they withstand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from matplotlib.transforms import ScaledTranslation

from benchmarks.intervals import Interval

PANELS_PER_ROW = 5
DOTS_PER_INCH = 130
# Told apart without colours too.
STYLES = ("solid", "dashed", "dashdot", "dotted")
MARKERS = ("o", "s", "^")


@dataclass(frozen=True, slots=True)
class RankCurve:
    """The ranks at which a method lists what was asked for in a gallery of ``gallery_size``.

    A rank is from 1 on, or None for what is not listed.
    """

    name: str
    ranks: Sequence[int | None]
    gallery_size: int


@dataclass(frozen=True, slots=True)
class RateCurve:
    """The rates of a method at the values of a panel, each with its interval."""

    name: str
    rates: Sequence[float]
    intervals: Sequence[Interval]


@dataclass(frozen=True, slots=True)
class Panel:
    """The curves over the values of one thing; ``usual`` is its value in all other panels.

    ``logarithmic`` is for values that go up by factors.
    """

    label: str
    values: Sequence[float]
    usual: float
    curves: Sequence[RateCurve]
    logarithmic: bool = False


def plot_ranks(datasets: Mapping[str, Sequence[RankCurve]], file: Path) -> None:
    """Draws the share listed among the K nearest over K, a panel for each dataset, into a PNG."""
    figure = Figure(figsize=(6.2 * len(datasets), 6.6), layout="constrained")
    panels = figure.subplots(1, len(datasets), squeeze=False, sharey=True)[0]
    for axes, (name, curves) in zip(panels, datasets.items(), strict=True):
        _draw_ranks(axes, curves)
        axes.set(title=name, xlabel="K")
    panels[0].set_ylabel("% of what photos show that is among the K nearest")
    _add_legend(figure, panels[0], columns=3)
    _save(figure, file)


def plot_panels(title: str, panels: Sequence[Panel], file: Path) -> None:
    """Draws the rates of methods over the values of each panel into a PNG, five panels in a row."""
    rows = math.ceil(len(panels) / PANELS_PER_ROW)
    figure = Figure(figsize=(3.6 * PANELS_PER_ROW, 3.4 * rows + 0.6), layout="constrained")
    figure.suptitle(title)
    places = figure.subplots(rows, PANELS_PER_ROW, squeeze=False, sharey=True).ravel()
    for axes, panel in zip(places, panels, strict=False):
        _draw_rates(axes, panel)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes in places[::PANELS_PER_ROW]:
        axes.set_ylabel("found and right, %")
    _add_legend(figure, places[0], columns=len(panels[0].curves) + 1)
    _save(figure, file)


def plot_shares(
    shares: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float]]], file: Path
) -> None:
    """Draws rates over shares, a curve for each way in each panel, into a PNG, two panels in a row."""
    rows = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(11, 3.6 * rows + 0.8), layout="constrained")
    places = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
    for axes, (title, curves) in zip(places, panels.items(), strict=False):
        styles = zip(curves.items(), cycle(STYLES), cycle(MARKERS), strict=False)
        for (name, rates), style, marker in styles:
            percent = 100 * np.array(rates)
            axes.plot(
                100 * np.array(shares),
                percent,
                label=name,
                linestyle=style,
                marker=marker,
                markersize=4,
            )
        axes.set(title=title, ylim=(-3, 103), xlabel="backfilled, %", ylabel="found, %")
        axes.grid(color="0.93")
    _add_legend(figure, places[0], columns=3)
    _save(figure, file)


def _draw_ranks(axes: Axes, curves: Sequence[RankCurve]) -> None:
    # Where curves coincide, the first shows on both sides of the later ones. The last curve is what
    # the others are compared with: it lies broad and pale under them all.
    widths = np.linspace(3.2, 1.2, len(curves))
    styles = zip(curves[:-1], cycle(STYLES), widths, strict=False)
    for number, (curve, style, width) in enumerate(styles):
        _draw_steps(axes, curve, color=f"C{number}", linestyle=style, linewidth=width)
    _draw_steps(axes, curves[-1], color="0.72", linewidth=7, zorder=1)
    axes.set(xscale="log", xlim=(0.95, max(curve.gallery_size for curve in curves)))
    axes.set(ylim=(0, 103), yticks=range(0, 101, 10))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(color="0.9")


def _draw_steps(axes: Axes, curve: RankCurve, **style: Any) -> None:
    listed = sorted(rank for rank in curve.ranks if rank is not None)
    places = np.unique([1, *listed, curve.gallery_size])
    percent = 100 * np.searchsorted(listed, places, side="right") / len(curve.ranks)
    axes.step(places, percent, where="post", label=curve.name, **style)


def _draw_rates(axes: Axes, panel: Panel) -> None:
    axes.set(xlabel=panel.label, ylim=(-3, 104), yticks=range(0, 101, 20))
    _set_values(axes, panel)
    axes.axvline(panel.usual, color="0.87", linewidth=5, label="value in the other panels")
    for number, curve in enumerate(panel.curves):
        percent = 100 * np.array(curve.rates)
        reach = np.abs(100 * np.array(curve.intervals).T - percent)
        # A little aside of each other, so that the bars of equal rates stay apart.
        aside = ScaledTranslation((number - 1) / 24, 0, axes.figure.dpi_scale_trans)
        style: dict[str, Any] = {
            "linestyle": STYLES[number % len(STYLES)],
            "marker": MARKERS[number % len(MARKERS)],
            "transform": axes.transData + aside,
        }
        axes.errorbar(
            panel.values,
            percent,
            reach,
            label=curve.name,
            markersize=4,
            elinewidth=0.7,
            capsize=2,
            **style,
        )
    axes.grid(color="0.93")


def _set_values(axes: Axes, panel: Panel) -> None:
    low, high = min(panel.values), max(panel.values)
    if panel.logarithmic:
        room = (high / low) ** 0.06
        axes.set(xscale="log", xticks=panel.values, xlim=(low / room, high * room))
        axes.set_xticks([], minor=True)
    else:
        room = 0.06 * (high - low)
        axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _add_legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DOTS_PER_INCH)
