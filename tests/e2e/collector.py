"""What a server sends its traces to: OTLP over gRPC, as OpenTelemetry's own collector takes it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SECONDS = 20
# Of spans that end later than others, and come in another message.
QUIET_SECONDS = 1.0


@dataclass(frozen=True)
class Received:
    """A span, and the ``service.name`` of the process that made it."""

    service: str
    span: Span

    @property
    def attributes(self) -> dict[str, str | int]:
        return {
            each.key: each.value.string_value or each.value.int_value
            for each in self.span.attributes
        }


@dataclass
class Collector(service_grpc.TraceServiceServicer):
    """Keeps the spans that it gets, and their messages."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)

    def Export(
        self, request: service.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> service.ExportTraceServiceResponse:
        self.messages.append(request.SerializeToString())
        for process in request.resource_spans:
            names = {each.key: each.value.string_value for each in process.resource.attributes}
            self.spans += [
                Received(names["service.name"], span)
                for scope in process.scope_spans
                for span in scope.spans
            ]
        return service.ExportTraceServiceResponse()

    def trace(self, trace_id: bytes, until: str) -> list[Received]:
        """The spans of a trace, once one of that name is there, and no more come."""
        deadline, found = time.monotonic() + SECONDS, list[Received]()
        while time.monotonic() < deadline:
            before = len(found)
            found = [each for each in self.spans if each.span.trace_id == trace_id]
            if len(found) == before and any(each.span.name == until for each in found):
                return found
            time.sleep(QUIET_SECONDS)
        raise AssertionError(f"No span '{until}' came within {SECONDS} s, but {found}")


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    service_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://localhost:{server.add_insecure_port('localhost:0')}"
    server.start()
    yield collector
    server.stop(0).wait()
