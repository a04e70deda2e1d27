"""A fault in a scan: logged with the scan's id and that of its trace, and counted."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from indexing.errors import ImageLinkError
from indexing.reference import Publisher
from server import logs, tracing
from server.fair_queue import QueueLimits
from server.rpc import Fault
from server.scanning import Scanning
from tests.e2e.pictures import artworks, encoded

ACME = Publisher("acme", "", False, 0.001, 0, datetime(2026, 1, 1, tzinfo=UTC))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def configured() -> Iterator[None]:
    logs.configure()
    tracing.use(TracerProvider())
    yield
    tracing.use(None)
    structlog.reset_defaults()


class BrokenModels:
    async def serving(self, publisher: str) -> None:
        raise RuntimeError("a mistake")


@pytest.mark.usefixtures("configured")
async def test_a_fault_is_logged_with_its_scan_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed: list[ImageLinkError] = []
    meter = SimpleNamespace(began=lambda *_: None, failed=failed.append)
    limits = QueueLimits(1, 1, 9, 9.0)
    scanning = Scanning(BrokenModels(), None, None, meter, limits)  # type: ignore[arg-type]

    async def call() -> None:
        with tracing.call("Scan", [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")]):
            await scanning.scan(ACME, encoded(artworks()[0]), 0)

    with pytest.raises(Fault):
        await asyncio.create_task(call())
    (line,) = (line for line in capsys.readouterr().out.splitlines() if " fault " in line)
    assert " scan=" in line
    assert f" trace={TRACE}" in line
    assert [type(error) for error in failed] == [Fault]
