"""What is in a dataset: how many of what, how large, and where the things are in the photos."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from training.datasets import AnsweredQueries, image_size
from training.voc import read_voc

PERCENTS = (0, 5, 50, 95, 100)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The widths and heights of some pictures in pixels, [n, 2]."""

    of: str
    pixels: np.typing.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Description:
    """A dataset in numbers.

    ``references_per_query`` and ``queries_per_reference`` count how many have so many; ``domains`` are
    the folders of the queries and the references with their counts. ``planar`` are the boxes of VOC
    files beside the queries, as shares of the photos' areas.
    """

    name: str
    queries: Sizes
    references: Sizes
    references_per_query: dict[int, int]
    queries_per_reference: dict[int, int]
    domains: dict[str, int]
    planar: tuple[float, ...]


def describe(dataset: AnsweredQueries) -> Description:
    """Counts and measures a dataset. Raises DatasetError for a broken VOC file."""
    shown = Counter(path for pair in dataset.pairs for path in pair.references)
    domains = Counter(
        str(path.parent.relative_to(dataset.root))
        for path in (*(pair.query for pair in dataset.pairs), *dataset.references)
    )
    return Description(
        name=dataset.root.name,
        queries=_sizes("queries", [pair.query for pair in dataset.pairs]),
        references=_sizes("references", dataset.references),
        references_per_query=_counted(len(pair.references) for pair in dataset.pairs),
        queries_per_reference=_counted(shown[path] for path in dataset.references),
        domains=dict(sorted(domains.items())),
        planar=_planar(dataset),
    )


def tables(description: Description) -> list[Table]:
    """The description to print."""
    sizes = Table(title=f"{description.name}: sizes in pixels")
    for column in ("", "count", "side", *(f"{percent} %" for percent in PERCENTS)):
        sizes.add_column(column, justify="left" if column in ("", "side") else "right")
    for each in (description.queries, description.references):
        for side, values in zip(("width", "height"), each.pixels.T, strict=True):
            shown = [f"{value:.0f}" for value in np.percentile(values, PERCENTS)]
            sizes.add_row(each.of, str(len(values)), side, *shown)
    counts = Table(title=f"{description.name}: what there is")
    for column in ("", "of each", "how many"):
        counts.add_column(column, justify="left" if column == "" else "right")
    for what, counted in (
        ("references shown in a photo", description.references_per_query),
        ("photos of a reference", description.queries_per_reference),
    ):
        for number, times in counted.items():
            counts.add_row(what, str(number), str(times))
    for folder, times in description.domains.items():
        counts.add_row(folder, "", str(times))
    if description.planar:
        middle = float(np.median(description.planar))
        counts.add_row(
            "boxes in VOC files, share of the photo", f"{middle:.2f}", str(len(description.planar))
        )
    return [sizes, counts]


def plot(descriptions: Sequence[Description], file: Path) -> None:
    """Draws sizes, and shares of boxes where there are some."""
    figure = Figure(figsize=(5 * len(descriptions), 8), layout="constrained")
    columns = figure.subplots(2, len(descriptions), squeeze=False).T
    for (above, below), each in zip(columns, descriptions, strict=True):
        for sizes in (each.references, each.queries):
            above.scatter(*sizes.pixels.T, s=10, alpha=0.5, label=sizes.of)
        above.set(title=each.name, xlabel="width", ylabel="height", xlim=(0, None), ylim=(0, None))
        above.legend()
        if each.planar:
            below.hist(each.planar, bins=20, range=(0, 1))
            below.set(xlabel="share of the photo that a box takes", ylabel="boxes")
        else:
            photos = each.queries_per_reference
            below.bar([str(number) for number in photos], list(photos.values()))
            below.set(xlabel="photos of a reference", ylabel="references")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def _sizes(of: str, paths: Sequence[Path]) -> Sizes:
    return Sizes(of, np.array([image_size(path) for path in paths], np.int64).reshape(-1, 2))


def _counted(numbers: Iterable[int]) -> dict[int, int]:
    return dict(sorted(Counter(numbers).items()))


def _planar(dataset: AnsweredQueries) -> tuple[float, ...]:
    files = [pair.query.with_suffix(".xml") for pair in dataset.pairs]
    found = [read_voc(file) for file in files if file.is_file()]
    return tuple(box.area / (each.width * each.height) for each in found for box in each.boxes)
