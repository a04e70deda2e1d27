"""The recognition benchmark: datasets of photos with answers, scanned in one gallery of them all."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks import tables
from benchmarks.covering import CoveredPhoto, covered_photos
from benchmarks.errors import BenchmarkError
from benchmarks.failures import find_failures, stranger_failures, write_page
from benchmarks.filling import DEFAULT_CACHE, filled
from benchmarks.galleries import Gallery, LocalGallery, remote_gallery
from benchmarks.json_file import write_json
from benchmarks.metrics import Answer, Covered, Outcome
from benchmarks.queries import apart_from, read_queries
from benchmarks.reliability import plot_reliability
from benchmarks.rendered import Viewed, fair_strangers, held_out, scan_strangers, scan_views
from benchmarks.report import Results, reported
from indexing.bundle import load_bundle
from training.datasets import AnsweredQueries, find_pictures, own_references

HELD_OUT_SHARE = 0.1
RELIABILITY_PLOT = "reliability.png"

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Server:
    """A live server, and the key of its operator."""

    target: str
    operator_key: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    ``scanner`` is the folder of a bundle, or a live server. ``rendered`` photos are scanned of
    pictures that are not in the gallery: those of ``strangers``, or without any a tenth of the
    distractors, which are then kept out of it. Of each reference of the datasets ``views`` views
    are scanned. ``gallery_size`` references are in the gallery: those of the datasets, distractors
    and pictures made out of these, whose features are kept in ``cache``; None for all of the former.
    ``failures`` and ``plots`` are folders for pages and plots.
    """

    datasets: Sequence[Path]
    distractors: Sequence[Path]
    scanner: Path | Server
    output: Path
    views: int
    rendered: int = 0
    strangers: Sequence[Path] = ()
    gallery_size: int | None = None
    cache: Path = DEFAULT_CACHE
    failures: Path | None = None
    plots: Path | None = None


def run(plan: Plan) -> None:
    """Scans every photo, writes the report and prints it.

    Raises BenchmarkError, DatasetError, or the errors of the scanner.
    """
    queries = read_queries(plan.datasets)
    own = own_references(queries)
    distractors, strangers = _distractors_and_strangers(plan, own)
    with _opened(plan, own, distractors) as gallery:
        tables.print_gallery(console, gallery)
        results = _scan(gallery, queries, strangers, plan)
        failed = [*find_failures(results.photos), *stranger_failures(results.stranger_views)]
        report = reported(results)
        write_json(plan.output, report)
        tables.print_report(console, report)
        tables.print_failures(console, failed)
        if plan.failures is not None:
            write_page(failed, gallery, plan.failures)
    if plan.plots is not None:
        plan.plots.mkdir(parents=True, exist_ok=True)
        plot_reliability(report["calibration"], plan.plots / RELIABILITY_PLOT)


def scan_all(gallery: Gallery, name: str, queries: AnsweredQueries) -> list[Outcome]:
    """Scans each photo, once more without what it shows, and once with a part of that hidden."""
    pairs = queries.pairs
    if pairs:
        gallery.scan(pairs[0].query)  # The first scan pays for what is loaded at first use.
    answers = [gallery.scan(pair.query) for pair in track(pairs, f"Scanning {name}")]
    outcomes = []
    for pair, answer in zip(track(pairs, f"Left out of {name}"), answers, strict=True):
        expected = tuple(dict.fromkeys(pair.references))
        left_out = _scan_without(gallery, pair.query, expected) if expected else None
        group = _group(pair.query, queries.root / "queries")
        outcomes.append(Outcome(pair.query, expected, answer, left_out, group=group))
    return _with_covered(gallery, name, outcomes)


def _opened(
    plan: Plan, own: Sequence[Path], distractors: Sequence[Path]
) -> AbstractContextManager[Gallery]:
    if isinstance(plan.scanner, Server):
        if plan.gallery_size is not None:
            raise BenchmarkError("--gallery-size is for a gallery in this process, not a server's.")
        target, key = plan.scanner.target, plan.scanner.operator_key
        return remote_gallery(target, key, [*own, *distractors])
    bundle = load_bundle(plan.scanner)
    if plan.gallery_size is None:
        return nullcontext(LocalGallery(bundle, [*own, *distractors]))
    if plan.gallery_size < len(own):
        raise BenchmarkError(f"The datasets alone have {len(own)} references.")
    filling = filled(plan.scanner, distractors, plan.gallery_size - len(own), plan.cache)
    return nullcontext(LocalGallery(bundle, own, filling))


def _scan(
    gallery: Gallery, queries: Mapping[str, AnsweredQueries], strangers: Sequence[Path], plan: Plan
) -> Results:
    fair = fair_strangers(gallery, strangers)
    if plan.rendered and not fair.fair:
        raise BenchmarkError("Every stranger is in the gallery or shares a part with it.")
    return Results(
        len(gallery),
        {name: scan_all(gallery, name, each) for name, each in queries.items()},
        {name: _scan_views(gallery, name, each, plan.views) for name, each in queries.items()},
        fair,
        scan_strangers(gallery, fair.fair, plan.rendered),
    )


def _scan_views(gallery: Gallery, name: str, queries: AnsweredQueries, each: int) -> list[Viewed]:
    registered = [path for path in queries.references if path in gallery]
    return scan_views(gallery, name, registered, each)


def _scan_without(gallery: Gallery, photo: Path, references: Sequence[Path]) -> Answer:
    with gallery.without(references):
        return gallery.scan(photo)


def _with_covered(gallery: Gallery, name: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
    photos = covered_photos(outcomes)
    drawn = [photo for photo in photos if photo]
    # All of them at once: the progress bar ends with the last.
    answers = iter(list(gallery.across(_scan_covered, drawn, f"Covered, of {name}")))
    return [
        replace(outcome, covered=Covered(photo, next(answers))) if photo else outcome
        for outcome, photo in zip(outcomes, photos, strict=True)
    ]


def _scan_covered(gallery: Gallery, photo: CoveredPhoto) -> Answer:
    return gallery.recognise(photo())


def _group(photo: Path, queries: Path) -> str:
    if not photo.is_relative_to(queries):
        return ""
    return "/".join(photo.relative_to(queries).parts[:-1])


def _distractors_and_strangers(plan: Plan, own: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The distractors without the datasets' own references, and the strangers apart from both."""
    distractors = apart_from(find_pictures(plan.distractors), own)
    if not plan.rendered:
        return distractors, []
    if not plan.strangers and not distractors:
        raise BenchmarkError("--rendered needs pictures from --strangers or --distractors.")
    given = find_pictures(plan.strangers)
    strangers = list(given) if plan.strangers else held_out(distractors, HELD_OUT_SHARE)
    return apart_from(distractors, strangers), strangers
