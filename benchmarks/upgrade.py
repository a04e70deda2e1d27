"""Puts a new server in the place of an old one, both over one database, under scans and writes."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.json_file import write_json
from benchmarks.kill_traffic import Publisher, busy, counted, made_publishers
from benchmarks.local_server import LocalServer
from benchmarks.steps import step
from server.app import embedded_postgres

console = Console(highlight=False)


class Phase(TypedDict):
    """What came of calls in a part of the upgrade; failed are those that the retries did not save.

    ``errors`` counts the failed by class and reason.
    """

    seconds: float
    scans: int
    failed_scans: int
    writes: int
    failed_writes: int
    errors: dict[str, int]


class Report(TypedDict):
    """What the benchmark writes; ``wrong`` and ``lost`` are sentences, and should be none."""

    phases: dict[str, Phase]
    failed_scans: int
    failed_writes: int
    wrong: list[str]
    lost: list[str]


def run(output: Path, bundle: Path, former: Path | None, seconds: float) -> Report:
    """Upgrades under load, so long before, between and after; prints and writes what came of it.

    ``former`` is a checkout of the version that the old server has, this one by default. Raises
    BenchmarkError where a server does not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder,
        embedded_postgres(Path(folder) / "postgres") as database,
    ):
        old, new = _servers(bundle, Path(folder), database, former)
        try:
            report = _upgraded(old, new, seconds)
        finally:
            old.stop()
            new.stop()
    write_json(output, report)
    console.print(_table(report))
    return report


def _servers(
    bundle: Path, folder: Path, database: str, former: Path | None
) -> tuple[LocalServer, LocalServer]:
    def server(name: str, source: Path | None) -> LocalServer:
        (folder / name).mkdir()
        blobs = f"file://{folder / 'blobs'}"
        return LocalServer(
            bundle, folder / name, source=source, database_url=database, blob_url=blobs
        )

    old, new = server("old", former), server("new", None)
    new.operator_key = old.operator_key
    return old, new


def _upgraded(old: LocalServer, new: LocalServer, seconds: float) -> Report:
    with step(console, "Starting the old server"):
        old.start()
    publishers = made_publishers(old.target, old.operator_key)
    phases: dict[str, Phase] = {}
    with busy(publishers, seed=0):
        with _phase("the old server", phases, publishers):
            time.sleep(seconds)
        with _phase("the new one starts", phases, publishers):
            new.start()
        # As a name does that stands for all servers that are ready.
        for publisher in publishers:
            publisher.connect(f"ipv4:{old.target},{new.target}")
        with _phase("both", phases, publishers):
            time.sleep(seconds)
        with _phase("the old one stops", phases, publishers):
            old.stop()
        with _phase("the new server", phases, publishers):
            time.sleep(seconds)
    counts = counted(publishers)
    report = Report(
        phases=phases,
        failed_scans=counts.failed_scans.total(),
        failed_writes=counts.failed_writes.total(),
        wrong=[problem for each in publishers for problem in each.wrong()],
        lost=[problem for each in publishers for problem in each.lost()],
    )
    for publisher in publishers:
        publisher.close()
    return report


@contextmanager
def _phase(name: str, phases: dict[str, Phase], publishers: Sequence[Publisher]) -> Iterator[None]:
    before, start = counted(publishers), time.monotonic()
    with step(console, name.capitalize()):
        yield
    counts = counted(publishers).since(before)
    phases[name] = Phase(
        seconds=time.monotonic() - start,
        scans=counts.scans,
        failed_scans=counts.failed_scans.total(),
        writes=counts.writes,
        failed_writes=counts.failed_writes.total(),
        errors=dict(counts.failed_scans + counts.failed_writes),
    )


def _table(report: Report) -> Table:
    wrong, lost = len(report["wrong"]), len(report["lost"])
    caption = f"{wrong} wrong answers, {lost} references lost"
    table = Table(title="A server upgraded under load", caption=caption, box=SIMPLE)
    table.add_column("phase", no_wrap=True)
    for name in ("seconds", "scans, failed", "writes, failed"):
        table.add_column(name, justify="right")
    for name, phase in report["phases"].items():
        table.add_row(
            name,
            f"{phase['seconds']:.1f}",
            f"{phase['scans']}, {phase['failed_scans']}",
            f"{phase['writes']}, {phase['failed_writes']}",
        )
    return table
