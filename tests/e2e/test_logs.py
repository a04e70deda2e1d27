"""What a server writes into its logs, and what never: keys and images."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from imagelink import ImageLinkError, Registration, Role
from imagelink.v1 import gallery_pb2, model_pb2, placement_pb2, publisher_pb2, recognition_pb2
from PIL import Image

from tests.e2e.harness import RunningServer, Tenant, bearer, refused
from tests.e2e.pictures import artworks, encoded

Code = grpc.StatusCode
LINK = "https://example.com/"
MARK = b"A-MARK-IN-THE-IMAGE"
MARKED = encoded(Image.fromarray(artworks()[0]), comment=MARK)
DAMAGED = MARKED[: len(MARKED) // 2]
WRONG_KEY = "il_0123456789abcdef_" + "WRONG" * 8
# What only reads, and AddShard, which takes nothing that could be wrong.
UNAUDITED = ("Get", "List", "Scan", "Explain", "Assess", "Preview", "AddShard")


def test_keys_and_images_are_in_no_log(
    server: RunningServer, tenant: Tenant, tmp_path: Path
) -> None:
    assert MARK in MARKED
    _call_everything(server, tenant, tmp_path / "acme.tar")
    with _broken_blobs(server), refused(Code.INTERNAL, "INTERNAL"):
        tenant.client.register(MARKED, link=LINK)
    logs = {file: file.read_bytes() for file in server.log_files}
    assert any(b"Traceback" in log for log in logs.values()), "The fault was not logged."
    keys = (tenant.publish_key, tenant.scan_key, server.operator_key, WRONG_KEY)
    # A line may be cut, so that a part of a secret says enough.
    secrets = {key.split("_", 2)[2][:16].encode() for key in keys}
    secrets |= {MARK, MARK.hex().encode(), base64.b64encode(MARKED)[300:330]}
    assert [(file, s) for file, log in logs.items() for s in secrets if s in log] == []


def _call_everything(server: RunningServer, tenant: Tenant, archive: Path) -> None:
    """Makes calls of every kind that carry keys or images, right ones and wrong ones."""
    client, operator = tenant.client, server.operator
    written = client.register(MARKED, link=LINK, reference_id="marked")
    assert client.scan(MARKED, min_gallery_version=written.gallery_version).best
    server.client(tenant.scan_key).scan(MARKED)
    client.explain(MARKED)
    client.assess_image(MARKED)
    client.add_image(written.reference.name, encoded(artworks()[1], comment=MARK))
    list(client.register_all([Registration(MARKED, link=LINK), Registration(DAMAGED, link=LINK)]))
    operator.export_gallery(tenant.id, archive)
    operator.import_gallery(tenant.id, archive)
    archive.write_bytes(archive.read_bytes()[:-2000])
    for call in (
        lambda: client.register(DAMAGED, link=LINK),
        lambda: client.scan(DAMAGED),
        lambda: client.register(MARKED, link=LINK, reference_id="marked"),
        lambda: client.register(MARKED, link=LINK, publisher=tenant.scan_key),
        lambda: client.get_reference(tenant.publish_key, publisher=tenant.id),
        lambda: server.client(WRONG_KEY).scan(MARKED),
        lambda: server.client(tenant.scan_key).register(MARKED, link=LINK),
        lambda: operator.import_gallery(tenant.id, archive),
        lambda: operator.revoke_api_key(tenant.scan_key, publisher=tenant.id),
        lambda: operator.create_publisher(WRONG_KEY),
    ):
        with pytest.raises(ImageLinkError):
            call()


@contextmanager
def _broken_blobs(server: RunningServer) -> Iterator[None]:
    """Where images are kept, no image can be kept: a fault of the server."""
    blobs, away = server.data / "blobs", server.data / "blobs.away"
    blobs.rename(away)
    blobs.touch()
    try:
        yield
    finally:
        blobs.unlink()
        away.rename(blobs)


def audit(server: RunningServer) -> list[dict[str, object]]:
    """The lines of the audit log, of all processes."""
    lines = [line for file in server.log_files for line in file.read_bytes().splitlines()]
    return [json.loads(line) for line in lines if b'"event": "audit"' in line]


def test_a_write_is_in_the_audit_log(server: RunningServer, tenant: Tenant) -> None:
    key, text = server.operator.create_api_key(tenant.id, role=Role.PUBLISH)
    with server.client(text) as client:
        written = client.register(MARKED, link=LINK, reference_id="poster")
        with suppress(ImageLinkError):
            client.register(MARKED, link=LINK, reference_id="poster")
        client.scan(MARKED)
    told = [line for line in audit(server) if line["key"] == key.id]
    assert [(line["method"], line["outcome"], line["resource"]) for line in told] == [
        ("Register", "OK", written.reference.name),
        ("Register", "REFERENCE_ALREADY_EXISTS", written.reference.name),
    ]
    assert {line["publisher"] for line in told} == {tenant.id}
    made = [line for line in audit(server) if line["resource"] == key.name]
    assert [(line["method"], line["key"], line["role"]) for line in made] == [
        ("CreateApiKey", "operator", "operate")
    ]


def test_every_method_that_writes_is_in_the_audit_log(
    server: RunningServer, tenant: Tenant, channel: grpc.Channel
) -> None:
    before = len(audit(server))
    files = recognition_pb2, gallery_pb2, publisher_pb2, placement_pb2, model_pb2
    called = set()
    for service in (s for f in files for s in f.DESCRIPTOR.services_by_name.values()):
        for method in service.methods:
            if method.name.startswith(UNAUDITED):
                continue
            key = tenant.publish_key if service.name == "Gallery" else server.operator_key
            _call_with_nothing(channel, method, key)
            called.add(method.name)
    told = audit(server)[before:]
    assert len(called) > 20
    assert {line["method"] for line in told} == called
    assert "OK" not in {line["outcome"] for line in told}


def _call_with_nothing(channel: grpc.Channel, method: MethodDescriptor, key: str) -> None:
    """Calls a method with an empty message, which is refused."""
    asked, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    streams = (
        "stream" if s else "unary" for s in (method.client_streaming, method.server_streaming)
    )
    call = getattr(channel, "_".join(streams))(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=asked.SerializeToString,
        response_deserializer=answered.FromString,
    )
    request = iter([asked()]) if method.client_streaming else asked()
    with suppress(grpc.RpcError):
        answer = call(request, metadata=bearer(key), timeout=30)
        if method.server_streaming:
            list(answer)
