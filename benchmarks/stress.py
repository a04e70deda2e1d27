"""The stress benchmark: how much of one hard condition recognition withstands, all else being mild.

Photos are rendered, so that every condition is exact and the truth is known. A picture is seen
against the same surface, from the same side and so on in all its photos; only one thing changes.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from benchmarks.baselines import PIPELINE, shuffled
from benchmarks.errors import BenchmarkError
from benchmarks.exact_views import ExactConditions, as_jpeg, render_exactly
from benchmarks.exhaustive import LOCAL_METHODS, ExhaustiveGallery
from benchmarks.galleries import LocalGallery
from benchmarks.intervals import CONFIDENCE, Interval
from benchmarks.json_file import write_json
from benchmarks.metrics import Quad, corner_error
from benchmarks.plots import Panel, RateCurve, plot_panels
from benchmarks.queries import SEED, apart_from
from benchmarks.tables import print_gallery
from indexing.bundle import load_bundle
from indexing.image import Pixels, decode
from indexing.recognition import WORKING_SIDE
from training.datasets import find_pictures, read_picture

PICTURE_SIDE = 1600

console = Console(highlight=False)

BASE = ExactConditions()
# What each condition is called, the scale it is shown at, and its values.
FACTORS: Mapping[str, tuple[str, float, tuple[float, ...]]] = {
    "share": ("share of the frame, %", 100, (0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)),
    "tilt": ("tilt, degrees", 1, (0, 15, 30, 40, 50, 60, 70)),
    "turned": ("turned in the plane, degrees", 1, (0, 15, 30, 60, 90, 135, 180)),
    "motion": ("motion blur, % of the long side", 1, (0, 0.5, 1, 1.5, 2, 3, 4)),
    "focus": ("focus blur σ, % of the long side", 1, (0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)),
    "noise": ("noise σ, levels", 1, (0, 3, 15, 30, 45, 60, 80)),
    "jpeg_quality": ("JPEG quality", 1, (10, 20, 30, 50, 70, 85, 90)),
    "long_side": ("long side of the photo, pixels", 1, (240, 320, 480, 640, 960, 1600)),
    "covered": ("covered, %", 100, (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    "glare": ("glare, levels at its centre", 1, (0, 100, 200, 400, 800, 1600)),
}
LOGARITHMIC = frozenset({"share", "long_side"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: views of ``count`` of the pictures, drawn at random.

    They and others of the pictures and distractors make a gallery of ``gallery_size``.
    """

    pictures: Sequence[Path]
    distractors: Sequence[Path]
    bundle: Path
    output: Path
    plot: Path | None = None
    count: int = 40
    gallery_size: int = 200


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A picture of the gallery, RGB uint8 [h, w, 3], and the seed of all that its photos share."""

    path: Path
    pixels: Pixels
    seed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One photo: whether each method found what it shows, by the method's name.

    ``corner_error`` is that of the pipeline's quad, None where it did not find it.
    """

    found: Mapping[str, bool]
    corner_error: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    """A photo as it is scanned, what it shows and where, and which methods ``found`` that.

    ``quad`` is in pixels of the photo as it was taken, of ``size`` (width, height).
    """

    shows: Path
    pixels: Pixels
    size: tuple[int, int]
    quad: Quad
    found: Mapping[str, bool]


class MethodPoint(TypedDict):
    """How many photos a method recognised rightly, with the 95 % interval of Wilson (1927)."""

    found: int
    rate: float
    interval: Interval


class Point(TypedDict):
    """What one value of a condition gives.

    ``corner_error_percent`` is the median distance of the pipeline's corners from the true ones, over
    the photos it recognised, in % of the geometric mean of the true sides; None without any.
    """

    value: float
    photos: int
    methods: dict[str, MethodPoint]
    corner_error_percent: float | None


class Report(TypedDict):
    """What the benchmark writes: ``factors`` maps each condition to its points, ``base`` is mild."""

    bundle: str
    gallery_size: int
    seed: int
    base: dict[str, Any]
    factors: dict[str, list[Point]]


def run(plan: Plan) -> None:
    """Renders and scans every photo, prints a table and writes report and plot.

    Raises BenchmarkError, DatasetError or BundleInvalid.
    """
    chosen, others = _chosen(plan)
    bundle = load_bundle(plan.bundle)
    gallery = LocalGallery(bundle, [*chosen, *others])
    print_gallery(console, gallery)
    subjects = [
        Subject(path, read_picture(path, PICTURE_SIDE), (SEED, number))
        for number, path in enumerate(chosen)
        if path in gallery
    ]
    if not subjects:
        raise BenchmarkError("None of the pictures can be registered.")
    registered = [path for path in (*chosen, *others) if path in gallery]
    exhaustive = [ExhaustiveGallery(method, registered) for method in LOCAL_METHODS]
    trials = _all_trials(subjects, gallery, exhaustive)
    report = Report(
        bundle=bundle.version,
        gallery_size=len(gallery),
        seed=SEED,
        base=asdict(BASE),
        factors={name: _points(name, trials) for name in FACTORS},
    )
    write_json(plan.output, report)
    console.print(_table(report))
    if plan.plot is not None:
        title = f"{len(subjects)} pictures in a gallery of {len(gallery)}: one condition at a time"
        plot_panels(title, [_panel(name, report) for name in FACTORS], plan.plot)


def _chosen(plan: Plan) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The pictures to render, and those that fill the gallery, each file once."""
    if plan.count > plan.gallery_size:
        raise BenchmarkError("The gallery is to hold every picture that is rendered: enlarge it.")
    rng = np.random.default_rng(SEED)
    pictures = shuffled(find_pictures(plan.pictures), rng)
    if not pictures:
        raise BenchmarkError("There is no JPEG, PNG or WebP file in the folders of pictures.")
    chosen, rest = pictures[: plan.count], pictures[plan.count :]
    apart = apart_from([*rest, *find_pictures(plan.distractors)], chosen)
    return chosen, shuffled(apart, rng)[: plan.gallery_size - len(chosen)]


# The trials


def changed(name: str, value: float) -> ExactConditions:
    """The mild conditions with one of them at another value."""
    values: dict[str, Any] = {name: value}
    return replace(BASE, **values)


def _all_trials(
    subjects: Sequence[Subject], gallery: LocalGallery, exhaustive: Sequence[ExhaustiveGallery]
) -> dict[ExactConditions, list[Trial]]:
    conditions = dict.fromkeys(
        changed(name, value) for name, factor in FACTORS.items() for value in factor[2]
    )
    trials = {}
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        for each in track(list(conditions), "Conditions", console=console):
            shoot = partial(_shoot, each, exhaustive)
            shots = executor.map(shoot, subjects)
            trials[each] = [_scanned(gallery, shot) for shot in shots]
    return trials


def _shoot(
    conditions: ExactConditions, exhaustive: Sequence[ExhaustiveGallery], subject: Subject
) -> _Shot:
    view = render_exactly(subject.pixels, conditions, np.random.default_rng(subject.seed))
    # As a file, as it would come from a phone.
    pixels, size = decode(as_jpeg(view.photo, conditions.jpeg_quality), WORKING_SIDE)
    found = {each.method.name: each.recognise(pixels) == subject.path for each in exhaustive}
    return _Shot(subject.path, pixels, size, view.quad, found)


def _scanned(gallery: LocalGallery, shot: _Shot) -> Trial:
    """Also asks the pipeline, which takes one photo at a time."""
    quads = {each.reference: each.quad for each in gallery.recognise(shot.pixels).found}
    quad = quads.get(shot.shows)
    error = None if quad is None else corner_error(quad * np.array(shot.size) - 0.5, shot.quad)
    return Trial({PIPELINE: quad is not None, **shot.found}, error)


# The report


def _points(name: str, trials: Mapping[ExactConditions, Sequence[Trial]]) -> list[Point]:
    return [_point(value, trials[changed(name, value)]) for value in FACTORS[name][2]]


def _point(value: float, trials: Sequence[Trial]) -> Point:
    errors = [trial.corner_error for trial in trials if trial.corner_error is not None]
    return Point(
        value=value,
        photos=len(trials),
        methods={
            name: method_point(sum(trial.found[name] for trial in trials), len(trials))
            for name in trials[0].found
        },
        corner_error_percent=100 * median(errors) if errors else None,
    )


def method_point(found: int, photos: int) -> MethodPoint:
    """The rate of ``found`` of some photos, at least one, with its interval."""
    bounds = binomtest(found, photos).proportion_ci(CONFIDENCE, method="wilson")
    interval = (float(bounds.low), float(bounds.high))
    return MethodPoint(found=found, rate=found / photos, interval=interval)


def _panel(name: str, report: Report) -> Panel:
    label, scale, values = FACTORS[name]
    points = report["factors"][name]
    curves = [
        RateCurve(
            method,
            [point["methods"][method]["rate"] for point in points],
            [point["methods"][method]["interval"] for point in points],
        )
        for method in points[0]["methods"]
    ]
    shown, usual = [scale * value for value in values], scale * report["base"][name]
    return Panel(label, shown, usual, curves, logarithmic=name in LOGARITHMIC)


def _table(report: Report) -> Table:
    title = f"Found and right in a gallery of {report['gallery_size']}, % (95 % interval)"
    table = Table(title=title, caption="* as mild as in all other rows")
    methods = next(iter(report["factors"].values()))[0]["methods"]
    for heading in ("", "value", *methods, "corner error, %"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, points in report["factors"].items():
        label, scale, _ = FACTORS[name]
        for point in points:
            star = " *" if point["value"] == report["base"][name] else ""
            error = point["corner_error_percent"]
            table.add_row(
                label,
                f"{scale * point['value']:g}{star}",
                *(_shown(each) for each in point["methods"].values()),
                "-" if error is None else f"{error:.2f}",
            )
        table.add_section()
    return table


def _shown(point: MethodPoint) -> str:
    low, high = point["interval"]
    return f"{100 * point['rate']:.0f} ({100 * low:.0f}–{100 * high:.0f})"
