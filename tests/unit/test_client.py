"""The client against a small real gRPC server, written by hand."""

import asyncio
import json
import pickle
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import imagelink
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from imagelink import AsyncClient, Client, NoMatchReason, Role
from imagelink._channel import METHODS, channel_options
from imagelink._conversions import no_match_reason
from imagelink.cli import app
from imagelink.cli._files import image_files, slug
from imagelink.v1 import (
    gallery_pb2,
    gallery_pb2_grpc,
    model_pb2,
    placement_pb2,
    publisher_pb2,
    publisher_pb2_grpc,
    recognition_pb2,
    recognition_pb2_grpc,
)
from typer.testing import CliRunner, Result

from tests.unit.fake_servers import served

KEY = "il_test_0123456789"
IDS = ("a", "b", "c", "d", "e")
CODES = grpc.StatusCode


def refuse(context: grpc.ServicerContext, code: CODES, message: str, *details: Any) -> None:
    packed = []
    for detail in details:
        packed.append(Packed())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=code.value[0], message=message, details=packed)
    context.abort_with_status(rpc_status.to_status(status))


def info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="imagelink")


def reference(name: str) -> gallery_pb2.Reference:
    return gallery_pb2.Reference(name=name, link=f"https://x.example/{name}", active=True)


class Server(
    recognition_pb2_grpc.RecognitionServicer,
    gallery_pb2_grpc.GalleryServicer,
    publisher_pb2_grpc.PublishersServicer,
):
    """Remembers the requests; fails the calls named in ``unavailable`` that often."""

    def __init__(self) -> None:
        self.target = ""
        self.requests: list[Any] = []
        self.keys: set[str] = set()
        self.peers: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.unavailable: Counter[str] = Counter()
        self.overloaded = 0

    def last(self) -> Any:
        return self.requests[-1]

    def receive(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.calls[method] += 1
        key = dict(context.invocation_metadata()).get("authorization", "")
        self.keys.add(key)
        self.peers.add(context.peer())
        if key != f"Bearer {KEY}":
            refuse(
                context, CODES.UNAUTHENTICATED, "The API key is unknown.", info("API_KEY_INVALID")
            )
        if self.unavailable[method] > 0:
            self.unavailable[method] -= 1
            refuse(context, CODES.UNAVAILABLE, "No database.", info("DATABASE_UNAVAILABLE"))

    def Scan(self, request: Any, context: Any) -> Any:
        self.receive("Scan", request, context)
        if request.image == b"nothing":
            reason = recognition_pb2.NO_MATCH_REASON_NOTHING_SIMILAR
            return recognition_pb2.ScanResponse(no_match_reason=reason, gallery_version=4)
        if request.image == b"slow":
            time.sleep(0.5)
        if request.image == b"garbage":
            refuse(
                context,
                CODES.INVALID_ARGUMENT,
                "The image is not a JPEG.",
                info("IMAGE_INVALID"),
                error_details_pb2.BadRequest(
                    field_violations=[{"field": "image", "description": "not a JPEG"}]
                ),
            )
        match = recognition_pb2.Match(
            reference="publishers/acme/references/poster",
            link="https://x.example/poster",
            metadata={"room": "3"},
            probability=0.75,
            location={"top_left": {"x": 1, "y": 2}, "bottom_right": {"x": 5, "y": 7}},
            evidence={"inliers": 42, "similarity": 0.5},
        )
        timing: Any = {"stage": "decode", "duration": Duration(nanos=2_500_000)}
        return recognition_pb2.ScanResponse(
            matches=[match], gallery_version=4, scan_id="s1", model_version="m1", timings=[timing]
        )

    def Register(self, request: Any, context: Any) -> Any:
        self.receive("Register", request, context)
        if request.reference_id == "taken":
            refuse(context, CODES.ALREADY_EXISTS, "It exists.", info("REFERENCE_ALREADY_EXISTS"))
        if request.image == b"plain":
            refuse(context, CODES.INVALID_ARGUMENT, "Too plain.", info("IMAGE_TOO_PLAIN"))
        if request.image == b"too many":
            refuse(context, CODES.RESOURCE_EXHAUSTED, "Full.", info("REFERENCE_QUOTA_EXCEEDED"))
        if self.overloaded > 0:
            self.overloaded -= 1
            retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=50_000_000))
            refuse(context, CODES.RESOURCE_EXHAUSTED, "Busy.", info("OVERLOADED"), retry)
        name = f"publishers/acme/references/{request.reference_id}"
        return gallery_pb2.RegisterResponse(reference=reference(name), gallery_version=9)

    def GetReference(self, request: Any, context: Any) -> Any:
        self.receive("GetReference", request, context)
        if request.name.endswith("missing"):
            refuse(
                context,
                CODES.NOT_FOUND,
                "There is no\nsuch reference.",
                info("REFERENCE_NOT_FOUND"),
            )
        return reference(request.name)

    def ListReferences(self, request: Any, context: Any) -> Any:
        self.receive("ListReferences", request, context)
        start = int(request.page_token or 0)
        end = start + request.page_size
        return gallery_pb2.ListReferencesResponse(
            references=[reference(f"publishers/acme/references/{name}") for name in IDS[start:end]],
            next_page_token=str(end) if end < len(IDS) else "",
        )

    def UpdateReference(self, request: Any, context: Any) -> Any:
        self.receive("UpdateReference", request, context)
        return gallery_pb2.UpdateReferenceResponse(reference=request.reference, gallery_version=5)

    def DeleteReference(self, request: Any, context: Any) -> Any:
        self.receive("DeleteReference", request, context)
        return gallery_pb2.DeleteReferenceResponse(gallery_version=6)

    def CreatePublisher(self, request: Any, context: Any) -> Any:
        self.receive("CreatePublisher", request, context)
        return request.publisher

    def UpdatePublisher(self, request: Any, context: Any) -> Any:
        self.receive("UpdatePublisher", request, context)
        return request.publisher

    def ListPublishers(self, request: Any, context: Any) -> Any:
        self.receive("ListPublishers", request, context)
        return publisher_pb2.ListPublishersResponse(publishers=[{"name": "publishers/acme"}])

    def CreateApiKey(self, request: Any, context: Any) -> Any:
        self.receive("CreateApiKey", request, context)
        key = publisher_pb2.ApiKey(name=f"{request.parent}/apiKeys/k1")
        key.MergeFrom(request.api_key)
        return publisher_pb2.CreateApiKeyResponse(api_key=key, key="il_new_secret")


@pytest.fixture
def server() -> Iterator[Server]:
    with served(
        Server(),
        recognition_pb2_grpc.add_RecognitionServicer_to_server,
        gallery_pb2_grpc.add_GalleryServicer_to_server,
        publisher_pb2_grpc.add_PublishersServicer_to_server,
    ) as servicer:
        yield servicer


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.target, key=KEY) as client:
        yield client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return written(tmp_path / "photo.jpg", b"photo")


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def run(server: Server, *arguments: object, key: str = KEY) -> Result:
    words = ["--target", server.target, *map(str, arguments)]
    return CliRunner().invoke(app, words, env={"IMAGELINK_KEY": key, "COLUMNS": "200"})


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


# What is called


def test_the_table_of_methods_is_that_of_the_api() -> None:
    files = recognition_pb2, gallery_pb2, publisher_pb2, placement_pb2, model_pb2
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    expected = {
        f"/{service.full_name}/{method.name}": method.output_type.full_name
        for service in services
        for method in service.methods
    }
    assert {each.path: each.answer.DESCRIPTOR.full_name for each in METHODS} == expected


def test_every_reason_and_role_of_the_api_has_its_value() -> None:
    reasons = [no_match_reason(value) for value in recognition_pb2.NoMatchReason.values()]
    assert reasons[0] is None
    assert set(reasons[1:]) == set(NoMatchReason) - {NoMatchReason.UNKNOWN}
    assert no_match_reason(999) is NoMatchReason.UNKNOWN
    assert all(reason.explanation for reason in NoMatchReason)
    roles = {name.removeprefix("ROLE_") for name in publisher_pb2.Role.keys()}  # noqa: SIM118
    assert roles - {"UNSPECIFIED"} == set(Role.__members__) - {"UNKNOWN"}


# Answers


def test_scan_sends_the_key_and_answers_typed_values(server: Server, client: Client) -> None:
    result = client.scan(b"photo", min_gallery_version=3)
    assert server.keys == {f"Bearer {KEY}"}
    assert server.last().min_gallery_version == 3
    assert result
    assert result.best is result.matches[0]
    assert result.best.reference_id == "poster"
    assert result.best.metadata == {"room": "3"}
    assert result.best.location.bottom_right == imagelink.Point(5, 7)
    assert result.best.evidence.inliers == 42
    assert result.best.evidence.similarity == 0.5
    assert result.no_match_reason is None
    assert result.timings == {"decode": 0.0025}


async def test_each_client_has_a_connection_of_its_own(server: Server) -> None:
    with Client(server.target, key=KEY) as one, Client(server.target, key=KEY) as other:
        for client in (one, other, one):
            client.scan(b"photo")
    async with AsyncClient(server.target, key=KEY) as third:
        await third.scan(b"photo")
    assert len(server.peers) == 3


def test_several_addresses_are_one_server_with_a_name_of_one() -> None:
    options = dict(channel_options("ipv4:10.0.0.1:9000,10.0.0.2:9000"))
    assert options["grpc.default_authority"] == "10.0.0.1:9000"
    assert "grpc.default_authority" not in dict(channel_options("dns:///imagelink:9000"))


def test_a_scan_that_finds_nothing_is_false_and_says_why(client: Client) -> None:
    result = client.scan(b"nothing")
    assert not result
    assert result.best is None
    assert result.no_match_reason is NoMatchReason.NOTHING_SIMILAR


def test_an_image_may_be_a_path(server: Server, client: Client, photo: Path) -> None:
    client.scan(photo)
    client.scan(str(photo))
    assert [request.image for request in server.requests] == [b"photo", b"photo"]


def test_an_image_of_8_mib_passes(server: Server, client: Client) -> None:
    client.scan(bytes(8 * 1024 * 1024))
    assert len(server.last().image) == 8 * 1024 * 1024


def test_register_makes_a_request_id_for_each_call(server: Server, client: Client) -> None:
    for _ in range(2):
        result = client.register(b"x", link="https://x.example", metadata={"a": "b"})
    first, second = server.requests
    assert first.request_id != second.request_id
    assert len(first.request_id) == 36
    assert first.parent == ""
    assert first.reference.metadata == {"a": "b"}
    assert result.gallery_version == 9
    client.register(b"x", link="https://x.example", publisher="acme", request_id="mine")
    assert (server.last().parent, server.last().request_id) == ("publishers/acme", "mine")


def test_an_update_masks_what_is_given(server: Server, client: Client) -> None:
    client.update_reference("poster", publisher="acme", active=False, metadata={})
    assert server.last().reference.name == "publishers/acme/references/poster"
    assert list(server.last().update_mask.paths) == ["metadata", "active"]
    client.update_publisher("publishers/acme", suspended=False)
    assert server.last().publisher.name == "publishers/acme"
    assert list(server.last().update_mask.paths) == ["suspended"]


def test_a_bare_reference_id_needs_a_publisher(client: Client) -> None:
    with pytest.raises(ValueError, match="give the publisher"):
        client.get_reference("poster")
    assert client.get_reference("publishers/acme/references/poster").id == "poster"


def test_a_key_is_created_with_its_role(server: Server, client: Client) -> None:
    described, key = client.create_api_key("acme", role="publish")
    assert (described.name, key) == ("publishers/acme/apiKeys/k1", "il_new_secret")
    assert described.role is Role.PUBLISH
    assert described.revoke_time is None


def test_lists_follow_the_pages(server: Server, client: Client) -> None:
    assert [each.id for each in client.list_references(page_size=2)] == list(IDS)
    assert [request.page_token for request in server.requests] == ["", "2", "4"]


async def test_async_lists_follow_the_pages(server: Server) -> None:
    async with AsyncClient(server.target, key=KEY) as client:
        found = [each.id async for each in client.list_references(page_size=2)]
    assert found == list(IDS)


async def test_async_calls_are_those_of_the_sync_client(server: Server, photo: Path) -> None:
    async with AsyncClient(server.target, key=KEY) as client:
        results = await asyncio.gather(client.scan(photo), client.scan(b"nothing"))
        deleted = await client.delete_reference("publishers/acme/references/a")
    assert [bool(result) for result in results] == [True, False]
    assert deleted.gallery_version == 6
    assert server.keys == {f"Bearer {KEY}"}


def test_both_clients_have_the_same_methods() -> None:
    def public(of: type) -> set[str]:
        return {name for name in dir(of) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


def test_an_async_client_may_be_made_before_its_event_loop_runs(server: Server) -> None:
    client = AsyncClient(server.target, key=KEY)

    async def scan_and_close() -> bool:
        async with client:
            return bool(await client.scan(b"photo"))

    with asyncio.Runner() as runner:
        assert runner.run(scan_and_close())


# Errors


def check_garbage(error: imagelink.ImageLinkError) -> None:
    assert error.code is CODES.INVALID_ARGUMENT
    assert error.reason == "IMAGE_INVALID"
    assert str(error) == error.message == "The image is not a JPEG."
    assert error.field_violations == (imagelink.FieldViolation("image", "not a JPEG"),)
    assert error.retry_after is None


def test_error_details_are_translated(client: Client) -> None:
    with pytest.raises(imagelink.InvalidArgument) as caught:
        client.scan(b"garbage")
    check_garbage(caught.value)
    check_garbage(pickle.loads(pickle.dumps(caught.value)))


async def test_async_error_details_are_translated(server: Server) -> None:
    async with AsyncClient(server.target, key=KEY) as client:
        with pytest.raises(imagelink.InvalidArgument) as caught:
            await client.scan(b"garbage")
        check_garbage(caught.value)
        server.overloaded = 1
        with pytest.raises(imagelink.ResourceExhausted) as exhausted:
            await client.register(b"x", link="https://x.example")
        assert exhausted.value.retry_after == 0.05


def test_retry_info_is_translated(server: Server, client: Client) -> None:
    server.overloaded = 1
    with pytest.raises(imagelink.ResourceExhausted) as caught:
        client.register(b"x", link="https://x.example")
    assert caught.value.retry_after == 0.05
    assert caught.value.reason == "OVERLOADED"


def test_each_status_has_its_class(server: Server, client: Client) -> None:
    with pytest.raises(imagelink.NotFound, match="no\nsuch"):
        client.get_reference("publishers/acme/references/missing")
    with pytest.raises(imagelink.AlreadyExists):
        client.register(b"x", link="https://x.example", reference_id="taken")
    with pytest.raises(imagelink.DeadlineExceeded):
        client.scan(b"slow", timeout=0.05)
    with pytest.raises(imagelink.ImageLinkError) as caught:
        client.get_publisher("acme")
    assert type(caught.value) is imagelink.ImageLinkError
    assert caught.value.code is CODES.UNIMPLEMENTED
    with Client(server.target, key="wrong") as other, pytest.raises(imagelink.Unauthenticated):
        other.scan(b"photo")


@pytest.mark.parametrize("key", ["", "a\nb", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str) -> None:
    with pytest.raises(ValueError, match="API key is empty or has") as caught:
        Client(key=key)
    assert not key or key not in str(caught.value)


# Retries


def test_scan_and_register_are_retried_whatever_their_size(server: Server, client: Client) -> None:
    image = bytes(1024 * 1024)
    server.unavailable.update(Scan=2, Register=2)
    assert client.scan(image)
    assert client.register(image, link="https://x.example").gallery_version == 9
    assert server.calls == {"Scan": 3, "Register": 3}
    assert len({each.request_id for each in server.requests[3:]}) == 1


def test_a_delete_is_not_retried(server: Server, client: Client) -> None:
    server.unavailable.update(DeleteReference=1)
    with pytest.raises(imagelink.Unavailable):
        client.delete_reference("publishers/acme/references/a")
    assert server.calls["DeleteReference"] == 1


async def test_async_scans_are_retried_four_times_in_all(server: Server) -> None:
    server.unavailable.update(Scan=100)
    async with AsyncClient(server.target, key=KEY) as client:
        with pytest.raises(imagelink.Unavailable) as caught:
            await client.scan(b"photo")
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    assert server.calls["Scan"] == 4


# The command line


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("Spring Sale (2)", "spring-sale-2"),
        ("Ärger_über.Öl", "arger-uber-ol"),
        ("--x--", "x"),
        ("a" * 62 + "-b", "a" * 62),
        ("a" * 100, "a" * 63),
    ],
)
def test_slug(stem: str, expected: str) -> None:
    assert slug(stem) == expected


def test_names_without_latin_letters_have_ids_of_their_own() -> None:
    assert slug("海报") != slug("绘画")
    assert slug("海报").startswith("image-")


def test_folders_give_their_images(tmp_path: Path) -> None:
    names = "b.JPG", "sub/a.png", "notes.txt", ".hidden.jpg"
    b, a, notes, _ = (written(tmp_path / name, b"") for name in names)
    assert image_files([tmp_path, notes, b]) == [b, a, notes]


def test_scan_prints_a_table(server: Server, tmp_path: Path) -> None:
    found = written(tmp_path / "a[red].jpg", b"photo")
    nothing = written(tmp_path / "b.jpg", b"nothing")
    result = run(server, "scan", found, nothing)
    assert result.exit_code == 0, result.output
    assert "a[red].jpg" in result.stdout
    assert "0.750" in result.stdout
    assert "https://x.example/poster" in result.stdout
    assert "no reference resembles the photo" in result.stdout


def test_scan_goes_on_past_a_bad_file(server: Server, tmp_path: Path, photo: Path) -> None:
    bad = written(tmp_path / "bad.jpg", b"garbage")
    missing = tmp_path / "missing.jpg"
    result = run(server, "scan", bad, missing, photo)
    assert result.exit_code == 1
    assert f"{bad}: The image is not a JPEG." in result.stderr
    assert f"{missing}: No such file or directory" in result.stderr
    assert "poster" in result.stdout


def test_scan_prints_json_lines(server: Server, tmp_path: Path, photo: Path) -> None:
    bad = written(tmp_path / "bad.jpg", b"garbage")
    result = run(server, "scan", "--json", photo, bad)
    assert result.exit_code == 1
    first, second = lines(result.stdout)
    assert first["matches"][0]["link"] == "https://x.example/poster"
    assert second["error"] == "The image is not a JPEG."


def test_register_goes_on_and_lists_what_failed(server: Server, tmp_path: Path) -> None:
    for name in ("New One.jpg", "taken.jpg", "New-one.png"):
        written(tmp_path / name, b"x")
    written(tmp_path / "plain.jpg", b"plain")
    result = run(server, "register", tmp_path, "--link-template", "https://x.example/{name}")
    assert result.exit_code == 1
    assert "1 registered, 1 already registered, 2 failed" in result.stdout
    assert "plain.jpg: Too plain." in result.stderr
    assert "is that of" in result.stderr
    links = {each.reference_id: each.reference.link for each in server.requests[1:]}
    assert links["new-one"] == "https://x.example/new-one"


def test_registering_again_is_no_failure(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path / "taken.jpg", b"x")
    result = run(server, "register", "--json", file, "--link", "https://x.example")
    assert result.exit_code == 0
    assert lines(result.stdout)[0]["status"] == "already_registered"


def test_register_comes_back_when_the_server_asks(server: Server, photo: Path) -> None:
    server.overloaded = 2
    result = run(server, "register", photo, "--link", "https://x.example")
    assert result.exit_code == 0, result.output
    assert len({each.request_id for each in server.requests[1:]}) == 1
    assert server.calls["Register"] == 3


def test_register_does_not_come_back_where_there_is_no_room(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path / "more.jpg", b"too many")
    result = run(server, "register", file, "--link", "https://x.example")
    assert result.exit_code == 1
    assert "Full." in result.output
    with (
        Client(server.target, key=KEY) as client,
        pytest.raises(imagelink.ResourceExhausted) as caught,
    ):
        client.register(b"too many", link="https://x.example")
    assert (caught.value.reason, caught.value.retry_after) == ("REFERENCE_QUOTA_EXCEEDED", None)
    assert server.calls["Register"] == 2


@pytest.mark.parametrize(
    ("arguments", "key", "sentence"),
    [
        (["publisher", "list"], "", "There is no API key: set IMAGELINK_KEY or give --key."),
        (["reference", "list"], "wrong", "The API key is unknown."),
        (["scan", "{photo}"], "wrong", "The API key is unknown."),
        (["register", "{photo}", "--link", "x:y"], "wrong", "The API key is unknown."),
        (["register", "{photo}"], KEY, "Give either --link-template or --link."),
        (
            ["reference", "show", "publishers/p/references/missing"],
            KEY,
            "There is no such reference.",
        ),
        (["reference", "update", "a"], KEY, "There is nothing to change: "),
        (["reference", "show", "a"], KEY, "The bare id 'a' does not say whose it is: "),
    ],
)
def test_an_error_is_one_sentence(
    server: Server, photo: Path, arguments: list[str], key: str, sentence: str
) -> None:
    result = run(server, *(word.format(photo=photo) for word in arguments), key=key)
    assert result.exit_code == 1
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_an_unreachable_server_is_named() -> None:
    words = ["--target", "localhost:1", "--key", KEY, "publisher", "delete", "acme", "--yes"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert result.stderr.startswith("The server at localhost:1 cannot be reached")
    assert KEY not in result.output


def test_the_key_is_never_shown(server: Server) -> None:
    for arguments in (["--help"], ["key", "create", "acme"], ["scan", "missing.jpg"], ["scan"]):
        assert KEY not in run(server, *arguments).output


def test_a_new_key_is_alone_on_stdout(server: Server) -> None:
    assert run(server, "key", "create", "acme").stdout == "il_new_secret\n"
    assert server.last().api_key.role == publisher_pb2.ROLE_SCAN
    assert not server.last().api_key.HasField("expire_time")


def test_a_new_key_may_expire(server: Server) -> None:
    (made,) = lines(run(server, "key", "create", "acme", "--days", "30", "--json").stdout)
    expiry = server.last().api_key.expire_time.ToDatetime(tzinfo=UTC)
    assert expiry.isoformat() == made["expire_time"]
    assert timedelta(days=29.9) < expiry - datetime.now(UTC) < timedelta(days=30)


def test_a_key_expires_at_no_time_without_a_zone(server: Server) -> None:
    naive = datetime(2099, 1, 1)
    with Client(server.target, key=KEY) as client, pytest.raises(ValueError, match="time zone"):
        client.create_api_key("acme", expire_time=naive)


def test_references_are_listed_shown_and_changed(server: Server) -> None:
    assert [each["link"][-1] for each in lines(run(server, "reference", "list", "--json").stdout)]
    assert "publishers/acme/references/c" in run(server, "reference", "list").stdout
    shown = run(server, "reference", "show", "a", "--publisher", "acme")
    assert "publishers/acme/references/a" in shown.stdout
    run(server, "reference", "update", "a", "--publisher", "acme", "--metadata", "k=v=w")
    assert server.last().reference.metadata == {"k": "v=w"}
    assert "version 6" in run(server, "reference", "delete", "a", "--publisher=acme", "-y").stdout


def test_publishers_are_listed_suspended_and_resumed(server: Server) -> None:
    assert "acme" in run(server, "publisher", "list").stdout
    assert "suspended" in run(server, "publisher", "suspend", "acme").stdout
    assert server.last().publisher.suspended
    assert "active" in run(server, "publisher", "resume", "acme").stdout
    assert not server.last().publisher.suspended


def test_a_publisher_is_weighed(server: Server) -> None:
    told = run(server, "publisher", "update", "acme", "--scan-weight=3").stdout
    assert re.search(r"scan weight +3\n", told)
    assert list(server.last().update_mask.paths) == ["scan_weight"]


def test_a_publisher_agrees_to_have_scans_kept_and_withdraws(server: Server) -> None:
    run(server, "publisher", "create", "acme", "--max-kept-scans=500")
    assert server.last().publisher.max_kept_scans == 500
    for count in (1000, 0):
        told = run(server, "publisher", "update", "acme", f"--max-kept-scans={count}").stdout
        assert re.search(rf"max kept scans +{count}\n", told)
        assert list(server.last().update_mask.paths) == ["max_kept_scans"]


def test_a_publisher_gets_quotas_and_loses_them(server: Server) -> None:
    run(server, "publisher", "create", "acme", "--max-scans-per-second=0.5", "--max-references=7")
    created = server.last().publisher
    assert (created.max_scans_per_second, created.max_references) == (0.5, 7)
    quotas = ("--max-scans-per-second=2.5", "--max-references=5000")
    bounded = run(server, "publisher", "update", "acme", *quotas).stdout
    assert re.search(r"max scans per second +2.5\n", bounded)
    assert re.search(r"max references +5,000\n", bounded)
    assert list(server.last().update_mask.paths) == ["max_scans_per_second", "max_references"]
    lifted = run(server, "publisher", "update", "acme", "--max-references=0").stdout
    assert re.search(r"max references +no limit\n", lifted)
    assert list(server.last().update_mask.paths) == ["max_references"]
