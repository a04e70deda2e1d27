"""Traces through OpenTelemetry, where the settings say who takes them; else none are made.

Scans go through the stages of a batch together. Each has a span of the stage in its own trace, as long
as the batch took. Spans have ids, counts and the names of outcomes: never an image or a key, nor the
text of an error, which could quote one.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import grpc
from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bind_contextvars

from indexing.errors import ImageLinkError
from indexing.recognition import Recognition
from server.settings import Settings
from server.status import code, reason

# By OpenTelemetry's conventions for gRPC, what goes wrong otherwise is no error of a server.
FAULTS = {
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
}
BATCH_SIZE, OUTCOME = "imagelink.batch_size", "imagelink.outcome"
W3C = TraceContextTextMapPropagator()

_tracer: Tracer | None = None


def begin(settings: Settings, component: str, replica: str) -> None:
    """Has this process send traces, if the settings say where to."""
    if settings.otlp_endpoint is None:
        return
    # Slow to import, and needless where nobody takes traces.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider as Provider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    names = {"service.name": f"imagelink-{component}", "service.instance.id": replica}
    provider = Provider(ParentBasedTraceIdRatio(settings.trace_ratio), Resource.create(names))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.otlp_endpoint)))
    use(provider)


def use(provider: TracerProvider | None) -> None:
    """Has spans of this process made by a provider, or by none."""
    global _tracer
    _tracer = provider.get_tracer("imagelink") if provider else None


@contextmanager
def call(method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[None]:
    """Traces a gRPC call, in the trace that its caller names or in a new one.

    The span stays current, and log lines keep the trace's id, until the task of the call ends: a
    stream that breaks off is closed in another task, which could not take that back.
    """
    if _tracer is None:
        yield
        return
    given = {name: value for name, value in metadata if isinstance(value, str)}
    parent = W3C.extract(given, Context())
    span = _tracer.start_span(method, parent, SpanKind.SERVER)
    attach(set_span_in_context(span, parent))
    if _sampled(span):
        bind_contextvars(trace=format_trace_id(span.get_span_context().trace_id))
    with _ended([span]):
        yield


@contextmanager
def scan(publisher: str, scan_id: str) -> Iterator[Span]:
    """The span of a scan, in the current trace."""
    if _tracer is None:
        yield INVALID_SPAN
        return
    names = {"imagelink.publisher": publisher, "imagelink.scan_id": scan_id}
    span = _tracer.start_span("scan", attributes=names)
    with _ended([span]):
        yield span


def begun(span: Span, batch_size: int, waited: float) -> None:
    """Says in the span of a scan that its batch is begun, after so many seconds in the queue."""
    span.set_attribute(BATCH_SIZE, batch_size)
    passed("queue", [span], time.time_ns() - int(waited * 1e9))


def answered(span: Span, found: Recognition) -> None:
    """Says in the span of a scan what was found."""
    if span.is_recording():
        span.set_attribute(OUTCOME, found.outcome)
        span.set_attribute("imagelink.model_version", found.model_version)
        span.set_attribute("imagelink.gallery_version", found.gallery_version)


def failed(span: Span, error: Exception) -> None:
    """Says in a span what went wrong, in one word."""
    if not span.is_recording():
        return
    if isinstance(error, ImageLinkError):
        why, fault = reason(error), code(error) in FAULTS
    else:
        why, fault = type(error).__name__, True
    span.set_attribute(OUTCOME, why)
    span.set_attribute("error.type", why)
    if fault:
        span.set_status(Status(StatusCode.ERROR, why))


@contextmanager
def stage(
    name: str, parents: Sequence[Span], kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[list[Span]]:
    """The spans of a stage that scans go through together, one below that of each."""
    spans = [_below(parent, name, len(parents), kind) for parent in parents]
    with _ended(spans):
        yield spans


def passed(name: str, parents: Sequence[Span], since: int) -> None:
    """A stage that ends now, and began at ``since`` (``time.time_ns``)."""
    for parent in parents:
        _below(parent, name, len(parents), since=since).end()


def named(span: Span) -> str:
    """What another process needs to put spans below this one; empty where it is not to."""
    if not _sampled(span):
        return ""
    headers: dict[str, str] = {}
    W3C.inject(headers, set_span_in_context(span, Context()))
    return headers["traceparent"]


def elsewhere(name: str) -> Span:
    """The span of another process that ``named`` tells of."""
    return get_current_span(W3C.extract({"traceparent": name}, Context())) if name else INVALID_SPAN


def _sampled(span: Span) -> bool:
    return span.get_span_context().trace_flags.sampled


@contextmanager
def _ended(spans: Sequence[Span]) -> Iterator[None]:
    """Ends spans after the block, which they say of if it fails."""
    try:
        yield
    except asyncio.CancelledError:
        for span in spans:
            span.set_attribute(OUTCOME, "CANCELLED")
        raise
    except Exception as error:
        for span in spans:
            failed(span, error)
        raise
    finally:
        for span in spans:
            span.end()


def _below(
    parent: Span,
    name: str,
    batch_size: int,
    kind: SpanKind = SpanKind.INTERNAL,
    since: int | None = None,
) -> Span:
    if _tracer is None or not _sampled(parent):
        return INVALID_SPAN
    parents = set_span_in_context(parent, Context())
    return _tracer.start_span(name, parents, kind, {BATCH_SIZE: batch_size}, start_time=since)
