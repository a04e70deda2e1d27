"""How much of the machine the serving path leaves to recognition, and how it bears too much load."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from imagelink import Client, Registration, Role
from imagelink.v1 import recognition_pb2
from rich.console import Console
from rich.table import Table

from benchmarks import peers as peer_servers
from benchmarks.artwork import draw_collection
from benchmarks.artwork.collection import KINDS, draw_strangers
from benchmarks.echo import echo_server
from benchmarks.errors import BenchmarkError
from benchmarks.galleries import Gallery, LocalGallery
from benchmarks.index_server import encoded
from benchmarks.json_file import write_json
from benchmarks.load import Call, Caller, Shot, run_load
from benchmarks.local_server import LocalServer
from benchmarks.pace import Pace, pace
from benchmarks.peers import PeerFigures, ratio
from benchmarks.process_costs import ProcessCosts
from benchmarks.steps import step
from benchmarks.threads import search_in_one_thread
from indexing.bundle import load_bundle
from indexing.image import Pixels
from indexing.views import ViewConditions, render_view

PUBLISHERS = 10
# Of each kind of picture. Every publisher has them all.
PICTURES = 5
STRANGERS = 5
CONDITIONS = ViewConditions(
    long_side=1024, area=(0.25, 0.6), tilt=35.0, turned=0.3, cut_off=0.0, occlusion=0.1
)
TIMEOUT_SECONDS = 60.0
LINK = "https://example.com/"
# What is in flight where the server is saturated.
SATURATION = 16
NOOP_IN_FLIGHT = 32
HALF = 0.5
OVERLOAD = 2.0
# Of what the server can do, shared by all publishers alike; then one has so many times its share.
CALM = 0.5
FLOOD = 10
FLOODER = str(PUBLISHERS - 1)
WARMING_SECONDS = 3.0
# More or less: how many photos the library alone is given.
SCANS_PER_SECOND = 30

console = Console(highlight=False)


class Report(TypedDict):
    """What the benchmark writes; ``paces`` are those of each part of it by name.

    The ratios to peers are of scans a second; they and ``peers`` are None where no peer is installed.
    """

    in_process_per_second: float
    grpc_vs_inprocess: float
    noop_vs_echo: float
    vs_best_peer: float | None
    vs_best_unverified_peer: float | None
    half_load_p99_vs_p50: float
    overload_throughput: float
    overload_p99_ratio: float
    flood_p99_ratio: float
    cpu_ms_per_scan: dict[str, float]
    memory_mb: dict[str, float]
    right_share: float
    peers: list[PeerFigures] | None
    paces: dict[str, Pace]


@dataclass(frozen=True, slots=True)
class Show:
    """Pictures by their ids, and photos of them and of others."""

    pictures: dict[str, bytes]
    shots: list[Shot]


@dataclass(frozen=True, slots=True)
class Served:
    """A server that has the gallery, and the keys of its publishers."""

    target: str
    keys: list[str]
    shots: Sequence[Shot]
    pid: int = 0

    def saturated(self, seconds: float, in_flight: int) -> Pace:
        """With so many scans of one publisher in flight."""
        caller = Caller("one", self.keys[0], self.shots, in_flight=in_flight)
        return pace(run_load(self.target, [caller], seconds))

    def at(self, rates: Sequence[float], seconds: float) -> list[Call]:
        """With so many scans a second of each publisher."""
        callers = [
            Caller(str(number), key, self.shots, rate=rate)
            for number, (key, rate) in enumerate(zip(self.keys, rates, strict=True))
        ]
        return run_load(self.target, callers, seconds)


def run(output: Path, bundle: Path, seconds: float) -> Report:
    """Measures each part for so many seconds."""
    with step(console, "Drawing pictures and rendering photos"):
        show = _show()
    with tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder:
        with step(console, "Scanning in this process and its forks"):
            in_process = _apart(_in_process, bundle, show, Path(folder), seconds)
        with step(console, "A server that looks at no photo, and a plain gRPC server"):
            noop_vs_echo, noop = _noop_vs_echo(bundle, show, Path(folder) / "noop", seconds)
        peers = _peers(bundle, show, seconds)
        with step(console, "The server, saturated, at half load, overloaded, flooded"):
            report = _serving(
                bundle, show, Path(folder) / "server", seconds, in_process, noop_vs_echo, peers
            )
    report["paces"] |= noop
    write_json(output, report | {"paces": {n: asdict(p) for n, p in report["paces"].items()}})
    _print(report)
    return report


def _show() -> Show:
    drawn = [art for kind in KINDS for art in draw_collection(kind, PICTURES, seed=1)]
    strangers = draw_strangers(1)[:STRANGERS]
    shots = [
        *(Shot(_photo(art.picture, n), frozenset({f"r{n}"})) for n, art in enumerate(drawn)),
        *(Shot(_photo(art.picture, 99 + n), frozenset()) for n, art in enumerate(strangers)),
    ]
    np.random.default_rng(0).shuffle(shots)
    return Show({f"r{n}": encoded(art.picture) for n, art in enumerate(drawn)}, shots)


def _photo(picture: Pixels, seed: int) -> bytes:
    table = np.full((768, 1024, 3), (150, 140, 120), np.uint8)
    return encoded(render_view(picture, table, CONDITIONS, np.random.default_rng(seed)).photo)


def _apart(work: Callable[..., float], *arguments: object) -> float:
    """The result of work in a new process, where one thread for each library is from the start."""
    search_in_one_thread()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(work, *arguments).result()


def _in_process(bundle: Path, show: Show, folder: Path, seconds: float) -> float:
    """Scans a second of the library alone, in a process for every core."""
    references = [folder / f"{name}.jpg" for name in show.pictures]
    for file, data in zip(references, show.pictures.values(), strict=True):
        file.write_bytes(data)
    photos = [folder / f"photo-{number}.jpg" for number in range(len(show.shots))]
    for file, shot in zip(photos, show.shots, strict=True):
        file.write_bytes(shot.photo)
    gallery = LocalGallery(load_bundle(bundle), references)
    gallery.scan(photos[0])  # What is made at first use is then in all forks.
    rounds = 1 + int(seconds * SCANS_PER_SECOND / len(photos))
    spans = list(gallery.across(_scan, photos * rounds, "Scanning"))
    # The start of the processes is left out.
    return len(spans) / (max(end for _, end in spans) - min(start for start, _ in spans))


def _scan(gallery: Gallery, photo: Path) -> tuple[float, float]:
    start = time.perf_counter()
    gallery.scan(photo)
    return start, time.perf_counter()


def _noop_vs_echo(
    bundle: Path, show: Show, folder: Path, seconds: float
) -> tuple[float, dict[str, Pace]]:
    answer = recognition_pb2.ScanResponse(scan_id="0" * 32).SerializeToString()
    with echo_server(answer) as target:
        echo = Served(target, ["none"], show.shots).saturated(seconds, NOOP_IN_FLIGHT)
    with _server(bundle, show, folder, pictures=0, module="benchmarks.noop_server") as served:
        served.saturated(WARMING_SECONDS, NOOP_IN_FLIGHT)
        noop = served.saturated(seconds, NOOP_IN_FLIGHT)
    return noop.per_second / echo.per_second, {"plain gRPC": echo, "no recognition": noop}


def _peers(bundle: Path, show: Show, seconds: float) -> list[PeerFigures] | None:
    if not peer_servers.installed():
        console.print(peer_servers.MISSING)
        return None
    with step(console, "What a user would build instead"):
        publishers = [f"publisher-{number}" for number in range(PUBLISHERS)]
        return peer_servers.measure(
            bundle, show.pictures, publishers, show.shots, seconds, SATURATION
        )


def _serving(
    bundle: Path,
    show: Show,
    folder: Path,
    seconds: float,
    in_process: float,
    noop_vs_echo: float,
    peers: list[PeerFigures] | None,
) -> Report:
    with _server(bundle, show, folder) as served:
        served.saturated(WARMING_SECONDS, SATURATION)
        costs = ProcessCosts(served.pid)
        saturated = served.saturated(seconds, SATURATION)
        spent = costs.milliseconds()
        peak = saturated.per_second
        share = peak / PUBLISHERS
        half = pace(served.at([HALF * share] * PUBLISHERS, seconds))
        over = pace(served.at([OVERLOAD * share] * PUBLISHERS, seconds))
        calm = CALM * share
        before = _without(served.at([calm] * PUBLISHERS, seconds), FLOODER)
        rates = [calm] * (PUBLISHERS - 1) + [FLOOD * calm]
        during = _without(served.at(rates, seconds), FLOODER)
        scans = peak * seconds
        return Report(
            in_process_per_second=in_process,
            grpc_vs_inprocess=peak / in_process,
            noop_vs_echo=noop_vs_echo,
            vs_best_peer=ratio(peak, peers, verifies=True),
            vs_best_unverified_peer=ratio(peak, peers, verifies=False),
            half_load_p99_vs_p50=half.p99_ms / half.p50_ms,
            overload_throughput=over.per_second / peak,
            overload_p99_ratio=over.p99_ms / saturated.p99_ms,
            flood_p99_ratio=during.p99_ms / before.p99_ms,
            cpu_ms_per_scan={name: each / scans for name, each in spent.items()},
            memory_mb=costs.memory(),
            right_share=1 - saturated.wrong,
            peers=peers,
            paces={
                "saturated": saturated,
                "half load": half,
                "twice the load": over,
                "others before a flood": before,
                "others during a flood": during,
            },
        )


def _without(calls: Sequence[Call], caller: str) -> Pace:
    return pace([call for call in calls if call.caller != caller])


@contextmanager
def _server(
    bundle: Path, show: Show, folder: Path, pictures: int | None = None, module: str = "server"
) -> Iterator[Served]:
    """A server on which every publisher has the pictures, or so many of them."""
    folder.mkdir()
    with LocalServer(bundle, folder, module).running() as server:
        with Client(server.target, key=server.operator_key, timeout=TIMEOUT_SECONDS) as operator:
            keys = [_publisher(server.target, operator, n) for n in range(PUBLISHERS)]
        for key in keys:
            _register(server.target, key, list(show.pictures.items())[:pictures])
        yield Served(server.target, keys, show.shots, server.pid)


def _publisher(target: str, operator: Client, number: int) -> str:
    operator.create_publisher(f"publisher-{number}")
    _, key = operator.create_api_key(f"publisher-{number}", role=Role.PUBLISH)
    return key


def _register(target: str, key: str, pictures: Sequence[tuple[str, bytes]]) -> None:
    items = (Registration(data, link=LINK, reference_id=name) for name, data in pictures)
    with Client(target, key=key, timeout=TIMEOUT_SECONDS) as client:
        for result in client.register_all(items):
            if result.written is None:
                raise BenchmarkError(f"A picture was not registered: {result.outcome}")


def _print(report: Report) -> None:
    ratios = Table(title="Serving", show_header=False)
    for name, value in report.items():
        if isinstance(value, float):
            ratios.add_row(name.replace("_", " "), f"{value:.3g}")
    paces = Table("scans", "a second", "p50 ms", "p99 ms", "refused", "failed", "wrong")
    for name, each in report["paces"].items():
        shares = (f"{share:.1%}" for share in (each.refused, each.failed, each.wrong))
        times = (f"{each.per_second:.1f}", f"{each.p50_ms:.0f}", f"{each.p99_ms:.0f}")
        paces.add_row(name, *times, *shares)
    costs = Table("process", "CPU ms a scan, saturated", "memory, MB")
    for name, memory in report["memory_mb"].items():
        costs.add_row(name, f"{report['cpu_ms_per_scan'].get(name, 0):.2f}", f"{memory:.0f}")
    console.print(ratios, paces, costs)
    if report["peers"]:
        console.print(_peer_table(report["peers"]))


def _peer_table(peers: Sequence[PeerFigures]) -> Table:
    table = Table("peer", "a second", "p50 ms", "p99 ms", "right", "failed", "CPU ms a scan")
    for peer in peers:
        table.add_row(
            peer["name"],
            f"{peer['scans_per_second']:.1f}",
            f"{peer['p50_ms']:.0f}",
            f"{peer['p99_ms']:.0f}",
            f"{peer['right_share']:.1%}",
            f"{peer['failed_share']:.1%}",
            f"{peer['cpu_ms_per_scan']:.2f}",
        )
    return table
