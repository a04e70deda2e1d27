"""Brings another model into service under scans and registrations, back, and in again.

What fails, what is answered wrongly, what is lost, and how much slower scans are meanwhile.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
from imagelink import Client, ImageLinkError, Registration, Role, Rollout, RolloutState
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from benchmarks.another_model import write_bundle
from benchmarks.artwork import draw_collection
from benchmarks.artwork.collection import KINDS
from benchmarks.errors import BenchmarkError
from benchmarks.index_server import encoded
from benchmarks.json_file import write_json
from benchmarks.kill_model import percentile
from benchmarks.local_server import LocalServer
from benchmarks.threads import use_one_thread
from indexing.bundle import load_bundle
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.views import ViewConditions, render_view
from server.backfill import BATCH, batch_features

PUBLISHERS = 20
SCANS_PER_SECOND = 8.0
REGISTRATIONS_PER_SECOND = 10.0
TIMEOUT_SECONDS = 30.0
READY_SECONDS = 3600.0
CLEANING_SECONDS = 4.0
LINK = "https://example.com/"
FILLER_SIDE = 256

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    ``references`` are those of all galleries together; scans go undisturbed for ``before`` seconds
    before the rollout, and for ``switched`` after each switch; ``embedded`` images are embedded in
    this process.
    """

    references: int
    before: float = 60.0
    switched: float = 15.0
    embedded: int = 320


# What is registered before the rollout is backfilled too: a longer rest makes it longer.
SMALL = Effort(references=100, before=16.0, switched=2.0, embedded=48)


class Report(TypedDict):
    """What the benchmark writes; ``backfill_vs_embedding`` is of a server without other work."""

    references: int
    failed_scans: int
    wrong_answers: int
    lost_registrations: int
    failed_registrations: int
    scans: int
    registrations: int
    p99_before_ms: float
    p99_during_ms: float
    p99_ratio: float
    activation_seconds: float
    backfill_images_per_second: float
    embedding_images_per_second: float
    all_features_images_per_second: float
    backfill_vs_embedding: float


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan: when it began and ended, by the monotonic clock, the model, and what was wrong."""

    begun: float
    ended: float
    model: str = ""
    failed: str = ""
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Tenant:
    """A publisher, the client of its key, and a photo of the reference ``target``."""

    name: str
    client: Client
    photo: bytes


@dataclass(slots=True)
class Traffic:
    """Scans and registrations at a steady pace, whatever becomes of them."""

    tenants: Sequence[Tenant]
    scans: list[Scanned] = field(default_factory=list)
    registered: list[tuple[Tenant, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Goes on until the end of the block."""
        threads = [
            *_paced(self.scan, SCANS_PER_SECOND, self._over),
            *_paced(self.register, REGISTRATIONS_PER_SECOND, self._over),
        ]
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def scan(self, number: int) -> None:
        """Scans the photo of one publisher."""
        tenant = self.tenants[number % len(self.tenants)]
        begun = time.monotonic()
        try:
            found = tenant.client.scan(tenant.photo)
        except ImageLinkError as error:
            self.scans.append(Scanned(begun, time.monotonic(), failed=repr(error)))
            return
        right = [match.reference_id for match in found.matches] == ["target"]
        self.scans.append(Scanned(begun, time.monotonic(), found.model_version, wrong=not right))

    def register(self, number: int) -> None:
        """Registers a new picture with one publisher."""
        tenant = self.tenants[number % len(self.tenants)]
        name = f"live-{number}"
        try:
            tenant.client.register(filler(10**6 + number), link=LINK, reference_id=name)
        except ImageLinkError as error:
            self.refused.append(repr(error))
            return
        self.registered.append((tenant, name))

    def lost(self) -> int:
        """How many registrations were acknowledged, and are not there."""
        listed = {
            tenant.name: {each.id for each in tenant.client.list_references()}
            for tenant in self.tenants
        }
        return sum(name not in listed[tenant.name] for tenant, name in self.registered)


def run(output: Path, plot: Path | None, bundle: Path, effort: Effort) -> Report:
    """Measures a swap."""
    with tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder:
        another = Path(folder) / "another"
        version = write_bundle(another)
        with LocalServer(bundle, Path(folder)).running() as server:
            report = _swapped(server, bundle, another, version, effort, plot)
    write_json(output, report)
    console.print(_table(report))
    return report


def _swapped(
    server: LocalServer,
    bundle: Path,
    another: Path,
    version: str,
    effort: Effort,
    plot: Path | None,
) -> Report:
    former = load_bundle(bundle).version
    with Client(server.target, key=server.operator_key, timeout=TIMEOUT_SECONDS) as operator:
        tenants = _tenants(server, operator, effort.references)
        operator.register_model(another)
        traffic = Traffic(tenants)
        marks: dict[str, float] = {}
        with traffic.running():
            time.sleep(effort.before)
            marks["rollout"] = time.monotonic()
            rollout = _ready(operator, operator.start_rollout(version))
            for step in ("activate", "roll back", "activate again"):
                marks[step] = time.monotonic()
                if step == "roll back":
                    operator.rollback_rollout(rollout.name)
                else:
                    # The network is untrained: what the gate says of it is not the matter here.
                    operator.activate_rollout(rollout.name, force=True)
                time.sleep(effort.switched)
            marks["end"] = time.monotonic()
        operator.end_rollout(rollout.name)
        pace = _pace(operator, former)
        lost = traffic.lost()
    if plot is not None:
        _draw(traffic, marks, plot)
    embedding, everything = _bare(bundle, effort.embedded)
    before, during = _latencies(traffic, marks)
    return Report(
        references=effort.references,
        failed_scans=sum(bool(each.failed) for each in traffic.scans),
        wrong_answers=sum(each.wrong for each in traffic.scans),
        lost_registrations=lost,
        failed_registrations=len(traffic.refused),
        scans=len(traffic.scans),
        registrations=len(traffic.registered),
        p99_before_ms=before,
        p99_during_ms=during,
        p99_ratio=during / before,
        activation_seconds=max(
            _switch_seconds(traffic, marks["activate"], marks["roll back"], version),
            _switch_seconds(traffic, marks["activate again"], marks["end"], version),
        ),
        backfill_images_per_second=pace,
        embedding_images_per_second=embedding,
        all_features_images_per_second=everything,
        backfill_vs_embedding=pace / embedding,
    )


def filler(number: int) -> bytes:
    """A picture like no other, as a file: shapes and letters at random."""
    rng = np.random.default_rng(number)
    colours = rng.integers(256, size=(60, 3)).tolist()
    image = Image.new("RGB", (FILLER_SIDE, FILLER_SIDE), tuple(colours[0]))
    draw = ImageDraw.Draw(image)
    for colour in colours:
        x, y = rng.integers(FILLER_SIDE, size=2).tolist()
        wide, high = rng.integers(8, 80, size=2).tolist()
        draw.rectangle((x, y, x + wide, y + high), fill=tuple(colour))
        draw.text((y, x), chr(65 + wide % 26) * 3, fill=tuple(255 - c for c in colour))
    return encoded(np.asarray(image))


def _tenants(server: LocalServer, operator: Client, references: int) -> list[Tenant]:
    each = PUBLISHERS // len(KINDS)
    drawn = [art for kind in KINDS for art in draw_collection(kind, each, seed=1)]
    made = []
    for number, art in enumerate(drawn):
        name = f"publisher-{number}"
        operator.create_publisher(name)
        _, key = operator.create_api_key(name, role=Role.PUBLISH)
        client = Client(server.target, key=key, timeout=TIMEOUT_SECONDS)
        client.register(encoded(art.picture), link=LINK, reference_id="target")
        items = (
            Registration(filler(filling), link=LINK, reference_id=f"filler-{filling}")
            for filling in range(number, references - PUBLISHERS, PUBLISHERS)
        )
        for result in client.register_all(items):
            if result.written is None:
                raise BenchmarkError(f"A picture was not registered: {result.outcome}")
        made.append(Tenant(name, client, encoded(_photo(art.picture, number))))
    return made


def _photo(picture: Pixels, seed: int) -> Pixels:
    easy = ViewConditions(area=(0.4, 0.5), tilt=20.0, turned=0.0, cut_off=0.0, occlusion=0.0)
    table = np.full((600, 800, 3), (150, 140, 120), np.uint8)
    return render_view(picture, table, easy, np.random.default_rng(seed)).photo


def _ready(operator: Client, rollout: Rollout) -> Rollout:
    deadline = time.monotonic() + READY_SECONDS
    while rollout.state in (RolloutState.BACKFILLING, RolloutState.EVALUATING):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"The rollout is still {rollout.state}.")
        time.sleep(1.0)
        rollout = operator.get_rollout(rollout.name)
    if rollout.state is not RolloutState.READY:
        raise BenchmarkError(f"The rollout is {rollout.state}: {rollout.problem}")
    return rollout


def _pace(operator: Client, version: str) -> float:
    """The images a second of a backfill beside which nothing happens, once it has begun."""
    # The features that it had are deleted in the background.
    time.sleep(CLEANING_SECONDS)
    rollout = operator.start_rollout(version)
    seen: list[tuple[float, int]] = []
    while rollout.state is RolloutState.BACKFILLING:
        done = rollout.backfill.done_count
        if not seen or done > seen[-1][1]:
            seen.append((time.monotonic(), done))
        time.sleep(0.5)
        rollout = operator.get_rollout(rollout.name)
    operator.end_rollout(rollout.name)
    # What came first came while the worker started.
    moving = [each for each in seen if each[1] > seen[0][1]]
    if len(moving) < 2:
        raise BenchmarkError("The backfill was too short to be measured: take more references.")
    (start, first), (end, last) = moving[0], moving[-1]
    return (last - first) / (end - start)


def _bare(bundle: Path, images: int) -> tuple[float, float]:
    """The images a second of the same work on files in memory, in batches, in this process.

    The same work is embeddings alone, as both models find the same local features; then those of
    all features. They are made in turns.
    """
    use_one_thread()
    extractor = FeatureExtractor(load_bundle(bundle))
    files = [filler(number) for number in range(images)]

    async def work() -> tuple[float, float]:
        await batch_features(extractor, files[:BATCH], [b""] * BATCH)
        embedding = everything = 0.0
        for first in range(0, len(files), BATCH):
            batch = files[first : first + BATCH]
            start = time.perf_counter()
            made = await batch_features(extractor, batch, [b""] * len(batch))
            middle = time.perf_counter()
            await batch_features(extractor, batch, [each.local_features for each in made])
            embedding += time.perf_counter() - middle
            everything += middle - start
        return len(files) / embedding, len(files) / everything

    return asyncio.run(work())


def _latencies(traffic: Traffic, marks: dict[str, float]) -> tuple[float, float]:
    """The p99 of scans before the rollout and from then on, in ms."""
    spans: tuple[list[float], list[float]] = ([], [])
    for each in traffic.scans:
        spans[each.begun >= marks["rollout"]].append(1000 * (each.ended - each.begun))
    return percentile(spans[0], 0.99), percentile(spans[1], 0.99)


def _switch_seconds(traffic: Traffic, start: float, end: float, version: str) -> float:
    """How long after a switch a scan was still answered by the other version."""
    answered = [s for s in traffic.scans if start <= s.begun and s.ended < end]
    late = [s.ended for s in answered if s.model != version]
    return max(late, default=start) - start


def _paced(
    work: Callable[[int], None], per_second: float, over: threading.Event
) -> list[threading.Thread]:
    """Threads that begin a piece of work so many times a second, in turns, if it keeps up."""
    threads = 4
    start = time.monotonic()

    def repeat(first: int) -> None:
        number = first
        while not over.wait(max(0.0, start + number / per_second - time.monotonic())):
            work(number)
            number += threads

    made = [threading.Thread(target=repeat, args=(first,)) for first in range(threads)]
    for thread in made:
        thread.start()
    return made


def _draw(traffic: Traffic, marks: dict[str, float], file: Path) -> None:
    start = traffic.scans[0].begun
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for model in sorted({each.model for each in traffic.scans}):
        own = [each for each in traffic.scans if each.model == model]
        times = [each.begun - start for each in own]
        latencies = [1000 * (each.ended - each.begun) for each in own]
        axes.plot(times, latencies, ".", markersize=3, label=model or "failed")
    for name, moment in marks.items():
        axes.axvline(moment - start, color="grey", linewidth=0.8)
        axes.text(moment - start, axes.get_ylim()[1], f" {name}", rotation=90, va="top", fontsize=8)
    axes.set(xlabel="seconds", ylabel="ms of a scan", yscale="log", title="Scans during a rollout")
    axes.legend(loc="upper left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def _table(report: Report) -> Table:
    table = Table(title="A model swapped under scans and registrations", show_header=False)
    for name, value in report.items():
        table.add_row(
            name.replace("_", " "), f"{value:.3g}" if isinstance(value, float) else str(value)
        )
    return table
