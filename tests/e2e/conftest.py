"""A server for all tests, and one for the tests of a file that mistreat it."""

from collections.abc import Iterator

import grpc
import psutil
import pytest

from tests.e2e.collector import Collector, collecting
from tests.e2e.harness import OPTIONS, RunningServer, Tenant, assert_ended, serving


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
    with serving(environment=traces) as running:
        yield running


@pytest.fixture(scope="session")
def left() -> Iterator[list[psutil.Process]]:
    """What is left of killed servers: it ends by itself, and the session goes on meanwhile."""
    processes: list[psutil.Process] = []
    yield processes
    # Ray's agents take a minute to notice.
    assert_ended(processes, 90)


@pytest.fixture(scope="module")
def own_server(left: list[psutil.Process]) -> Iterator[RunningServer]:
    """A server for the tests of one file, which may kill, stop and start it: it runs after each."""
    with serving(left=left) as running:
        yield running


@pytest.fixture
def tenant(server: RunningServer) -> Tenant:
    """A publisher with an empty gallery."""
    return server.tenant()


@pytest.fixture(scope="session")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """For calls that the client would not make."""
    with grpc.insecure_channel(server.target, OPTIONS) as opened:
        yield opened
