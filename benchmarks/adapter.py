"""Whether an adapter between two models' embeddings would let a new model serve before its backfill.

An adapter is a linear map, fitted on references that have the embeddings of both models: it turns
what the new model makes of a photo into what the former would. References that are backfilled are
compared in the new model's space, the others through the adapter in the former's, and the two lists
of scores are merged. Measured is what that finds as more and more of a gallery is backfilled, by
embeddings alone: no votes, no verification.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.another_model import write_bundle
from benchmarks.baselines import top_k_share
from benchmarks.errors import BenchmarkError
from benchmarks.galleries import side_by_side
from benchmarks.intervals import Doubles, Interval, bootstrap_interval
from benchmarks.json_file import write_json
from benchmarks.plots import plot_shares
from benchmarks.queries import SEED, read_queries, sampled
from benchmarks.rendered import Rendering
from benchmarks.threads import use_one_thread
from indexing.bundle import load_bundle
from indexing.embedding import Embedder, Embeddings
from indexing.image import Pixels
from training.datasets import AnsweredQueries, own_references, read_picture
from training.evaluation import gallery_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Ranks = list[int | None]
Picture = Callable[[], Pixels]

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
RANKS = (1, 50)
# Of the distractors, none of which a photo shows, to fit on. The rest tells how well that went.
FITTED_SHARE = 0.5
# Embeddings have length 1, so these go from no penalty to one of a hundred references' weight.
PENALTIES = 10.0 ** np.arange(-4.0, 2.5, 0.5)
RANDOM_ORDERS = 10
VIEWS_EACH = 2
PHOTOS, VIEWS = "real photos", "rendered views"

FORMER = "former until all is backfilled"
PART = "new on what is backfilled alone"
BOTH = "both models, each on its part"
AT_RANDOM, HARDEST_FIRST = "at random", "hardest first"

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: the bundles, the gallery and photos, and where to write and keep what.

    The gallery holds the references of the datasets and the distractors. Without a ``former`` bundle
    one of another architecture and dimension is made, whose network is not trained.
    """

    datasets: Sequence[Path]
    distractors: Sequence[Path]
    former: Path | None
    new: Path
    output: Path
    plot: Path | None
    cache: Path


@dataclass(frozen=True, slots=True)
class Adapter:
    """An affine map of embeddings of dimension d to those of e: ``weights`` [d, e], ``offset`` [e]."""

    weights: Doubles
    offset: Doubles

    def __call__(self, vectors: Floats) -> Floats:
        """Vectors float32 [n, d] as unit vectors float32 [n, e]."""
        mapped = vectors @ self.weights + self.offset
        return np.asarray(mapped / np.linalg.norm(mapped, axis=1, keepdims=True), np.float32)


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a model makes of the references, float32 [n, d], and of each set of photos, [m, d]."""

    version: str
    references: Floats
    photos: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Similarities:
    """Cosines of photos with all references, float32 [photos, references], in three ways.

    ``new`` and ``former`` are of one model each, ``adapted`` of photos of the new model, through an
    adapter, with references of the former.
    """

    new: Floats
    former: Floats
    adapted: Floats


@dataclass(frozen=True, slots=True)
class Way:
    """A way to serve: scores [photos, references] by what is backfilled, and orders of the backfill."""

    name: str
    scores: Callable[[Mask], Floats]
    orders: Sequence[Ints]


class Agreement(TypedDict):
    """How well adapted embeddings agree with the former's, on distractors not fitted on.

    Their cosine, as median and lowest tenth, and the share of references whose own former embedding
    is the nearest of the gallery's to the adapted one.
    """

    median: float
    percentile_10: float
    found_first: float


class Gain(TypedDict):
    """How much more recall the adapter has than the former model with nothing backfilled."""

    gain: float
    interval: Interval


class Report(TypedDict):
    """What the benchmark writes.

    ``recall`` is by the set of photos, the rank and the way to serve, a number for each of
    ``shares``; those of random orders are means over ``random_orders`` orders. ``gains`` are by the
    set of photos, the adapter and the rank. ``dimensions`` are the former's and the new one's.
    """

    former: str
    new: str
    dimensions: tuple[int, int]
    gallery_size: int
    fitted_on: int
    seed: int
    random_orders: int
    photos: dict[str, int]
    shares: list[float]
    agreement: dict[str, Agreement]
    gains: dict[str, dict[str, dict[str, Gain]]]
    recall: dict[str, dict[str, dict[str, list[float]]]]


def run(plan: Plan) -> None:
    """Measures all ways to serve at all shares, prints tables and writes report and plot.

    Raises BenchmarkError, DatasetError or BundleInvalid.
    """
    use_one_thread()
    queries = read_queries(plan.datasets)
    paths = gallery_of(queries, plan.distractors)
    own = {path.resolve() for path in own_references(queries)}
    others = [number for number, path in enumerate(paths) if path.resolve() not in own]
    fitted = sampled(others, round(FITTED_SHARE * len(others)))
    if len(fitted) < 2:
        raise BenchmarkError("There are too few distractors to fit an adapter on.")
    asked, shown = _asked(queries, paths)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        if plan.former is None:
            write_bundle(made)
        former = _embedded(plan.former or made, paths, asked, plan.cache)
    new = _embedded(plan.new, paths, asked, plan.cache)
    adapters = {
        "orthogonal": orthogonal(new.references[fitted], former.references[fitted]),
        "ridge": ridge(new.references[fitted], former.references[fitted]),
    }
    apart = np.setdiff1d(others, fitted)
    report = Report(
        former=former.version,
        new=new.version,
        dimensions=(former.references.shape[1], new.references.shape[1]),
        gallery_size=len(paths),
        fitted_on=len(fitted),
        seed=SEED,
        random_orders=RANDOM_ORDERS,
        photos={name: len(pictures) for name, pictures in asked.items()},
        shares=list(SHARES),
        agreement={kind: _agreement(new, former, each, apart) for kind, each in adapters.items()},
        gains={},
        recall={},
    )
    hardest = {
        kind: hardest_first(adapter(new.references), former.references)
        for kind, adapter in adapters.items()
    }
    for name, rows in shown.items():
        similarities = {
            kind: _similarities(new, former, adapter, name) for kind, adapter in adapters.items()
        }
        report["recall"][name] = _recall(similarities, hardest, rows)
        report["gains"][name] = {
            kind: {str(rank): _gain(each, rows, rank) for rank in RANKS}
            for kind, each in similarities.items()
        }
    write_json(plan.output, report)
    _print_report(report)
    if plan.plot is not None:
        plot_shares(SHARES, _panels(report), plan.plot)


# Adapters


def orthogonal(new: Floats, former: Floats) -> Adapter:
    """The rotation that brings ``new`` [n, d] nearest to ``former`` [n, e] (Schönemann, 1966).

    Where d and e differ it is that of the shorter vectors padded with zeros, cut to what is not.
    """
    left, _, right = np.linalg.svd(new.astype(np.float64).T @ former, full_matrices=False)
    return Adapter(left @ right, np.zeros(former.shape[1]))


def ridge(new: Floats, former: Floats) -> Adapter:
    """The affine map of ``new`` [n, d] to ``former`` [n, e] of least squares with a penalty.

    The penalty is the one of ``PENALTIES`` with the least error for pairs left out, one at a time.
    """
    means = new.mean(axis=0, dtype=np.float64), former.mean(axis=0, dtype=np.float64)
    target = former - means[1]
    left, stretch, right = np.linalg.svd(new - means[0], full_matrices=False)
    along = left.T @ target

    def error_left_out(penalty: float) -> float:
        kept = stretch**2 / (stretch**2 + penalty)
        leverage = 1 / len(new) + (left**2 * kept).sum(axis=1)
        error = (target - left * kept @ along) / (1 - leverage)[:, None]
        return float((error**2).mean())

    penalty = min(PENALTIES, key=error_left_out)
    weights = right.T * (stretch / (stretch**2 + penalty)) @ along
    return Adapter(weights, means[1] - means[0] @ weights)


def hardest_first(adapted: Floats, former: Floats) -> Ints:
    """The numbers of references by how far their adapted embedding is from the former, farthest first.

    Both are unit vectors [n, e]. A system knows this only once it has the new embeddings, that is
    when the backfill is over: a guess at it gives less.
    """
    return np.argsort((adapted * former).sum(axis=1), kind="stable")


# Scores, and what they find


def merged(new: Floats, other: Floats, backfilled: Mask) -> Floats:
    """Scores [photos, references]: ``new`` of those backfilled, [references], ``other`` of the rest.

    Cosines of two spaces are not comparable, so each photo's are standardised in each part: how many
    standard deviations a reference is above the mean of those that it is compared with there.
    """
    scores = np.empty_like(new)
    for similarity, part in ((new, backfilled), (other, ~backfilled)):
        if part.any():
            scores[:, part] = _standardised(similarity[:, part])
    return scores


def _standardised(values: Floats) -> Floats:
    deviation = values.std(axis=1, keepdims=True).clip(1e-9)
    return np.asarray((values - values.mean(axis=1, keepdims=True)) / deviation, np.float32)


def ranks(scores: Floats, shown: Ints) -> Ranks:
    """The ranks, from 1 on, of what is shown: rows of photo and reference, int64 [k, 2].

    ``scores`` are [photos, references]. None is for what is not listed, its score being -inf.
    """
    photos, references = shown.T
    own = scores[photos, references]
    higher = (scores[photos] > own[:, None]).sum(axis=1)
    return [
        int(count) + 1 if listed else None
        for count, listed in zip(higher, np.isfinite(own), strict=True)
    ]


def backfilled_at(share: float, order: Ints) -> Mask:
    """Which references are backfilled when that share is, in this order: bool [references]."""
    done = np.zeros(len(order), np.bool_)
    done[order[: round(share * len(order))]] = True
    return done


def _recall(
    similarities: Mapping[str, Similarities], hardest: Mapping[str, Ints], shown: Ints
) -> dict[str, dict[str, list[float]]]:
    """By the rank and the way to serve, a number for each share."""
    found: dict[str, dict[str, list[float]]] = {str(rank): {} for rank in RANKS}
    for way in _ways(similarities, hardest):
        by_share = [_ranks_at(share, way, shown) for share in SHARES]
        for rank in RANKS:
            found[str(rank)][way.name] = [
                float(np.mean([top_k_share(each, rank) for each in orders])) for orders in by_share
            ]
    return found


def _ways(similarities: Mapping[str, Similarities], hardest: Mapping[str, Ints]) -> Iterator[Way]:
    each, *_ = similarities.values()
    rng = np.random.default_rng(SEED)
    random = [rng.permutation(each.new.shape[1]) for _ in range(RANDOM_ORDERS)]
    yield Way(FORMER, lambda done: each.new if done.all() else each.former, random[:1])
    yield Way(PART, lambda done: np.where(done, each.new, -np.inf), random)
    yield Way(BOTH, partial(merged, each.new, each.former), random)
    for kind, through in similarities.items():
        scores = partial(merged, through.new, through.adapted)
        yield Way(f"{kind} adapter, {AT_RANDOM}", scores, random)
        yield Way(f"{kind} adapter, {HARDEST_FIRST}", scores, [hardest[kind]])


def _ranks_at(share: float, way: Way, shown: Ints) -> list[Ranks]:
    """The ranks with each order of the backfill."""
    return [ranks(way.scores(backfilled_at(share, order)), shown) for order in way.orders]


def _gain(each: Similarities, shown: Ints, rank: int) -> Gain:
    """Of photos, as what one photo shows is found or missed together."""
    photos = shown[:, 0]
    hits, before = (
        _hits(photos, ranks(scores, shown), rank) for scores in (each.adapted, each.former)
    )
    of = np.bincount(photos).astype(float)
    return Gain(
        gain=float(_difference(hits, before, of)),
        interval=bootstrap_interval(_difference, hits, before, of),
    )


def _hits(photos: Ints, found: Ranks, rank: int) -> Doubles:
    """How many of the references that each photo shows are among the first, float64 [photos]."""
    return np.bincount(photos, [top_k_share([each], rank) for each in found]).astype(float)


def _difference(hits: Doubles, before: Doubles, of: Doubles, axis: int = -1) -> Any:
    return (hits - before).sum(axis) / of.sum(axis)


def _agreement(new: Embedded, former: Embedded, adapter: Adapter, apart: Ints) -> Agreement:
    adapted = adapter(new.references[apart])
    low, middle = np.percentile((adapted * former.references[apart]).sum(axis=1), [10, 50])
    themselves = np.column_stack([np.arange(len(apart)), apart])
    found = ranks(adapted @ former.references.T, themselves)
    return Agreement(
        median=float(middle), percentile_10=float(low), found_first=top_k_share(found, 1)
    )


def _similarities(new: Embedded, former: Embedded, adapter: Adapter, photos: str) -> Similarities:
    return Similarities(
        new.photos[photos] @ new.references.T,
        former.photos[photos] @ former.references.T,
        adapter(new.photos[photos]) @ former.references.T,
    )


# What is asked, and its embeddings


def _asked(
    queries: Mapping[str, AnsweredQueries], paths: Sequence[Path]
) -> tuple[dict[str, Sequence[Picture]], dict[str, Ints]]:
    """The photos of each set, and what they show: rows of photo and reference, int64 [k, 2]."""
    numbers = {path.resolve(): number for number, path in enumerate(paths)}
    pairs = [pair for each in queries.values() for pair in each.pairs if pair.references]
    if len(pairs) < 2:
        raise BenchmarkError("There are too few photos that show a reference.")
    views = [
        Rendering(path, (), (SEED, number, turn))
        for number, path in enumerate(own_references(queries))
        for turn in range(VIEWS_EACH)
    ]
    shown = {
        PHOTOS: [
            (photo, numbers[path.resolve()])
            for photo, pair in enumerate(pairs)
            for path in dict.fromkeys(pair.references)
        ],
        VIEWS: [(view, numbers[each.picture.resolve()]) for view, each in enumerate(views)],
    }
    asked: dict[str, Sequence[Picture]] = {
        PHOTOS: [_reading(pair.query) for pair in pairs],
        VIEWS: views,
    }
    return asked, {name: np.array(rows, np.int64) for name, rows in shown.items()}


def _reading(path: Path) -> Picture:
    return lambda: read_picture(path)


def _embedded(
    bundle: Path, paths: Sequence[Path], asked: Mapping[str, Sequence[Picture]], cache: Path
) -> Embedded:
    embedder = load_bundle(bundle).embedder
    return Embedded(
        embedder.version,
        _kept(embedder, paths, cache),
        {
            name: _vectors(embedder.embed, pictures, f"{embedder.version}: {name}")
            for name, pictures in asked.items()
        },
    )


def _kept(embedder: Embedder, paths: Sequence[Path], cache: Path) -> Floats:
    """The embeddings of references, from ``cache`` where it has those of this model and code."""
    digest = hashlib.sha256(embedder.embed_references([read_picture(paths[0])]).vectors.tobytes())
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    file = cache / "embeddings" / f"{embedder.version}-{digest.hexdigest()[:16]}.npy"
    if file.is_file():
        return np.asarray(np.load(file), np.float32)
    pictures = [_reading(path) for path in paths]
    vectors = _vectors(embedder.embed_references, pictures, f"{embedder.version}: references")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".partial", delete=False) as partly:
        np.save(partly, vectors)
    os.replace(partly.name, file)
    return vectors


def _vectors(
    embed: Callable[[Sequence[Pixels]], Embeddings], pictures: Sequence[Picture], what: str
) -> Floats:
    def embedded(picture: Picture) -> Floats:
        return embed([picture()]).vectors

    cores = len(os.sched_getaffinity(0))
    return np.concatenate(list(side_by_side(embedded, pictures, what, cores)))


# The report


def _panels(report: Report) -> dict[str, dict[str, list[float]]]:
    return {
        f"{name}, recall@{rank}": ways
        for name, by_rank in report["recall"].items()
        for rank, ways in by_rank.items()
    }


def _print_report(report: Report) -> None:
    console.print(
        f"From {report['former']} to {report['new']}, in a gallery of {report['gallery_size']}, "
        f"adapters fitted on {report['fitted_on']} of the distractors."
    )
    for kind, agreement in report["agreement"].items():
        console.print(
            f"{kind}: cosine with the former's embeddings {agreement['median']:.2f} (median), "
            f"{agreement['percentile_10']:.2f} (lowest tenth); "
            f"{100 * agreement['found_first']:.0f} % nearest to their own"
        )
    for name, by_rank in report["recall"].items():
        for rank, ways in by_rank.items():
            title = f"{report['photos'][name]} {name}: recall@{rank}, %, by the share backfilled"
            console.print(_table(title, report["shares"], ways))
        for kind, gains in report["gains"][name].items():
            console.print(f"{kind}, nothing backfilled, beside the former model: {_shown(gains)}")


def _table(title: str, shares: Sequence[float], ways: Mapping[str, Sequence[float]]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for share in shares:
        table.add_column(f"{share:.0%}", justify="right", no_wrap=True)
    for name, recall in ways.items():
        table.add_row(name, *(f"{100 * each:.1f}" for each in recall))
    return table


def _shown(gains: Mapping[str, Gain]) -> str:
    return ", ".join(
        f"@{rank} {100 * each['gain']:+.1f} "
        f"({100 * each['interval'][0]:+.1f} to {100 * each['interval'][1]:+.1f})"
        for rank, each in gains.items()
    )
