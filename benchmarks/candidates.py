"""The benchmark of candidates: how well each source lists what a photo shows, as galleries grow.

Nothing is decided here, only listed: the recall of shortlists by embeddings, by the votes of each
channel and by their unions, and what each costs in time and memory.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

import faiss
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.candidate_sources import (
    EMBEDDING,
    UNION,
    AskedPhoto,
    CandidateGallery,
    Shortlist,
    VoteSource,
    ask,
    interleaved,
    vote_sources,
)
from benchmarks.errors import BenchmarkError
from benchmarks.filling import filled, find_sources
from benchmarks.galleries import side_by_side
from benchmarks.json_file import write_json
from benchmarks.metrics import SHORTLIST_SIZES
from benchmarks.queries import read_queries, sampled
from benchmarks.threads import use_one_thread
from indexing.bundle import Bundle, load_bundle
from indexing.errors import ImageTooPlain
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.keypoints import Channel
from indexing.recognition import WORKING_SIDE
from indexing.segment import IndexedReference
from indexing.views import ViewConditions, clutter, render_view
from training.datasets import AnsweredQueries, own_references, read_picture

SEED = 1
VIEWS = "rendered views"
VIEW_SIZE = (640, 480)
# The length of the shortlist at which costs are compared.
COMPARED = "20"
BATCH = 250

Asking = tuple[str, Path, list[str]]

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Of the datasets' photos with an answer at most ``queries`` are asked, all of them if None, and
    ``views`` rendered views of their references. The galleries, of ``sizes`` references, hold those
    and fillers made of the ``distractors``, whose features are kept in ``cache``.
    """

    datasets: Sequence[Path]
    distractors: Sequence[Path]
    bundle: Path
    output: Path
    sizes: Sequence[int]
    cache: Path
    queries: int | None
    views: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What a source listed for one photo of the set ``photos``."""

    photos: str
    expected: tuple[str, ...]
    shortlist: Shortlist


class SourceReport(TypedDict):
    """What one source gives in one gallery.

    ``recall`` has the share of the references shown that are among the first 1, 5, 20 and 50, over
    all photos, ``recall_by_photos`` the same of each set of them. Times are medians of one thread,
    ``milliseconds`` of all stages together; a kilobyte has 1000 bytes. The last two are of recall
    at 20.
    """

    recall: dict[str, float]
    recall_by_photos: dict[str, dict[str, float]]
    milliseconds: float
    extraction_milliseconds: float
    search_milliseconds: float
    reranking_milliseconds: float
    bytes_per_image: float
    recall_per_millisecond: float
    recall_per_kilobyte: float


class Report(TypedDict):
    """What the benchmark writes.

    ``photos`` counts each set of photos; ``settings`` says how each source by votes asks;
    ``galleries`` maps their sizes to the sources by their names.
    """

    bundle: str
    photos: dict[str, int]
    settings: dict[str, dict[str, Any]]
    galleries: dict[str, dict[str, SourceReport]]


def run(plan: Plan) -> None:
    """Measures every source in every gallery, prints a table for each and writes the report.

    The report is written after each gallery, so that a run that is stopped leaves what it has.
    Raises BenchmarkError, DatasetError or BundleInvalid.
    """
    use_one_thread()
    queries = read_queries(plan.datasets)
    own = own_references(queries)
    bundle = load_bundle(plan.bundle)
    references = _indexed(bundle, own)
    wanted = [size - len(references) for size in sorted(set(plan.sizes))]
    if wanted[0] < 0:
        raise BenchmarkError(f"The datasets alone make a gallery of {len(references)}: no smaller.")
    fillers = filled(plan.bundle, find_sources(plan.distractors, own), wanted[-1], plan.cache)
    sources = vote_sources(bundle)
    photos = _asked(bundle, sources, [*_photos(queries, plan.queries), *_views(own, plan.views)])
    report = Report(
        bundle=bundle.version,
        photos=dict(Counter(photo.photos for photo in photos)),
        settings={source.name: asdict(source) for source in sources},
        galleries={},
    )
    gallery = CandidateGallery(bundle)
    _grow(gallery, references, range(len(references)))
    for count in wanted:
        _grow(gallery, fillers, range(len(gallery) - len(references), count))
        measured = _measured(gallery, sources, photos)
        report["galleries"][str(len(gallery))] = measured
        console.print(*_tables(len(gallery), measured))
        write_json(plan.output, report)


# What is asked, and where


def _indexed(bundle: Bundle, paths: Sequence[Path]) -> list[IndexedReference]:
    extractor = FeatureExtractor(bundle)

    def index(path: Path) -> IndexedReference | None:
        try:
            features = extractor.reference(read_picture(path, WORKING_SIDE))
        except ImageTooPlain:
            return None
        return IndexedReference(str(path), "", {}, (features,))

    found = side_by_side(index, paths, "References", len(os.sched_getaffinity(0)))
    return [reference for reference in found if reference]


def _photos(queries: Mapping[str, AnsweredQueries], count: int | None) -> list[Asking]:
    """The photos with an answer, or a seeded sample of them in their order."""
    photos = [
        (name, pair.query, [str(path) for path in dict.fromkeys(pair.references)])
        for name, each in queries.items()
        for pair in each.pairs
        if pair.references
    ]
    return sampled(photos, count, SEED)


def _views(references: Sequence[Path], count: int) -> list[Asking]:
    """References to render a view of each: every one once before any of them again."""
    order = np.random.default_rng(SEED).permutation(len(references)).tolist()
    chosen = [references[order[number % len(order)]] for number in range(count)]
    return [(VIEWS, path, [str(path)]) for path in chosen]


def _asked(
    bundle: Bundle, sources: Sequence[VoteSource], askings: Sequence[Asking]
) -> list[AskedPhoto]:
    if not askings:
        raise BenchmarkError("There is no photo with an answer, and no view to render.")
    # The first one pays for what is loaded at first use.
    ask(bundle, sources, "", read_picture(askings[0][1], WORKING_SIDE), ())
    return [
        ask(bundle, sources, photos, _picture(number, photos, path), expected)
        for number, (photos, path, expected) in enumerate(track(askings, "Features of the photos"))
    ]


def _picture(number: int, photos: str, path: Path) -> Pixels:
    picture = read_picture(path, WORKING_SIDE)
    if photos != VIEWS:
        return picture
    rng = np.random.default_rng((SEED, number))
    return render_view(picture, clutter([], VIEW_SIZE, rng), ViewConditions(), rng).photo


def _grow(
    gallery: CandidateGallery, references: Sequence[IndexedReference], numbers: range
) -> None:
    """Adds some of the references, few at a time: each is copied on its way into the index."""
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    for first in track(numbers[::BATCH], "Building the gallery"):
        gallery.add(references[first : min(first + BATCH, numbers.stop)])
    faiss.omp_set_num_threads(1)


# What comes of it


def _measured(
    gallery: CandidateGallery, sources: Sequence[VoteSource], photos: Sequence[AskedPhoto]
) -> dict[str, SourceReport]:
    trials: dict[str, list[Trial]] = defaultdict(list)
    dict(gallery.shortlists(photos[0], sources))
    for photo in track(photos, f"Searching a gallery of {len(gallery)}"):
        shortlists = dict(gallery.shortlists(photo, sources))
        for name, shortlist in (shortlists | _unions(shortlists)).items():
            trials[name].append(Trial(photo.photos, photo.expected, shortlist))
    sizes = gallery.bytes_per_image()
    return {name: summarised(each, sizes) for name, each in trials.items()}


def _unions(shortlists: Mapping[str, Shortlist]) -> dict[str, Shortlist]:
    # Votes first: the first of a union is the first of its first part.
    parts = [*Channel, EMBEDDING]
    chosen = (names for count in (2, 3) for names in combinations(parts, count))
    return {UNION.join(names): interleaved([shortlists[n] for n in names]) for names in chosen}


def summarised(trials: Sequence[Trial], sizes: Mapping[str, float]) -> SourceReport:
    """The report on a source from its trials, at least one; ``sizes`` as ``bytes_per_image``."""
    shortlists = [trial.shortlist for trial in trials]
    milliseconds = median(each.extraction + each.search + each.reranking for each in shortlists)
    bytes_per_image = sum(sizes[part] for part in shortlists[0].parts)
    sets = dict.fromkeys(trial.photos for trial in trials)
    recall = _recall(trials)
    return SourceReport(
        recall=recall,
        recall_by_photos={name: _recall([t for t in trials if t.photos == name]) for name in sets},
        milliseconds=milliseconds,
        extraction_milliseconds=median(each.extraction for each in shortlists),
        search_milliseconds=median(each.search for each in shortlists),
        reranking_milliseconds=median(each.reranking for each in shortlists),
        bytes_per_image=bytes_per_image,
        recall_per_millisecond=recall[COMPARED] / milliseconds,
        recall_per_kilobyte=recall[COMPARED] / (bytes_per_image / 1000),
    )


def _recall(trials: Sequence[Trial]) -> dict[str, float]:
    listed = [(name, t.shortlist.references) for t in trials for name in t.expected]
    return {
        str(size): sum(name in names[:size] for name, names in listed) / len(listed)
        for size in SHORTLIST_SIZES
    }


def _tables(size: int, sources: Mapping[str, SourceReport]) -> Iterator[Table]:
    lengths = [f"@{length}" for length in SHORTLIST_SIZES]
    costs = ["ms", "kB", f"@{COMPARED}\na ms", f"@{COMPARED}\na kB"]
    title = f"A gallery of {size}: recall in %, time a query, memory an image"
    yield _table(title, [*lengths, *costs], {name: _row(each) for name, each in sources.items()})
    sets = next(iter(sources.values()))["recall_by_photos"]
    headings = [f"{name}\n@{length}" for name in sets for length in ("1", COMPARED)]
    rows = {name: _row_by_photos(each) for name, each in sources.items()}
    yield _table(f"A gallery of {size}: recall in %, by photos", headings, rows)


def _table(title: str, headings: Sequence[str], rows: Mapping[str, list[str]]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")
    for name, row in rows.items():
        table.add_row(name, *row)
    return table


def _row(source: SourceReport) -> list[str]:
    return [
        *(f"{100 * recall:.1f}" for recall in source["recall"].values()),
        f"{source['milliseconds']:.1f}",
        f"{source['bytes_per_image'] / 1000:.1f}",
        f"{100 * source['recall_per_millisecond']:.1f}",
        f"{100 * source['recall_per_kilobyte']:.1f}",
    ]


def _row_by_photos(source: SourceReport) -> list[str]:
    return [
        f"{100 * recall[length]:.1f}"
        for recall in source["recall_by_photos"].values()
        for length in ("1", COMPARED)
    ]
