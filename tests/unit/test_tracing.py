"""Spans of calls, scans and stages, as an exporter gets them; and none where nobody takes them."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence

import grpc
import pytest
import structlog
from imagelink import Client
from imagelink.v1 import recognition_pb2, recognition_pb2_grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import INVALID_SPAN, StatusCode

from indexing.errors import ImageInvalid, ShardUnavailable
from server import tracing
from server.fair_queue import FairQueue, QueueLimits
from tests.unit.fake_servers import served

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{CALLER}-0{flag}" for flag in (1, 0))


class Spans:
    """What was exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()

    def begin(self, ratio: float) -> None:
        provider = TracerProvider(ParentBasedTraceIdRatio(ratio))
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        tracing.use(provider)

    def ended(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def spans() -> Iterator[Spans]:
    yield Spans()
    tracing.use(None)


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def called(traceparent: str | None) -> str | None:
    """Makes a call in a task of its own, as gRPC does; the trace that its log lines have."""
    metadata = [("authorization", "Bearer key")]
    metadata += [("traceparent", traceparent)] if traceparent else []

    async def handler() -> str | None:
        with tracing.call("Scan", metadata), tracing.scan("acme", "an-id") as span:
            tracing.begun(span, 2, 0.5)
        found: str | None = structlog.contextvars.get_contextvars().get("trace")
        return found

    return await asyncio.create_task(handler())


@pytest.mark.parametrize("ratio", [0.0, 1.0])
async def test_the_trace_that_a_caller_names_goes_on(spans: Spans, ratio: float) -> None:
    spans.begin(ratio)
    assert await called(SAMPLED) == TRACE
    found = spans.ended()
    assert set(found) == {"Scan", "scan", "queue"}
    assert {trace.format_trace_id(each.context.trace_id) for each in found.values()} == {TRACE}
    assert trace.format_span_id(found["Scan"].parent.span_id) == CALLER
    assert found["scan"].parent.span_id == found["Scan"].context.span_id
    assert found["queue"].parent.span_id == found["scan"].context.span_id
    assert 0.4e9 < found["queue"].end_time - found["queue"].start_time < 0.6e9
    assert attributes(found["scan"]) == {
        "imagelink.publisher": "acme",
        "imagelink.scan_id": "an-id",
        "imagelink.batch_size": 2,
    }


@pytest.mark.parametrize(
    ("ratio", "traceparent", "traced"),
    [(1.0, None, True), (0.0, None, False), (1.0, UNSAMPLED, False), (1.0, "nonsense", True)],
)
async def test_what_nobody_asks_for_is_traced_by_the_ratio(
    spans: Spans, ratio: float, traceparent: str | None, traced: bool
) -> None:
    spans.begin(ratio)
    assert (await called(traceparent) is not None) is traced
    assert bool(spans.ended()) is traced


async def test_without_anybody_who_takes_traces_there_are_none(spans: Spans) -> None:
    assert await called(SAMPLED) is None
    with tracing.scan("acme", "an-id") as span, tracing.stage("search", [span]) as below:
        assert [span, *below] == [INVALID_SPAN, INVALID_SPAN]
    assert spans.ended() == {}


def test_without_anybody_who_takes_traces_nothing_is_imported_for_them() -> None:
    code = (
        "import sys; from server import tracing; from server.settings import Settings;"
        "tracing.begin(Settings(), 'scanner', 'one');"
        "print([name for name in sys.modules if name.startswith('opentelemetry.')"
        " and name.split('.')[1] in ('sdk', 'exporter', 'proto')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_each_of_a_batch_has_the_stage_in_its_own_trace(spans: Spans) -> None:
    spans.begin(1.0)
    with (
        tracing.scan("a", "1") as first,
        tracing.scan("b", "2") as second,
        tracing.stage("search", [first, INVALID_SPAN, second]) as searches,
    ):
        names = [tracing.named(each) for each in searches]
    assert names[1] == ""
    for each, parent, name in ((searches[0], first, names[0]), (searches[2], second, names[2])):
        assert isinstance(each, ReadableSpan)
        assert each.parent == parent.get_span_context()
        assert attributes(each) == {"imagelink.batch_size": 3}
        # As another process goes on with it.
        with tracing.stage("shard.search", [tracing.elsewhere(name)]) as (below,):
            assert isinstance(below, ReadableSpan)
            assert below.parent.span_id == each.context.span_id


@pytest.mark.parametrize(
    ("error", "why", "status"),
    [
        (ImageInvalid(problem="SECRET"), "IMAGE_INVALID", StatusCode.UNSET),
        (ShardUnavailable(shard=3), "SHARD_UNAVAILABLE", StatusCode.ERROR),
        (RuntimeError("SECRET"), "RuntimeError", StatusCode.ERROR),
    ],
)
def test_an_error_is_told_by_its_name_alone(
    spans: Spans, error: Exception, why: str, status: StatusCode
) -> None:
    spans.begin(1.0)
    with pytest.raises(type(error)), tracing.scan("acme", "an-id"):
        raise error
    found = spans.ended()["scan"]
    assert attributes(found)["imagelink.outcome"] == attributes(found)["error.type"] == why
    assert found.status.status_code is status
    assert "SECRET" not in found.to_json()


def test_a_scan_whose_caller_is_gone_says_so(spans: Spans) -> None:
    spans.begin(1.0)
    with pytest.raises(asyncio.CancelledError), tracing.scan("acme", "an-id"):
        raise asyncio.CancelledError
    assert attributes(spans.ended()["scan"])["imagelink.outcome"] == "CANCELLED"


async def test_a_batch_is_in_the_context_of_none_of_its_scans() -> None:
    async def work(items: Sequence[str]) -> list[dict[str, object]]:
        return [dict(structlog.contextvars.get_contextvars()) for _ in items]

    queue: FairQueue[str, dict[str, object]] = FairQueue(work, QueueLimits(1, 1, 9, 9.0))

    async def ask(scan: str) -> dict[str, object]:
        with structlog.contextvars.bound_contextvars(scan=scan):
            return await queue.ask("acme", scan)

    assert await asyncio.gather(*map(ask, "abc")) == [{}, {}, {}]


class Receiver(recognition_pb2_grpc.RecognitionServicer):
    target = ""
    metadata: dict[str, object]

    def Scan(
        self, request: recognition_pb2.ScanRequest, context: grpc.ServicerContext
    ) -> recognition_pb2.ScanResponse:
        self.metadata = dict(context.invocation_metadata())
        return recognition_pb2.ScanResponse()


def test_the_client_passes_on_the_span_that_it_is_called_in() -> None:
    tracer = TracerProvider().get_tracer("test")
    register = recognition_pb2_grpc.add_RecognitionServicer_to_server
    with served(Receiver(), register) as receiver, Client(receiver.target, key="key") as client:
        client.scan(b"photo")
        assert "traceparent" not in receiver.metadata
        with tracer.start_as_current_span("a span of the caller's") as span:
            client.scan(b"photo")
        sent = str(receiver.metadata["traceparent"])
        assert sent.split("-")[1:3] == [
            trace.format_trace_id(span.get_span_context().trace_id),
            trace.format_span_id(span.get_span_context().span_id),
        ]
        assert receiver.metadata["authorization"] == "Bearer key"
