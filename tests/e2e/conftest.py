"""A server for all tests, and one for the tests of a file that mistreat it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from tests.e2e.collector import Collector, collecting
from tests.e2e.harness import OPTIONS, RunningServer, Tenant, assert_ended


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """What the session's server sends traces to."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="session")
def server(collector: Collector) -> Iterator[RunningServer]:
    """A server for the whole session: make a publisher of your own on it, never stop it.

    It traces the calls whose caller asks for it, and no others.
    """
    traces = {
        "IMAGELINK_OTLP_ENDPOINT": collector.endpoint,
        "IMAGELINK_TRACE_RATIO": "0",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with _data_dir() as data:
        running = RunningServer(data, environment=traces)
        running.start()
        yield running
        running.stop()


@pytest.fixture(scope="session")
def left() -> Iterator[list[psutil.Process]]:
    """What is left of killed servers: it ends by itself, and the session goes on meanwhile."""
    processes: list[psutil.Process] = []
    yield processes
    # Ray's agents take a minute to notice.
    assert_ended(processes, 90)


@pytest.fixture(scope="module")
def own_server(left: list[psutil.Process]) -> Iterator[RunningServer]:
    """A server for the tests of one file, which may kill, stop and start it."""
    with _data_dir() as data:
        running = RunningServer(data, left=left)
        running.start()
        yield running
        running.abandon()


@pytest.fixture
def tenant(server: RunningServer) -> Tenant:
    """A publisher with an empty gallery."""
    return server.tenant()


@pytest.fixture(scope="session")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """For calls that the client would not make."""
    with grpc.insecure_channel(server.target, OPTIONS) as opened:
        yield opened


@contextmanager
def _data_dir() -> Iterator[Path]:
    # Not below pytest's own directory: its permissions shut out the database, which runs as
    # another user where the tests run as root.
    directory = Path(tempfile.mkdtemp(prefix="imagelink-e2e-"))
    try:
        yield directory / "data"
    finally:
        shutil.rmtree(directory, ignore_errors=True)
