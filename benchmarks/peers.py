"""What a user would build instead, measured: an embedding server on mosec, before pgvector."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict
from urllib.request import urlopen

from benchmarks.errors import BenchmarkError
from benchmarks.load import DEADLINE_SECONDS, OK, Caller, Shot, request_body, run_load
from benchmarks.pace import pace
from benchmarks.peer_pipeline import BUNDLE, DSN, NEAREST, VERIFIED, register
from benchmarks.process_costs import ProcessCosts
from benchmarks.subprocesses import end, log_tail
from server.app import embedded_postgres, free_ports

MISSING = (
    "No peers: they need the dependency group 'peers' of pyproject.toml. Install it with "
    "'python -m pip install --group peers' (pip 25.1 or later)."
)
NAMES = {NEAREST: "mosec and pgvector", VERIFIED: "mosec and pgvector, verified"}
WARMING_SECONDS = 1.0
START_SECONDS = 120.0
STOP_SECONDS = 20.0


class PeerFigures(TypedDict):
    """What a peer did when it was saturated.

    Only one that verifies does the same work as ImageLink. ``right_share`` is of the scans that
    were answered, ``failed_share`` of all. The processor time includes PostgreSQL's.
    """

    name: str
    verifies: bool
    scans_per_second: float
    p50_ms: float
    p99_ms: float
    right_share: float
    failed_share: float
    cpu_ms_per_scan: float


def installed() -> bool:
    """Whether there is what the peers need."""
    return find_spec("mosec") is not None


def ratio(
    scans_per_second: float, peers: Sequence[PeerFigures] | None, *, verifies: bool
) -> float | None:
    """How many times the pace of the fastest peer that verifies, or that does not, this is.

    None where there is no such peer.
    """
    paces = [peer["scans_per_second"] for peer in peers or () if peer["verifies"] == verifies]
    return scans_per_second / max(paces) if paces else None


def measure(
    bundle: Path,
    pictures: Mapping[str, bytes],
    publishers: Sequence[str],
    shots: Sequence[Shot],
    seconds: float,
    in_flight: int,
) -> list[PeerFigures]:
    """Saturates each peer with scans of the first publisher; all publishers have all pictures."""
    caller = Caller("one", publishers[0], shots, in_flight=in_flight)
    with tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as created:
        folder = Path(created)
        with embedded_postgres(folder / "postgres") as dsn:
            register(bundle, dsn, pictures, publishers)
            with _server(bundle, dsn, folder, request_body(caller, shots[0])) as (url, pid):
                postmaster = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
                return [
                    _saturated(url + route, caller, seconds, (pid, postmaster))
                    for route in (NEAREST, VERIFIED)
                ]


def _saturated(url: str, caller: Caller, seconds: float, processes: Sequence[int]) -> PeerFigures:
    run_load(url, [caller], WARMING_SECONDS)
    costs = [ProcessCosts(process) for process in processes]
    calls = run_load(url, [caller], seconds)
    spent = sum(sum(each.milliseconds().values()) for each in costs)
    reached = pace(calls)
    route = url[url.rindex("/") :]
    return PeerFigures(
        name=NAMES[route],
        verifies=route == VERIFIED,
        scans_per_second=reached.per_second,
        p50_ms=reached.p50_ms,
        p99_ms=reached.p99_ms,
        right_share=1 - reached.wrong,
        failed_share=reached.failed,
        cpu_ms_per_scan=spent / sum(call.status == OK for call in calls),
    )


@contextmanager
def _server(bundle: Path, dsn: str, folder: Path, probe: bytes) -> Iterator[tuple[str, int]]:
    """The URL and the process of a server that answers on both routes."""
    (port,) = free_ports(1)
    settings = {
        BUNDLE: str(bundle.resolve()),
        DSN: dsn,
        # A worker for each core leaves none to more threads.
        "OMP_NUM_THREADS": "1",
        "MOSEC_ADDRESS": "127.0.0.1",
        "MOSEC_PORT": str(port),
        "MOSEC_PATH": str(folder / "mosec"),
        "MOSEC_TIMEOUT": str(int(1000 * DEADLINE_SECONDS)),
        "MOSEC_LOG_LEVEL": "warning",
    }
    log = folder / "mosec.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peer_server"],
            env=os.environ | settings,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for route in (NEAREST, VERIFIED):
            _wait(process, url + route, probe, log)
        yield url, process.pid
    finally:
        end(process, signal.SIGTERM, STOP_SECONDS)


def _wait(process: subprocess.Popen[bytes], url: str, probe: bytes, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            # It answers when there is a worker that can.
            with urlopen(url, probe, timeout=START_SECONDS):
                return
        except OSError:
            time.sleep(0.2)
    raise BenchmarkError(f"The peers' server did not start. Its log:\n{log_tail(log)}")
