"""The recognition benchmark: datasets of photos with answers, scanned in one gallery of them all."""

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.errors import BenchmarkError
from benchmarks.galleries import Gallery, LocalGallery, remote_gallery
from benchmarks.metrics import SHORTLIST_SIZES, Answer, Metrics, Outcome, measured
from benchmarks.pictures import GREEN, GREY, RED, annotated, contact_sheet, titled
from indexing.bundle import load_bundle
from indexing.recognition import WORKING_SIDE
from training.datasets import Pair, find_pictures, read_dataset, read_picture

LISTED_FAILURES = 20
CELL = 420

console = Console(highlight=False)


class Report(TypedDict):
    """What the benchmark writes."""

    gallery_size: int
    datasets: dict[str, Metrics]


@dataclass(frozen=True, slots=True)
class Queries:
    """A dataset's references, and its photos with what they show."""

    references: tuple[Path, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that was not what it should be; ``expected`` is what the photo shows."""

    problem: str
    photo: Path
    expected: tuple[Path, ...]
    answer: Answer


@dataclass(frozen=True, slots=True)
class Server:
    """A live server, and the key of its operator."""

    target: str
    operator_key: str


def run(
    datasets: Sequence[Path],
    distractors: Sequence[Path],
    scanner: Path | Server,
    output: Path,
    failures: Path | None,
) -> None:
    """Scans every photo of the datasets and writes the report to ``output``.

    ``scanner`` is the folder of a bundle, or a live server. ``failures`` is a folder for pictures
    of what went wrong. Raises BenchmarkError, DatasetError, or the errors of the scanner.
    """
    queries = read_queries(datasets)
    references = _references(queries, distractors)
    opened = (
        remote_gallery(scanner.target, scanner.operator_key, references)
        if isinstance(scanner, Server)
        else nullcontext(LocalGallery(load_bundle(scanner), references))
    )
    with opened as gallery:
        _print_gallery(gallery)
        outcomes = {name: scan_all(gallery, name, each.pairs) for name, each in queries.items()}
        size = len(gallery)
    report = Report(
        gallery_size=size, datasets={name: measured(each) for name, each in outcomes.items()}
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    _print_report(report)
    failed = [failure for each in outcomes.values() for failure in find_failures(each)]
    _print_failures(failed)
    if failures is not None:
        _draw_failures(failed, failures)


def read_queries(folders: Sequence[Path]) -> dict[str, Queries]:
    """The datasets by the names of their folders. Raises BenchmarkError or DatasetError."""
    queries: dict[str, Queries] = {}
    for folder in folders:
        name = Path(os.path.abspath(folder)).name
        if not folder.is_dir():
            raise BenchmarkError(f"There is no dataset folder '{folder}'.")
        if name in queries:
            raise BenchmarkError(f"Two datasets have the name '{name}': rename one's folder.")
        with console.status(f"Reading {name} …"):
            dataset = read_dataset(folder)
        queries[name] = Queries(dataset.references, dataset.pairs)
    return queries


def scan_all(gallery: Gallery, name: str, pairs: Sequence[Pair]) -> list[Outcome]:
    """Scans each photo, and once more without what it shows."""
    if pairs:
        gallery.scan(pairs[0].query)  # The first scan pays for what is loaded at first use.
    answers = [gallery.scan(pair.query) for pair in track(pairs, f"Scanning {name}")]
    outcomes = []
    for pair, answer in zip(track(pairs, f"Left out of {name}"), answers, strict=True):
        expected = tuple(dict.fromkeys(pair.references))
        left_out = _scan_without(gallery, pair.query, expected) if expected else None
        outcomes.append(Outcome(pair.query, expected, answer, left_out))
    return outcomes


def find_failures(outcomes: Sequence[Outcome]) -> list[Failure]:
    """The answers that were not what they should be, those with the whole gallery first."""
    failures = []
    for outcome in outcomes:
        problem = _problem(outcome)
        if problem:
            failures.append(Failure(problem, outcome.photo, outcome.expected, outcome.answer))
    failures += [
        Failure("left out, yet answered", outcome.photo, outcome.expected, outcome.left_out)
        for outcome in outcomes
        if outcome.left_out and outcome.left_out.found
    ]
    return failures


def _problem(outcome: Outcome) -> str:
    if outcome.wrong:
        return "wrong answer" if outcome.expected else "not registered, yet answered"
    return "missed" if outcome.missed else ""


def _scan_without(gallery: Gallery, photo: Path, references: Sequence[Path]) -> Answer:
    with gallery.without(references):
        return gallery.scan(photo)


def _references(queries: dict[str, Queries], distractors: Sequence[Path]) -> list[Path]:
    """Every reference, with those that only ``pairs.csv`` names, and every distractor once."""
    own = [
        path
        for each in queries.values()
        for path in (*each.references, *(name for pair in each.pairs for name in pair.references))
    ]
    files = {path.resolve() for path in own}
    others = {path.resolve(): path for path in find_pictures(distractors)}
    added = [path for file, path in others.items() if file not in files]
    return list(dict.fromkeys(own + added))


def _print_gallery(gallery: Gallery) -> None:
    console.print(f"The gallery has {len(gallery)} references.")
    if gallery.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in gallery.skipped.items())
        console.print(f"Skipped: {reasons}.")


def _print_report(report: Report) -> None:
    table = Table(title=f"Recognition in a gallery of {report['gallery_size']}")
    table.add_column("")
    for name in report["datasets"]:
        table.add_column(name, justify="right")
    columns = [_column(metrics) for metrics in report["datasets"].values()]
    for row in columns[0] if columns else ():
        table.add_row(row, *(column[row] for column in columns))
    console.print(table)


def _column(metrics: Metrics) -> dict[str, str]:
    recall = metrics["shortlist_recall"] or {}
    shown = {"queries": str(metrics["queries"])}
    for size in SHORTLIST_SIZES:
        shown[f"shortlist recall @{size}"] = _percent(recall.get(str(size)))
    return shown | {
        "recall @1 (accepted and right)": _percent(metrics["recall_at_1"]),
        "false accepts": _percent(metrics["false_accept_rate"]),
        "false accepts, reference left out": _percent(metrics["left_out_false_accept_rate"]),
        "wrong accepts": _percent(metrics["wrong_accept_rate"]),
        "milliseconds per query": _shown(metrics["milliseconds_per_query"], ".0f"),
    }


def _percent(share: float | None) -> str:
    return _shown(share, ".1%")


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _print_failures(failures: Sequence[Failure]) -> None:
    if not failures:
        return
    listed = f"the first {LISTED_FAILURES} of {len(failures)}"
    table = Table(title=f"Failures, {listed if len(failures) > LISTED_FAILURES else len(failures)}")
    for heading in ("problem", "photo", "expected", "got"):
        table.add_column(heading, overflow="fold")
    for failure in failures[:LISTED_FAILURES]:
        photo = f"{failure.photo.parent.name}/{failure.photo.name}"
        got = [f"{each.reference.name} ({each.probability:.2f})" for each in failure.answer.found]
        expected = [path.name for path in failure.expected]
        table.add_row(failure.problem, photo, "\n".join(expected), "\n".join(got))
    console.print(table)


def _draw_failures(failures: Sequence[Failure], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, failure in enumerate(track(failures, "Drawing the failures"), start=1):
        marks = [(found.quad, found.reference.stem) for found in failure.answer.found]
        photo = annotated(read_picture(failure.photo, WORKING_SIDE), marks, RED)
        cells = [titled(photo, failure.problem, RED, CELL)]
        cells += [_reference_cell(path, "expected") for path in failure.expected]
        cells += [_reference_cell(path, "got") for path in failure.answer.references]
        name = f"{number:03}-{failure.photo.stem}.jpg"
        contact_sheet(cells, len(cells)).save(folder / name, quality=88)


def _reference_cell(path: Path, word: str) -> Image.Image:
    colour = GREEN if word == "expected" else GREY
    picture = annotated(read_picture(path, WORKING_SIDE), [], colour)
    return titled(picture, f"{word}: {path.stem}", colour, CELL)
