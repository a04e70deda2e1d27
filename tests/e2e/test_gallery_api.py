"""Batches, images and filters on a real server."""

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from imagelink import Client, Registration
from imagelink.v1 import gallery_pb2, gallery_pb2_grpc

from tests.e2e.harness import RunningServer, Tenant, bearer, refused
from tests.e2e.pictures import artworks, encoded, patchwork, photo_of
from tests.e2e.test_cli import run

Code = grpc.StatusCode
LINK = "https://example.com/"


def an_item(name: str, image: bytes, **fields: object) -> gallery_pb2.RegisterRequest:
    request = gallery_pb2.RegisterRequest(
        reference_id=name, reference=gallery_pb2.Reference(link=LINK + name), image=image
    )
    request.MergeFrom(gallery_pb2.RegisterRequest(**fields))  # type: ignore[arg-type]
    return request


def requests(
    items: Iterable[gallery_pb2.RegisterRequest],
) -> Iterator[gallery_pb2.BatchRegisterRequest]:
    return (gallery_pb2.BatchRegisterRequest(item=item) for item in items)


def batch(
    channel: grpc.Channel, key: str, items: Iterable[gallery_pb2.RegisterRequest]
) -> dict[int, gallery_pb2.BatchRegisterResponse]:
    register = gallery_pb2_grpc.GalleryStub(channel).BatchRegister
    answers = list(register(requests(items), metadata=bearer(key), timeout=60))
    found = {answer.item_number: answer for answer in answers}
    assert len(found) == len(answers)
    return found


def reason_and_field(status: status_pb2.Status) -> tuple[int, str, str]:
    """The code, the reason and the refused field of an error in an answer."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        _ = detail.Unpack(info) or detail.Unpack(bad)
    fields = [violation.field for violation in bad.field_violations]
    assert info.domain == "imagelink"
    return status.code, info.reason, ",".join(fields)


def test_a_batch_registers_what_it_can(tenant: Tenant, channel: grpc.Channel) -> None:
    picture = encoded(artworks()[0])
    tenant.client.register(picture, link=LINK, reference_id="taken")
    items = [an_item(f"r{number}", encoded(patchwork(number))) for number in range(40)]
    other = f"publishers/not-{tenant.id}"
    items += [
        an_item("garbage", b"GET / HTTP/1.1"),
        an_item("taken", picture),
        an_item("Not An Id", picture),
        an_item("script", picture, reference={"link": "javascript:alert(1)"}),
        an_item("theirs", picture, parent=other),
        an_item("assessed", picture, assess=True),
        an_item("poster", picture),
    ]

    found = batch(channel, tenant.publish_key, items)

    assert sorted(found) == list(range(47))
    invalid, denied, exists = (code.value[0] for code in _CODES)
    assert [reason_and_field(found[number].error) for number in range(40, 46)] == [
        (invalid, "IMAGE_INVALID", "image"),
        (exists, "REFERENCE_ALREADY_EXISTS", ""),
        (invalid, "FIELD_INVALID", "reference_id"),
        (invalid, "FIELD_INVALID", "reference.link"),
        (denied, "PUBLISHER_NOT_ALLOWED", ""),
        (invalid, "FIELD_INVALID", "assess"),
    ]
    done = {number: each.response for number, each in found.items() if each.HasField("response")}
    assert sorted(done) == [*range(40), 46]
    assert done[7].reference.name == f"{tenant.name}/references/r7"
    assert sorted(each.gallery_version for each in done.values()) == list(range(2, 43))
    scanned = tenant.client.scan(
        encoded(photo_of(artworks()[0]).photo), min_gallery_version=done[46].gallery_version
    )
    assert scanned.best is not None
    assert scanned.best.reference_id in {"taken", "poster"}


_CODES = (Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED, Code.ALREADY_EXISTS)


def test_a_batch_sent_again_registers_nothing_again(tenant: Tenant) -> None:
    sent = [
        Registration(encoded(patchwork(number)), LINK, metadata={"number": str(number)})
        for number in range(10)
    ]
    first = {each.registration.request_id: each.written for each in _all(tenant.client, sent)}
    again = {each.registration.request_id: each.written for each in _all(tenant.client, sent)}
    assert first == again
    assert None not in first.values()
    assert len(list(tenant.client.list_references())) == 10


def _all(client: Client, sent: list[Registration]) -> list[object]:
    return list(client.register_all(sent))


def test_a_result_is_there_before_the_next_item_is_sent(
    tenant: Tenant, channel: grpc.Channel
) -> None:
    answers: Iterator[gallery_pb2.BatchRegisterResponse]
    taken: list[int] = []

    def one_by_one() -> Iterator[gallery_pb2.RegisterRequest]:
        for number in range(3):
            yield an_item(f"r{number}", encoded(patchwork(number)))
            taken.append(next(answers).item_number)

    # The requests are made by a thread of gRPC, which waits here for the answers.
    register = gallery_pb2_grpc.GalleryStub(channel).BatchRegister
    answers = register(requests(one_by_one()), metadata=bearer(tenant.publish_key), timeout=60)
    assert answers.code() is Code.OK  # type: ignore[attr-defined]
    assert taken == [0, 1, 2]


def test_batches_that_are_given_up_leave_room_for_others(
    tenant: Tenant, channel: grpc.Channel
) -> None:
    picture = encoded(patchwork(1, 128))
    register = gallery_pb2_grpc.GalleryStub(channel).BatchRegister
    for attempt in range(4):
        items = (an_item(f"r{attempt}-{number}", picture) for number in range(200))
        call = register(requests(items), metadata=bearer(tenant.publish_key), timeout=60)
        assert next(call).HasField("response")
        call.cancel()
    last = batch(channel, tenant.publish_key, [an_item(f"last-{n}", picture) for n in range(40)])
    assert [each.error for each in last.values() if not each.HasField("response")] == []
    listed = [each.id for each in tenant.client.list_references(filter='id = "last-*"')]
    assert len(listed) == 40


@pytest.mark.parametrize(
    ("key", "code", "reason"),
    [
        ("wrong", Code.UNAUTHENTICATED, "API_KEY_INVALID"),
        ("scan", Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"),
        ("operator", Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"),
    ],
)
def test_a_batch_needs_a_publishers_key(
    server: RunningServer,
    tenant: Tenant,
    channel: grpc.Channel,
    key: str,
    code: grpc.StatusCode,
    reason: str,
) -> None:
    keys = {"wrong": "il_no_key", "scan": tenant.scan_key, "operator": server.operator_key}
    with refused(code, reason):
        batch(channel, keys[key], [an_item("a", b"x")] * 3)


def test_a_scan_of_any_image_finds_the_reference(tenant: Tenant) -> None:
    front, back = artworks()[:2]
    photo = encoded(photo_of(back).photo)
    client, name = tenant.client, f"{tenant.name}/references/box"
    first = client.register(encoded(front), link=LINK, reference_id="box")
    assert not client.scan(photo, min_gallery_version=first.gallery_version)

    added = client.add_image(name, encoded(back))
    found = client.scan(photo, min_gallery_version=added.gallery_version)
    assert [match.reference_id for match in found.matches] == ["box"]
    assert [image.image_id for image in added.reference.images][1:] == [added.image_id]

    removed = client.remove_image(name, added.image_id)
    assert removed.reference.images == first.reference.images
    assert not client.scan(photo, min_gallery_version=removed.gallery_version)
    front_photo = encoded(photo_of(front).photo)
    assert client.scan(front_photo, min_gallery_version=removed.gallery_version)


def test_images_that_may_not_be(tenant: Tenant) -> None:
    client, name = tenant.client, f"{tenant.name}/references/box"
    picture = encoded(patchwork(1, 128))
    image = client.register(picture, link=LINK, reference_id="box").reference.images[0].image_id
    with refused(Code.FAILED_PRECONDITION, "LAST_IMAGE"):
        client.remove_image(name, image)
    with refused(Code.NOT_FOUND, "IMAGE_NOT_FOUND"):
        client.remove_image(name, str(uuid.uuid4()))
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "image_id"):
        client.remove_image(name, "1")
    for call in (
        lambda name: client.add_image(name, picture),
        lambda name: client.remove_image(name, image),
    ):
        with refused(Code.NOT_FOUND, "REFERENCE_NOT_FOUND"):
            call(f"{tenant.name}/references/none")
        with refused(Code.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
            call("publishers/other/references/box")
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
            call("box/")
    with refused(Code.INVALID_ARGUMENT, "IMAGE_INVALID", "image"):
        client.add_image(name, b"garbage")
    for _ in range(15):
        client.add_image(name, picture)
    with refused(Code.FAILED_PRECONDITION, "TOO_MANY_IMAGES"):
        client.add_image(name, picture)


def test_pages_of_a_filter_belong_to_it(tenant: Tenant, channel: grpc.Channel) -> None:
    sent = [
        Registration(encoded(patchwork(number, 128)), LINK, f"r{number}", {"odd": str(number % 2)})
        for number in range(6)
    ]
    assert all(each.written for each in tenant.client.register_all(sent))
    odd = 'metadata.odd = "1"'
    listed = tenant.client.list_references(filter=odd, page_size=2)
    assert [each.id for each in listed] == ["r1", "r3", "r5"]

    list_page = gallery_pb2_grpc.GalleryStub(channel).ListReferences
    metadata = bearer(tenant.publish_key)
    request = gallery_pb2.ListReferencesRequest(filter=odd, page_size=2)
    page = list_page(request, metadata=metadata, timeout=30)
    assert page.total_size == 3
    for conditions in ("", "active = true"):
        other = gallery_pb2.ListReferencesRequest(
            filter=conditions, page_token=page.next_page_token
        )
        with refused(Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", "page_token"):
            list_page(other, metadata=metadata, timeout=30)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "filter"):
        list(tenant.client.list_references(filter="odd = 1"))


def test_a_folder_is_registered_by_one_command(
    server: RunningServer, tenant: Tenant, tmp_path: Path
) -> None:
    for number in range(4):
        (tmp_path / f"Poster {number}.png").write_bytes(encoded(patchwork(number), "PNG"))
    (tmp_path / "broken.jpg").write_bytes(b"garbage")
    key, arguments = tenant.publish_key, ("register-all", tmp_path, "--link", LINK)
    done = run(server, key, *arguments)
    assert done.returncode == 1
    assert "4 registered, 0 already registered, 1 failed" in done.stdout
    assert "broken.jpg: The image cannot be read" in done.stderr
    again = run(server, key, *arguments)
    assert "0 registered, 4 already registered, 1 failed" in again.stdout
    listed = run(server, key, "reference", "list", "--filter", 'id = "poster-*"', "--json")
    assert [json.loads(line)["name"][-8:] for line in listed.stdout.splitlines()] == [
        f"poster-{number}" for number in range(4)
    ]
