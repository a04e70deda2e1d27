"""A load test on one machine: a server of its own, prepared, tested and stopped again."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks.local_server import LocalServer
from benchmarks.steps import step
from indexing.bundle import DEFAULT_BUNDLE
from loadtests.prepare import prepare

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
STOP_SECONDS = 15

console = Console(highlight=False, emoji=False, markup=False)


def run(output: Path, publishers: int, photos: int, options: Sequence[str]) -> int:
    """Runs locust with more ``options`` and its reports in ``output``; returns its exit code."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder:
        workload = Path(folder) / "workload"
        with _running_server(Path(folder)) as server:
            with step(console, "Preparing the load"):
                prepare(server.target, server.operator_key, workload, publishers, photos)
            command = [*locust_command(workload, output), *options]
            console.print(" ".join(command), soft_wrap=True)
            code = subprocess.run(command, check=False).returncode
            console.print(f"The reports are in {output}: report.html, summary.json and tables.")
            return code


def locust_command(workload: Path, output: Path) -> list[str]:
    """Locust without its web page, writing all of its reports."""
    return [
        *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE)),
        *("--headless", "--only-summary", "--loglevel", "WARNING"),
        *("--stop-timeout", str(STOP_SECONDS)),
        *("--workload", str(workload), "--summary", str(output / "summary.json")),
        *("--html", str(output / "report.html"), "--json-file", str(output / "calls")),
        *("--csv", str(output / "stats"), "--csv-full-history"),
    ]


@contextmanager
def _running_server(folder: Path) -> Iterator[LocalServer]:
    server = LocalServer(DEFAULT_BUNDLE, folder)
    try:
        with step(console, "Starting the server"):
            server.start()
        yield server
    finally:
        with step(console, "Stopping the server"):
            server.stop()
