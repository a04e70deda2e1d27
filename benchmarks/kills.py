"""Kills a server's processes while it is written to and scanned: what is lost, wrong, or slow."""

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.json_file import write_json
from benchmarks.kill_model import percentile
from benchmarks.kill_traffic import Counts, busy, counted, made_publishers
from benchmarks.local_server import LocalServer
from benchmarks.victims import NEVER, PATIENCE_SECONDS, Victim, kill

# Those whose kills are counted in docs/index.md. `chaos` kills the others too.
VICTIMS = (Victim.SHARD, Victim.SCANNER, Victim.POSTGRES)
# A kill comes so long after the one before was over.
PAUSE_SECONDS = (1.0, 4.0)
LISTED_PROBLEMS = 20

console = Console(highlight=False)


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


def run(output: Path, bundle: Path, victims: Sequence[Victim], kills: int, seed: int) -> Report:
    """Kills each victim so many times, by turns, prints what came of it, and writes the report."""
    with (
        tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder,
        LocalServer(bundle, Path(folder)).running() as server,
    ):
        report = _killed(server, victims, kills, random.Random(seed))
    write_json(output, report)
    console.print(_table(report))
    for problem in [*report["lost"], *report["wrong"]][:LISTED_PROBLEMS]:
        console.print(problem)
    return report


def _killed(
    server: LocalServer, victims: Sequence[Victim], kills: int, rng: random.Random
) -> Report:
    publishers = made_publishers(server.target, server.operator_key)
    resumed: dict[Victim, list[float]] = {victim: [] for victim in victims}
    counts: dict[Victim, Counts] = {victim: Counts() for victim in victims}
    with busy(publishers, rng.random()):
        for victim in track(list(victims) * kills, "Killing", console=console):
            time.sleep(rng.uniform(*PAUSE_SECONDS))
            before = counted(publishers)
            resumed[victim].append(kill(server, victim, publishers).scans)
            counts[victim].add(counted(publishers).since(before))
    report = Report(
        tolls={v.value: _toll(resumed[v], counts[v]) for v in victims},
        lost=[problem for publisher in publishers for problem in publisher.lost()],
        wrong=[problem for publisher in publishers for problem in publisher.wrong()],
    )
    for publisher in publishers:
        publisher.close()
    return report


def _toll(resumed: Sequence[float], counts: Counts) -> Toll:
    went = [seconds for seconds in resumed if seconds != NEVER] or [PATIENCE_SECONDS]
    return Toll(
        kills=len(resumed),
        not_resumed=resumed.count(NEVER),
        resumed_median=percentile(went, 0.5),
        resumed_p95=percentile(went, 0.95),
        resumed_maximum=max(went),
        scans=counts.scans,
        writes=counts.writes,
        errors=dict(counts.failed_scans + counts.failed_writes),
    )


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
