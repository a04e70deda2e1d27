"""Kills each kind of process of a server in turn, under load: what each leads to by itself."""

import random
import tempfile
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from imagelink import Client, RolloutState
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.another_model import write_bundle
from benchmarks.errors import BenchmarkError
from benchmarks.json_file import write_json
from benchmarks.kill_traffic import TIMEOUT_SECONDS, Publisher, busy, counted, made_publishers
from benchmarks.local_server import LocalServer
from benchmarks.steps import step
from benchmarks.victims import NEVER, Victim, found, kill

# Publishers write so long before the first kill, and between two.
PAUSE_SECONDS = 3.0
# A kill in a rollout comes up to so long after its start.
ROLLOUT_SECONDS = 5.0
# So slow that the worker is in the midst of it when it is killed, and as fast as it can after that.
SLOW_IMAGES_PER_SECOND, UNLIMITED = 0.5, 0.0
READY_SECONDS = 120.0
LISTED_PROBLEMS = 20

console = Console(highlight=False)


class Toll(TypedDict):
    """What the kills of one victim led to.

    ``failed_scans`` and ``failed_writes`` are those that the client gave up, after its retries, and
    ``errors`` counts them by class and reason. ``lost`` and ``wrong`` are sentences, and should be
    none. ``scans_again`` are the seconds until all publishers' scans went, ``process_back`` those
    until the process was there again, the longest of all kills; None where one took over a minute.
    """

    kills: int
    scans: int
    failed_scans: int
    writes: int
    failed_writes: int
    errors: dict[str, int]
    wrong: list[str]
    lost: list[str]
    scans_again: float | None
    process_back: float | None


class Report(TypedDict):
    """What the benchmark writes."""

    tolls: dict[str, Toll]


@dataclass(frozen=True, slots=True)
class _Scene:
    """A server with its operator and those who use it.

    ``rollouts`` are the victims that are killed during one, of ``model``.
    """

    server: LocalServer
    operator: Client
    model: str
    rollouts: Set[Victim]
    publishers: Sequence[Publisher]


def run(
    output: Path,
    bundle: Path,
    victims: Sequence[Victim],
    times: int,
    seed: int,
    *,
    rolling_out: bool = False,
) -> Report:
    """Kills each victim so many times, prints what came of it, and writes the report.

    The rollout worker is killed while it works; with ``rolling_out`` all others are as well, at any
    moment of a rollout. Raises BenchmarkError where the server does not come back, or a rollout does
    not get ready after that.
    """
    with (
        tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder,
        LocalServer(bundle, Path(folder)).running() as server,
    ):
        rollouts = set(victims) if rolling_out else {Victim.WORKER}.intersection(victims)
        tolls = _tolls(server, Path(folder), victims, rollouts, times, random.Random(seed))
    report = Report(tolls=tolls)
    write_json(output, report)
    console.print(_table(report))
    for problem in _problems(report)[:LISTED_PROBLEMS]:
        console.print(problem)
    return report


def _tolls(
    server: LocalServer,
    folder: Path,
    victims: Sequence[Victim],
    rollouts: Set[Victim],
    times: int,
    rng: random.Random,
) -> dict[str, Toll]:
    model = ""
    with Client(server.target, key=server.operator_key, timeout=TIMEOUT_SECONDS) as operator:
        if rollouts:
            model = write_bundle(folder / "another")
            operator.register_model(folder / "another")
        publishers = made_publishers(server.target, server.operator_key)
        scene = _Scene(server, operator, model, rollouts, publishers)
        tolls = {}
        for victim in victims:
            with step(console, f"Killing the {victim}"):
                tolls[victim.value] = _toll(scene, victim, times, rng)
    for publisher in publishers:
        publisher.close()
    return tolls


def _toll(scene: _Scene, victim: Victim, times: int, rng: random.Random) -> Toll:
    publishers = scene.publishers
    before = counted(publishers)
    known = [len(publisher.wrong()) for publisher in publishers]
    recoveries = []
    with busy(publishers, rng.random()):
        for _ in range(times):
            time.sleep(PAUSE_SECONDS)
            with _rollout(scene, rng) if victim in scene.rollouts else nullcontext():
                recoveries.append(kill(scene.server, victim, publishers))
    counts = counted(publishers).since(before)
    wrong = (each.wrong()[count:] for each, count in zip(publishers, known, strict=True))
    return Toll(
        kills=times,
        scans=counts.scans,
        failed_scans=counts.failed_scans.total(),
        writes=counts.writes,
        failed_writes=counts.failed_writes.total(),
        errors=dict(counts.failed_scans + counts.failed_writes),
        wrong=[problem for problems in wrong for problem in problems],
        lost=[problem for publisher in publishers for problem in publisher.lost()],
        scans_again=_longest([each.scans for each in recoveries]),
        process_back=_longest([each.process for each in recoveries]),
    )


def _longest(seconds: Sequence[float]) -> float | None:
    return None if NEVER in seconds else max(seconds)


@contextmanager
def _rollout(scene: _Scene, rng: random.Random) -> Iterator[None]:
    """A rollout that has a worker, somewhere in its midst, and must be ready after the block."""
    operator = scene.operator
    rollout = operator.start_rollout(scene.model, max_images_per_second=SLOW_IMAGES_PER_SECOND)
    found(scene.server, Victim.WORKER)
    time.sleep(rng.uniform(0, ROLLOUT_SECONDS))
    yield
    operator.update_rollout(rollout.name, max_images_per_second=UNLIMITED)
    deadline = time.monotonic() + READY_SECONDS
    while rollout.state is not RolloutState.READY:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"The rollout is still {rollout.state} after the kill.")
        time.sleep(0.5)
        rollout = operator.get_rollout(rollout.name)
    operator.end_rollout(rollout.name)


def _problems(report: Report) -> list[str]:
    return [
        f"{victim}: {problem}"
        for victim, toll in report["tolls"].items()
        for problem in (*toll["lost"], *toll["wrong"])
    ]


def _table(report: Report) -> Table:
    caption = "seconds: the longest until scans of every publisher went, and the process was back"
    table = Table(title="Processes killed under load", caption=caption, box=SIMPLE)
    table.add_column("killed", no_wrap=True)
    for name in ("times", "scans, failed", "wrong", "writes, failed", "lost", "scans s", "back s"):
        table.add_column(name, justify="right")
    for victim, toll in report["tolls"].items():
        seconds = (toll["scans_again"], toll["process_back"])
        table.add_row(
            victim,
            str(toll["kills"]),
            f"{toll['scans']}, {toll['failed_scans']}",
            str(len(toll["wrong"])),
            f"{toll['writes']}, {toll['failed_writes']}",
            str(len(toll["lost"])),
            *("> 60" if each is None else f"{each:.1f}" for each in seconds),
        )
    return table
