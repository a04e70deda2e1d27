"""Kills a server's processes while it is written to and scanned: what is lost, wrong, or slow."""

import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypedDict

import psutil
from imagelink import Client, ImageLinkError, Role
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.artwork import draw_collection
from benchmarks.artwork.collection import Kind, capacity
from benchmarks.errors import BenchmarkError
from benchmarks.index_server import encoded
from benchmarks.json_file import write_json
from benchmarks.kill_model import Gallery, Seen, percentile
from benchmarks.local_server import LocalServer

PUBLISHERS = ("one", "two", "three")
KINDS: tuple[Kind, ...] = ("painting", "poster")
TIMEOUT_SECONDS = 10.0
# A kill comes so long after the one before was over.
PAUSE_SECONDS = (1.0, 4.0)
PATIENCE_SECONDS = 60.0
WRITE_PAUSE_SECONDS = 0.1
LISTED_PROBLEMS = 20

console = Console(highlight=False)


class Victim(StrEnum):
    """What is killed."""

    SHARD = "shard"
    SCANNER = "scanner"
    POSTGRES = "postgres"


class Toll(TypedDict):
    """What the kills of one victim led to; ``resumed`` are seconds until all publishers' scans went.

    ``errors`` counts the calls that failed, by the error's class and reason.
    """

    kills: int
    not_resumed: int
    resumed_median: float
    resumed_p95: float
    resumed_maximum: float
    scans: int
    writes: int
    errors: dict[str, int]


class Report(TypedDict):
    """What the benchmark writes. Lost and wrong are sentences, and should be none."""

    tolls: dict[str, Toll]
    lost: list[str]
    wrong: list[str]


@dataclass(slots=True)
class _Counts:
    scans: int = 0
    writes: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class _Answered(NamedTuple):
    """An answered scan: when it began and when the answer came, by the monotonic clock."""

    begun: float
    ended: float


class _Publisher:
    """One publisher: a thread that writes to its gallery, and one that scans it."""

    def __init__(self, name: str, server: LocalServer, key: str, photos: dict[str, bytes]) -> None:
        self.name = name
        self.gallery = Gallery()
        self.counts = _Counts()
        self.last_answered = _Answered(0.0, 0.0)
        self._photos = photos
        self._client = Client(server.target, key=key, timeout=TIMEOUT_SECONDS)
        self._operator = Client(server.target, key=server.operator_key, timeout=TIMEOUT_SECONDS)
        self._links = 0

    def write(self, rng: random.Random) -> None:
        """Registers, changes or deletes a reference, and notes what came of it."""
        picture = rng.choice(list(self._photos))
        there = picture in self.gallery.contents
        link = None if there and rng.random() < 0.3 else self._new_link()
        try:
            version = self._write(picture, link, there)
        except ImageLinkError as error:
            self.counts.errors[_named(error)] += 1
            version = self._version()
        # A call that the client repeated, as its answer was lost, may have made two versions.
        for made in range(self.gallery.version + 1, version + 1):
            self.gallery.wrote(made, picture, link)
        self.counts.writes += 1

    def _write(self, picture: str, link: str | None, there: bool) -> int:
        if link is None:
            return self._client.delete_reference(picture, publisher=self.name).gallery_version
        if there:
            written = self._client.update_reference(picture, link=link, publisher=self.name)
        else:
            photo = self._photos[picture]
            written = self._client.register(photo, link=link, reference_id=picture)
        return written.gallery_version

    def _new_link(self) -> str:
        self._links += 1
        return f"https://example.com/{self.name}/{self._links}"

    def _version(self) -> int:
        """The gallery's version, whatever time it takes to get it: nobody else writes."""
        while True:
            with suppress(ImageLinkError):
                return self._operator.get_publisher(self.name).gallery_version

    def scan(self, rng: random.Random) -> None:
        """Scans a picture, mostly with the token of the last write, and notes the answer."""
        picture = rng.choice(list(self._photos))
        token = self.gallery.version if rng.random() < 0.7 else 0
        begun = time.monotonic()
        self.counts.scans += 1
        try:
            result = self._client.scan(self._photos[picture], min_gallery_version=token)
        except ImageLinkError as error:
            self.counts.errors[_named(error)] += 1
            return
        self.last_answered = _Answered(begun, time.monotonic())
        links = {match.reference_id: match.link for match in result.matches}
        latest = self.gallery.version
        self.gallery.saw(Seen(picture, token, result.gallery_version, latest, links))

    def lost(self) -> list[str]:
        """The references that are not as they were acknowledged, a sentence each."""
        listed = {each.id: each.link for each in self._client.list_references(publisher=self.name)}
        return [f"{self.name}: {reference}" for reference in self.gallery.lost(listed)]

    def wrong(self) -> list[str]:
        """The answers that were wrong, a sentence each."""
        return [f"{self.name}: {problem}" for problem in self.gallery.wrong()]

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()
        self._operator.close()


def run(output: Path, bundle: Path, victims: Sequence[Victim], kills: int, seed: int) -> Report:
    """Kills each victim so many times, by turns, prints what came of it, and writes the report."""
    with tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder:
        server = LocalServer(bundle, Path(folder))
        try:
            server.start()
            report = _killed(server, victims, kills, random.Random(seed))
        finally:
            server.stop()
    write_json(output, report)
    console.print(_table(report))
    for problem in [*report["lost"], *report["wrong"]][:LISTED_PROBLEMS]:
        console.print(problem)
    return report


def _killed(
    server: LocalServer, victims: Sequence[Victim], kills: int, rng: random.Random
) -> Report:
    publishers = _publishers(server)
    resumed: dict[Victim, list[float]] = {victim: [] for victim in victims}
    counted: dict[Victim, _Counts] = {victim: _Counts() for victim in victims}
    with _busy(publishers, rng.random()):
        for victim in track(list(victims) * kills, "Killing", console=console):
            time.sleep(rng.uniform(*PAUSE_SECONDS))
            before = _sum(publishers)
            resumed[victim].append(_kill(server, victim, publishers))
            _add(counted[victim], before, _sum(publishers))
    report = Report(
        tolls={v.value: _toll(resumed[v], counted[v]) for v in victims},
        lost=[problem for publisher in publishers for problem in publisher.lost()],
        wrong=[problem for publisher in publishers for problem in publisher.wrong()],
    )
    for publisher in publishers:
        publisher.close()
    return report


def _publishers(server: LocalServer) -> list[_Publisher]:
    drawn = [art for kind in KINDS for art in draw_collection(kind, capacity(kind), seed=1)]
    photos = {art.name: encoded(art.picture) for art in drawn}
    made = []
    with Client(server.target, key=server.operator_key, timeout=TIMEOUT_SECONDS) as operator:
        for name in PUBLISHERS:
            operator.create_publisher(name)
            _, key = operator.create_api_key(name, role=Role.PUBLISH)
            made.append(_Publisher(name, server, key, photos))
    return made


@contextmanager
def _busy(publishers: Sequence[_Publisher], seed: float) -> Iterator[None]:
    """Has every publisher write and scan meanwhile. Raises what one of them raised."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def repeat(work: Callable[[random.Random], None], pause: float, name: str) -> None:
        rng = random.Random(f"{seed} {name}")
        try:
            while not stop.wait(pause):
                work(rng)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=repeat, args=(work, pause, f"{publisher.name} {pause}"))
        for publisher in publishers
        for work, pause in ((publisher.write, WRITE_PAUSE_SECONDS), (publisher.scan, 0.0))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _kill(server: LocalServer, victim: Victim, publishers: Sequence[_Publisher]) -> float:
    """Kills the victim; returns the seconds until a scan of each publisher was answered."""
    process = _find(server, victim)
    process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    resumed: dict[str, float] = {}
    while time.monotonic() < killed + PATIENCE_SECONDS:
        for publisher in publishers:
            answered = publisher.last_answered
            # Not one that was on its way, and might still have been answered by the old process.
            if answered.begun > killed:
                resumed.setdefault(publisher.name, answered.ended - killed)
        if len(resumed) == len(publishers):
            return max(resumed.values())
        time.sleep(0.02)
    return float("inf")


def _find(server: LocalServer, victim: Victim) -> psutil.Process:
    if victim is Victim.POSTGRES:
        line = server.postmaster_file.read_text().splitlines()[0]
        return psutil.Process(int(line))
    name = {Victim.SHARD: "ServeReplica:shard-0", Victim.SCANNER: "ServeReplica:imagelink"}[victim]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for process in psutil.Process(server.pid).children(recursive=True):
            with suppress(psutil.Error):
                if name in " ".join(process.cmdline()):
                    return process
        time.sleep(0.1)
    raise BenchmarkError(f"The server has no {victim} any more.")


def _sum(publishers: Sequence[_Publisher]) -> _Counts:
    total = _Counts()
    for publisher in publishers:
        total.scans += publisher.counts.scans
        total.writes += publisher.counts.writes
        total.errors += publisher.counts.errors
    return total


def _add(total: _Counts, before: _Counts, after: _Counts) -> None:
    total.scans += after.scans - before.scans
    total.writes += after.writes - before.writes
    total.errors += after.errors - before.errors


def _toll(resumed: Sequence[float], counts: _Counts) -> Toll:
    went = [seconds for seconds in resumed if seconds != float("inf")] or [PATIENCE_SECONDS]
    return Toll(
        kills=len(resumed),
        not_resumed=resumed.count(float("inf")),
        resumed_median=percentile(went, 0.5),
        resumed_p95=percentile(went, 0.95),
        resumed_maximum=max(went),
        scans=counts.scans,
        writes=counts.writes,
        errors=dict(counts.errors),
    )


def _named(error: ImageLinkError) -> str:
    return f"{type(error).__name__} {error.reason or ''}".strip()


def _table(report: Report) -> Table:
    title = f"{len(report['lost'])} lost, {len(report['wrong'])} wrong answers"
    table = Table(title=title, caption="seconds until scans of every publisher are answered again")
    for name in ("killed", "times", "median", "p95", "maximum", "scans", "writes", "errors"):
        table.add_column(name, justify="left" if name in ("killed", "errors") else "right")
    for victim, toll in report["tolls"].items():
        errors = "\n".join(f"{count} {name}" for name, count in toll["errors"].items())
        seconds = (toll["resumed_median"], toll["resumed_p95"], toll["resumed_maximum"])
        table.add_row(
            victim,
            str(toll["kills"]),
            *(f"{each:.1f}" for each in seconds),
            str(toll["scans"]),
            str(toll["writes"]),
            errors,
        )
    return table
