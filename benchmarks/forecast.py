"""The forecast benchmark: does an assessment tell how well real photos will be recognised?

Each reference is assessed before it is registered, as ``AssessImage`` does, and then its real photos
are scanned. Of interest is the rank correlation of the two over the references.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import TypedDict

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.errors import BenchmarkError
from benchmarks.galleries import side_by_side
from benchmarks.intervals import Doubles, Interval, bootstrap_interval
from benchmarks.json_file import write_json
from benchmarks.queries import sampled
from benchmarks.threads import use_one_thread
from indexing.bundle import Bundle, load_bundle
from indexing.errors import ImageLinkError
from indexing.explanation import Judge, Verdict
from indexing.features import FeatureExtractor
from indexing.forecast import MISSED_MARGIN, Forecast
from indexing.image import decode
from indexing.recognition import WORKING_SIDE, Photo, Recogniser
from indexing.reference import DEFAULT_FALSE_ACCEPT_BUDGET, Publisher
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference
from indexing.shard import Shard
from server.assessment import Assessor
from server.models import Model
from training.datasets import AnsweredQueries, find_pictures, read_dataset

PUBLISHER = Publisher("benchmark", "", False, DEFAULT_FALSE_ACCEPT_BUDGET, 1, datetime.now(tz=UTC))
FEWEST = 3

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """A reference: what was forecast of it, and what its real photos gave.

    Margins are log-odds above the threshold, ``hard_margin`` that of the harder half of the
    settings. ``keypoints`` is what one could count without any forecast; ``seconds`` is how long
    the forecast took.
    """

    reference: str
    photos: int
    keypoints: int
    detection_rate: float
    margin: float
    hard_margin: float
    real_rate: float
    real_margin: float
    seconds: float


PREDICTORS: Mapping[str, Callable[[Sample], float]] = {
    "keypoints": lambda sample: sample.keypoints,
    "detection rate": lambda sample: sample.detection_rate,
    "mean margin": lambda sample: sample.margin,
    "mean margin, harder half": lambda sample: sample.hard_margin,
}
OUTCOMES: Mapping[str, Callable[[Sample], float]] = {
    "share of photos recognised": lambda sample: sample.real_rate,
    "mean margin of photos": lambda sample: sample.real_margin,
}


class Correlation(TypedDict):
    """Spearman's rank correlation over references, and its 95 % bootstrap interval."""

    predictor: str
    outcome: str
    correlation: float
    interval: Interval


class Result(TypedDict):
    """What the benchmark found in one dataset, or in all.

    A correlation is left out where all references gave the same.
    """

    references: int
    photos: int
    forecast_rate: float
    real_rate: float
    seconds_per_forecast: float
    correlations: list[Correlation]
    samples: list[dict[str, str | float]]


def run(
    datasets: Sequence[Path],
    distractors: Sequence[Path],
    bundle: Path,
    output: Path,
    references: int | None,
) -> None:
    """Forecasts at most ``references`` references of each dataset, writes and prints the result.

    Raises BenchmarkError, DatasetError or BundleInvalid.
    """
    read = {folder.resolve().name: read_dataset(folder) for folder in datasets}
    own = [path for dataset in read.values() for path in dataset.references]
    gallery = _Gallery(
        load_bundle(bundle), list(dict.fromkeys([*own, *find_pictures(distractors)]))
    )
    console.print(f"The gallery has {len(gallery)} references.")
    samples = {name: _samples(gallery, name, dataset, references) for name, dataset in read.items()}
    report = {name: result(each) for name, each in samples.items()}
    if len(samples) > 1:
        report["all"] = result([sample for each in samples.values() for sample in each])
    write_json(output, report)
    for name, each in report.items():
        _print(name, each)


def _samples(
    gallery: "_Gallery", name: str, dataset: AnsweredQueries, most: int | None
) -> list[Sample]:
    """The samples of a dataset's references that photos show, at most so many, drawn at random."""
    photos: dict[Path, list[Path]] = defaultdict(list)
    for pair in dataset.pairs:
        for path in pair.references:
            photos[path].append(pair.query)
    shown = [path for path in photos if path in gallery]
    chosen = sampled(shown, most)
    return [gallery.sample(path, photos[path]) for path in track(chosen, f"Forecasting {name}")]


def result(samples: Sequence[Sample]) -> Result:
    """The correlations over some references. Raises BenchmarkError where they are too few."""
    if len(samples) < FEWEST:
        raise BenchmarkError(f"Only {len(samples)} references have photos: {FEWEST} are needed.")
    return Result(
        references=len(samples),
        photos=sum(sample.photos for sample in samples),
        forecast_rate=fmean(sample.detection_rate for sample in samples),
        real_rate=fmean(sample.real_rate for sample in samples),
        seconds_per_forecast=fmean(sample.seconds for sample in samples),
        correlations=_correlations(samples),
        samples=[asdict(sample) for sample in samples],
    )


def _correlations(samples: Sequence[Sample]) -> list[Correlation]:
    found = []
    for outcome, real in OUTCOMES.items():
        y = np.array([real(sample) for sample in samples], np.float64)
        for predictor, forecast in PREDICTORS.items():
            x = np.array([forecast(sample) for sample in samples], np.float64)
            if np.ptp(x) and np.ptp(y):
                bounds = bootstrap_interval(_spearman, x, y)
                found.append(
                    Correlation(
                        predictor=predictor,
                        outcome=outcome,
                        correlation=_spearman(x, y),
                        interval=bounds,
                    )
                )
    return found


def _spearman(x: Doubles, y: Doubles) -> float:
    # A resample in which all are the same ranks nothing.
    return float(spearmanr(x, y).statistic) if np.ptp(x) and np.ptp(y) else 0.0


class _Gallery:
    """A gallery in this process, whose references are assessed as a server would."""

    def __init__(self, bundle: Bundle, references: Sequence[Path]) -> None:
        use_one_thread()
        self._features = FeatureExtractor(bundle)
        self._recogniser = Recogniser(bundle)
        self._model = Model(bundle, self._features, self._recogniser)
        self._judge = Judge(bundle.calibration, PUBLISHER.false_accept_budget)
        self._assessor = Assessor(self._serving, self._search)
        self._shard = Shard(bundle)
        self._runner = asyncio.Runner()
        indexed = side_by_side(self._index, references, "Building the gallery", os.cpu_count() or 1)
        self._indexed = {Path(entry.id): entry for entry in indexed if entry}
        self._version = 1
        self._shard.replace(PUBLISHER.id, self._version, list(self._indexed.values()))

    def __len__(self) -> int:
        return len(self._indexed)

    def __contains__(self, reference: Path) -> bool:
        return reference in self._indexed

    def sample(self, reference: Path, photos: Sequence[Path]) -> Sample:
        """Assesses a reference without it in the gallery, then scans its photos with it."""
        entry = self._indexed[reference]
        self._apply([], [entry.id])
        start = time.perf_counter()
        forecast = self._assessed(reference)
        seconds = time.perf_counter() - start
        self._apply([entry], [])
        seen = [self._seen(entry.id, photo) for photo in photos]
        return Sample(
            reference=f"{reference.parent.name}/{reference.name}",
            photos=len(photos),
            keypoints=sum(len(local) for local in entry.images[0].local.values()),
            detection_rate=forecast.detection_rate,
            margin=forecast.margin,
            hard_margin=_hard_margin(forecast),
            real_rate=fmean(recognised for recognised, _ in seen),
            real_margin=fmean(margin for _, margin in seen),
            seconds=seconds,
        )

    async def _serving(self, publisher: str) -> Model:
        return self._model

    def _assessed(self, reference: Path) -> Forecast:
        return self._runner.run(self._assessor.assess(PUBLISHER, reference.read_bytes())).forecast

    def _seen(self, reference: str, photo: Path) -> tuple[bool, float]:
        """Whether a photo is recognised as a reference, and by which margin."""
        pixels, _ = decode(photo.read_bytes(), WORKING_SIDE)
        asked = Photo(PUBLISHER.id, pixels, PUBLISHER.false_accept_budget)
        (found,) = self._runner.get_loop().run_until_complete(
            self._recogniser.recognise([asked], self._found)
        )
        for judgement in self._judge.judge(found.candidates, found.matches):
            if judgement.reference == reference:
                possible = judgement.verdict is not Verdict.IMPLAUSIBLE_QUAD
                margin = max(judgement.margin, MISSED_MARGIN) if possible else MISSED_MARGIN
                return judgement.verdict is Verdict.ACCEPTED, margin
        return False, MISSED_MARGIN

    def _apply(self, changed: Sequence[IndexedReference], removed: Sequence[str]) -> None:
        self._version += 1
        self._shard.apply(PUBLISHER.id, self._version, changed, removed)

    async def _found(self, queries: Sequence[Query]) -> list[SearchResult]:
        return [self._shard.search(query) for query in queries]

    async def _search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        return [*await self._found(queries)]

    def _index(self, path: Path) -> IndexedReference | None:
        try:
            pixels, _ = decode(path.read_bytes(), WORKING_SIDE)
            return IndexedReference(str(path), "", {}, (self._features.reference(pixels),))
        except (ImageLinkError, OSError):
            return None


def _hard_margin(forecast: Forecast) -> float:
    margins = sorted(setting.margin for setting in forecast.settings)
    return fmean(margins[: -(-len(margins) // 2)])


def _print(name: str, result: Result) -> None:
    title = (
        f"{name}: {result['references']} references, {result['photos']} photos; recognised "
        f"{result['forecast_rate']:.1%} of views and {result['real_rate']:.1%} of photos; "
        f"{result['seconds_per_forecast']:.1f} s a forecast"
    )
    table = Table(title=title)
    for column in ("forecast", "real photos"):
        table.add_column(column)
    table.add_column("rank correlation", justify="right")
    for each in result["correlations"]:
        low, high = each["interval"]
        shown = f"{each['correlation']:.2f} ({low:.2f} to {high:.2f})"
        table.add_row(each["predictor"], each["outcome"], shown)
    console.print(table)
