"""The baselines: simpler ways to find a photo's reference, beside the whole pipeline.

They are those of the talk that ImageLink comes from: global descriptors (mean RGB, MPEG-7), local
features matched with every reference, and the parts of the pipeline each by itself.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.descriptors import DESCRIPTORS, Descriptor, Floats
from benchmarks.errors import BenchmarkError
from benchmarks.exhaustive import LOCAL_METHODS, ExhaustiveGallery, LocalMethod
from benchmarks.galleries import LocalGallery, side_by_side
from benchmarks.json_file import write_json
from benchmarks.metrics import SHORTLIST_SIZES, Answer
from benchmarks.plots import RankCurve, plot_ranks
from benchmarks.queries import SEED, apart_from, read_queries, sampled
from benchmarks.tables import print_gallery
from indexing.bundle import Bundle, load_bundle
from indexing.descriptor_index import DescriptorIndex, descriptor_ids
from indexing.embedding import Embedder
from indexing.features import FeatureExtractor, ReferenceFeatures
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.recognition import WORKING_SIDE
from indexing.voting import vote
from training.datasets import Pair, find_pictures, own_references, read_picture

# Those of the talk's slide.
TOP_K = (4, 10, 11, 55, 221)
PIPELINE = "full pipeline"

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    The gallery holds the references of the datasets and the distractors, that of the exhaustive
    methods only ``exhaustive_gallery`` of what is not a dataset's own reference, drawn at random. Of
    each dataset at most ``queries`` photos with an answer are asked, drawn at random; all if None.
    """

    datasets: Sequence[Path]
    distractors: Sequence[Path]
    bundle: Path
    output: Path
    plot: Path | None = None
    queries: int | None = None
    exhaustive_gallery: int = 1000


@dataclass(frozen=True, slots=True)
class Method:
    """A way to rank a gallery for a photo.

    ``extract`` maps RGB pixels, uint8 [h, w, 3], to what ``search`` takes, which returns numbers of
    the gallery, the nearest first; what it does not name is not listed.
    """

    name: str
    gallery: tuple[Path, ...]
    extract: Callable[[Pixels], Any]
    search: Callable[[Any], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a method said to one photo.

    ``ranks`` are those of the references that the photo shows, from 1 on, None where one is not
    listed; ``accepted`` counts those that were answered, None where the method does not decide.
    """

    ranks: tuple[int | None, ...]
    search_milliseconds: float
    milliseconds: float
    accepted: int | None = None


class MethodReport(TypedDict):
    """What a method gives on a dataset.

    ``recall`` and ``top_k`` are the shares of the references shown that are among the K nearest, by
    K; ``ranks``, in rising order with None for what is not listed, is the whole curve.
    ``accepted_and_right`` is None where the method does not decide. Times are medians of one thread:
    of the search, and of all from the file on; of the pipeline, the search includes verification.
    """

    gallery_size: int
    recall: dict[str, float]
    top_k: dict[str, float]
    accepted_and_right: float | None
    search_milliseconds: float
    milliseconds: float
    ranks: list[int | None]


class Report(TypedDict):
    """What the benchmark writes: the gallery, the photos of each dataset, and the methods on them."""

    bundle: str
    gallery_size: int
    exhaustive_gallery_size: int
    seed: int
    photos: dict[str, int]
    datasets: dict[str, dict[str, MethodReport]]


def run(plan: Plan) -> None:
    """Asks every method every photo, prints a table for each dataset and writes report and plot.

    Raises BenchmarkError, DatasetError or BundleInvalid.
    """
    queries = read_queries(plan.datasets)
    asked = {name: _drawn(name, each.pairs, plan.queries) for name, each in queries.items()}
    bundle = load_bundle(plan.bundle)
    own = own_references(queries)
    others = apart_from(find_pictures(plan.distractors), own)
    gallery = LocalGallery(bundle, [*own, *others])
    print_gallery(console, gallery)
    own, others = ([p for p in paths if p in gallery] for paths in (own, others))
    methods = _methods(bundle, gallery, own, others, plan.exhaustive_gallery)
    datasets = {name: _measured(name, pairs, methods, gallery) for name, pairs in asked.items()}
    report = Report(
        bundle=bundle.version,
        gallery_size=len(gallery),
        exhaustive_gallery_size=len(methods[-1].gallery),
        seed=SEED,
        photos={name: len(pairs) for name, pairs in asked.items()},
        datasets=datasets,
    )
    write_json(plan.output, report)
    _print_report(report)
    if plan.plot is not None:
        plot_ranks(_curves(report), plan.plot)


def top_k_share(ranks: Sequence[int | None], size: int) -> float:
    """The share of ranks, None being none, that are within the first ``size``."""
    return sum(rank is not None and rank <= size for rank in ranks) / len(ranks)


# What is asked


def _drawn(name: str, pairs: Sequence[Pair], count: int | None) -> list[Pair]:
    """At most ``count`` of the photos that show a reference, at random and in their order."""
    answered = [pair for pair in pairs if pair.references]
    if not answered:
        raise BenchmarkError(f"No photo of the dataset '{name}' shows a reference.")
    return sampled(answered, count)


# The methods


def _methods(
    bundle: Bundle,
    gallery: LocalGallery,
    own: Sequence[Path],
    others: Sequence[Path],
    exhaustive_gallery: int,
) -> list[Method]:
    """All methods but the pipeline, the exhaustive ones last."""
    if not own:
        raise BenchmarkError("No reference of the datasets can be registered.")
    # In random order, so that no method gains by the order in which it lists equals.
    rng = np.random.default_rng(SEED)
    registered = shuffled([*own, *others], rng)
    part = shuffled([*own, *shuffled(others, rng)[:exhaustive_gallery]], rng)
    return [
        *_described_methods(bundle, gallery, registered),
        *(_exhaustive_method(local, part) for local in LOCAL_METHODS),
    ]


def shuffled(paths: Sequence[Path], rng: np.random.Generator) -> tuple[Path, ...]:
    """The paths in random order."""
    return tuple(paths[number] for number in rng.permutation(len(paths)))


def _described_methods(
    bundle: Bundle, gallery: LocalGallery, registered: tuple[Path, ...]
) -> list[Method]:
    extractor = FeatureExtractor(bundle)
    threads = os.cpu_count() or 1
    described = side_by_side(_described, registered, "Describing the gallery", threads)
    features = [gallery.features(path) for path in registered]
    embedding = Descriptor(
        "embedding alone", partial(_embedded, bundle.embedder), _cosine_distances
    )
    vectors = [np.stack(column) for column in zip(*described, strict=True)]
    vectors.append(np.concatenate([each.embedding.vectors for each in features]))
    return [
        *(
            Method(kind.name, registered, kind.describe, partial(_nearest, kind, each))
            for kind, each in zip((*DESCRIPTORS, embedding), vectors, strict=True)
        ),
        *(_votes_method(channel, bundle, extractor, registered, features) for channel in Channel),
    ]


def _described(path: Path) -> tuple[Floats, ...]:
    pixels = read_picture(path, WORKING_SIDE)
    return tuple(descriptor.describe(pixels) for descriptor in DESCRIPTORS)


def _nearest(descriptor: Descriptor, vectors: Floats, vector: Floats) -> list[int]:
    distances = descriptor.distances(vector, vectors)
    return [int(number) for number in np.argsort(distances, kind="stable")]


def _embedded(embedder: Embedder, pixels: Pixels) -> Floats:
    return np.asarray(embedder.embed([pixels]).vectors[0], np.float32)


def _cosine_distances(vector: Floats, gallery: Floats) -> Floats:
    return np.asarray(1 - gallery @ vector)


def _votes_method(
    channel: Channel,
    bundle: Bundle,
    extractor: FeatureExtractor,
    gallery: tuple[Path, ...],
    features: Sequence[ReferenceFeatures],
) -> Method:
    local = [each.local[channel] for each in features]
    index = DescriptorIndex(channel, bundle.codebooks[channel].quantizers())
    ids = descriptor_ids(np.arange(len(local)), np.cumsum([len(each) for each in local]))
    index.add(ids, np.concatenate([each.descriptors for each in local]))

    def search(photo: LocalFeatures) -> list[int]:
        votes = vote(*index.search(photo.descriptors))
        return [row for row, _ in votes.ranking(len(gallery))]

    extract = partial(extractor.query, channel=channel)
    return Method(f"votes of {channel} alone", gallery, extract, search)


def _exhaustive_method(local: LocalMethod, gallery: tuple[Path, ...]) -> Method:
    return Method(local.name, gallery, local.extract, ExhaustiveGallery(local, gallery).search)


# Asking


def _measured(
    name: str, pairs: Sequence[Pair], methods: Sequence[Method], gallery: LocalGallery
) -> dict[str, MethodReport]:
    reports = {}
    for method in methods:
        work = partial(ask, method)
        asked = [work(pair) for pair in track(pairs, f"{name}: {method.name}")]
        reports[method.name] = _reported(asked, len(method.gallery))
    asked = [_ask_pipeline(gallery, pair) for pair in track(pairs, f"{name}: {PIPELINE}")]
    return reports | {PIPELINE: _reported(asked, len(gallery))}


def ask(method: Method, pair: Pair) -> Asked:
    """Asks a method for the references that a photo shows."""
    start = time.perf_counter()
    features = method.extract(read_picture(pair.query, WORKING_SIDE))
    extracted = time.perf_counter()
    numbers = method.search(features)
    end = time.perf_counter()
    ranking = [method.gallery[number] for number in numbers]
    ranks = tuple(_rank(path, ranking) for path in dict.fromkeys(pair.references))
    return Asked(ranks, 1000 * (end - extracted), 1000 * (end - start))


def _ask_pipeline(gallery: LocalGallery, pair: Pair) -> Asked:
    answer = gallery.scan(pair.query)
    expected = tuple(dict.fromkeys(pair.references))
    return Asked(
        tuple(_rank(path, answer.shortlist or ()) for path in expected),
        _search_milliseconds(answer),
        answer.milliseconds,
        sum(path in answer.references for path in expected),
    )


def _search_milliseconds(answer: Answer) -> float:
    return sum(ms for stage, ms in (answer.stages or {}).items() if stage.endswith("search"))


def _rank(path: Path, ranking: Sequence[Path]) -> int | None:
    return ranking.index(path) + 1 if path in ranking else None


# The report


def _reported(asked: Sequence[Asked], gallery_size: int) -> MethodReport:
    ranks = [rank for each in asked for rank in each.ranks]
    accepted = [each.accepted for each in asked if each.accepted is not None]
    return MethodReport(
        gallery_size=gallery_size,
        recall={str(size): top_k_share(ranks, size) for size in SHORTLIST_SIZES},
        top_k={str(size): top_k_share(ranks, size) for size in TOP_K},
        accepted_and_right=sum(accepted) / len(ranks) if accepted else None,
        search_milliseconds=median(each.search_milliseconds for each in asked),
        milliseconds=median(each.milliseconds for each in asked),
        ranks=sorted(ranks, key=lambda rank: (rank is None, rank)),
    )


def _curves(report: Report) -> dict[str, list[RankCurve]]:
    return {
        name: [
            RankCurve(method, each["ranks"], each["gallery_size"])
            for method, each in methods.items()
        ]
        for name, methods in report["datasets"].items()
    }


def _print_report(report: Report) -> None:
    for name, methods in report["datasets"].items():
        title = f"{name}, {report['photos'][name]} photos: % of what they show among the K nearest"
        recall = _table(title, (*map(str, SHORTLIST_SIZES), "right", "search ms", "ms"))
        curve = _table(f"{name}: further K", tuple(map(str, TOP_K)))
        for method, each in methods.items():
            recall.add_row(method, *_shares(each, SHORTLIST_SIZES), *_costs(each))
            curve.add_row(method, *_shares(each, TOP_K))
        console.print(recall, curve)
    console.print(
        f"Exhaustive methods searched {report['exhaustive_gallery_size']} of the gallery's "
        f"{report['gallery_size']} references: the datasets' own, and others at random. "
        "'right' is what was accepted and right, in %; milliseconds are medians of one thread."
    )


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _shares(method: MethodReport, sizes: Sequence[int]) -> list[str]:
    return [f"{100 * top_k_share(method['ranks'], size):.1f}" for size in sizes]


def _costs(method: MethodReport) -> tuple[str, str, str]:
    right = method["accepted_and_right"]
    return (
        "-" if right is None else f"{100 * right:.1f}",
        f"{method['search_milliseconds']:.1f}",
        f"{method['milliseconds']:.1f}",
    )
