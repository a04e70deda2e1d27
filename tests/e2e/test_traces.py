"""The trace of a scan, from the caller to the shard, as a collector gets it."""

import base64

from imagelink import Client, ImageLinkError
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, format_trace_id
from PIL import Image

from tests.e2e.collector import Collector, Received
from tests.e2e.harness import RunningServer, Tenant
from tests.e2e.pictures import artworks, encoded, photo_of, strangers

MARK = b"A-MARK-IN-THE-TRACED-IMAGE"
# The queue's begin is told by another clock.
SKEW = 50_000_000
TRACER = TracerProvider().get_tracer("test")


def scanned(client: Client, photo: bytes) -> tuple[str, Span]:
    """Scans within a span of the caller's; the scan's id or the reason that it failed."""
    with TRACER.start_as_current_span("the caller's") as span:
        try:
            return client.scan(photo).scan_id, span
        except ImageLinkError as error:
            return error.reason, span


def trace_id(span: Span) -> bytes:
    return span.get_span_context().trace_id.to_bytes(16, "big")


def tree(spans: list[Received], parent: bytes) -> dict[str, object]:
    """The names of the spans below one, and of those below them."""
    children = [each for each in spans if each.span.parent_span_id == parent]
    assert len({child.span.name for child in children}) == len(children)
    return {child.span.name: tree(spans, child.span.span_id) for child in children}


def test_a_scan_is_traced_from_its_caller_to_the_shard(
    server: RunningServer, tenant: Tenant, collector: Collector
) -> None:
    tenant.client.register(encoded(artworks()[0]), link="https://example.com/")
    photo = Image.fromarray(photo_of(strangers()[0]).photo)
    scan_id, caller = scanned(tenant.client, encoded(photo, comment=MARK))
    damaged = encoded(photo, comment=MARK)[:2000]
    reason, of_damaged = scanned(tenant.client, damaged)
    assert reason == "IMAGE_INVALID"

    spans = collector.trace(trace_id(caller), until="Scan")
    shard = {"shard.search": {}}
    assert tree(spans, caller.get_span_context().span_id.to_bytes(8, "big")) == {
        "Scan": {
            "scan": {
                "queue": {},
                "decode": {},
                "features": {},
                "search": shard,
                "fine_features": {},
                "fine_search": shard,
            }
        }
    }
    by_name = {each.span.name: each for each in spans}
    told = by_name["scan"].attributes
    assert told.pop("imagelink.outcome") in {"NOTHING_SIMILAR", "NOT_VERIFIED", "AMBIGUOUS"}
    assert told.pop("imagelink.model_version")
    assert told == {
        "imagelink.publisher": tenant.id,
        "imagelink.scan_id": scan_id,
        "imagelink.batch_size": 1,
        "imagelink.gallery_version": 1,
    }
    assert by_name["scan"].service == "imagelink-scanner"
    assert by_name["shard.search"].service == "imagelink-shard"
    scan = by_name["scan"].span
    stages = [each.span for each in spans if each.span.name not in {"Scan", "scan"}]
    assert all(
        scan.start_time_unix_nano - SKEW
        <= each.start_time_unix_nano
        < each.end_time_unix_nano
        <= scan.end_time_unix_nano + SKEW
        for each in stages
    )
    (failed,) = (
        each
        for each in collector.trace(trace_id(of_damaged), until="Scan")
        if each.span.name == "scan"
    )
    assert failed.attributes["imagelink.outcome"] == "IMAGE_INVALID"

    sent = b"".join(collector.messages)
    key = tenant.publish_key.split("_", 2)[2].encode()
    assert [each for each in (key, MARK, base64.b64encode(MARK)) if each in sent] == []
    _logged(server, scan_id, caller)


def _logged(server: RunningServer, scan_id: str, caller: Span) -> None:
    """The line of a scan has its id and that of its trace."""
    logs = "".join(file.read_text(errors="replace") for file in server.log_files)
    (line,) = (line for line in logs.splitlines() if scan_id in line)
    assert f"scan={scan_id}" in line
    assert f"trace={format_trace_id(caller.get_span_context().trace_id)}" in line
