"""What is wrong with a request is said; what only looks wrong works. Nothing is half-written."""

import io
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from imagelink import DeadlineExceeded, ImageLinkError, NoMatchReason, Reference
from imagelink.v1 import (
    gallery_pb2,
    gallery_pb2_grpc,
    publisher_pb2,
    publisher_pb2_grpc,
    recognition_pb2,
    recognition_pb2_grpc,
)
from PIL import Image

from tests.e2e.harness import RunningServer, Tenant, bearer, refused
from tests.e2e.pictures import artworks, corner_error, encoded, patchwork, photo_of

Code = grpc.StatusCode
LINK = "https://example.com/"
PICTURE = Image.fromarray(artworks()[0])
JPEG = encoded(PICTURE)
ORIENTATION = 0x0112


class Checked:
    """A publisher, and the references that were acknowledged to it."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.client = tenant.client
        self.acknowledged: set[str] = set()

    def register(self, image: bytes, **options: str) -> Reference:
        written = self.client.register(image, **({"link": LINK} | options))
        self.acknowledged.add(written.reference.id)
        return written.reference

    def delete(self, reference: Reference) -> int:
        self.acknowledged.remove(reference.id)
        return self.client.delete_reference(reference.name).gallery_version


@pytest.fixture(scope="module")
def own(server: RunningServer) -> Iterator[Checked]:
    """A publisher; after all tests its gallery has just what was acknowledged."""
    checked = Checked(server.tenant())
    checked.register(JPEG, reference_id="poster")
    yield checked
    assert {each.id for each in checked.client.list_references()} == checked.acknowledged
    assert "Traceback" not in server.log


def huge_png() -> bytes:
    """A PNG file that says that it has 100 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


UNUSABLE = {
    "no image": (b"GET / HTTP/1.1\r\n\r\n", "IMAGE_INVALID"),
    "GIF": (encoded(PICTURE, "GIF"), "IMAGE_INVALID"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "IMAGE_INVALID"),
    "truncated PNG": (encoded(PICTURE, "PNG")[:20_000], "IMAGE_INVALID"),
    "truncated WebP": (encoded(PICTURE, "WEBP")[:8_000], "IMAGE_INVALID"),
    "JPEG header": (JPEG[:30], "IMAGE_INVALID"),
    "0 bytes": (b"", "IMAGE_INVALID"),
    "9 MiB": (JPEG + bytes(9 * 1024 * 1024 - len(JPEG)), "IMAGE_TOO_LARGE"),
    "100 megapixels": (huge_png(), "IMAGE_TOO_MANY_PIXELS"),
}


@pytest.mark.parametrize("case", UNUSABLE)
@pytest.mark.parametrize("method", ["Scan", "Register"])
def test_unusable_image_is_refused(
    own: Checked, channel: grpc.Channel, method: str, case: str
) -> None:
    image, reason = UNUSABLE[case]
    metadata = bearer(own.tenant.publish_key)
    with refused(Code.INVALID_ARGUMENT, reason, "image"):
        if method == "Scan":
            scan = recognition_pb2_grpc.RecognitionStub(channel).Scan
            scan(recognition_pb2.ScanRequest(image=image), metadata=metadata, timeout=30)
        else:
            register = gallery_pb2_grpc.GalleryStub(channel).Register
            reference = gallery_pb2.Reference(link=LINK)
            request = gallery_pb2.RegisterRequest(reference=reference, image=image)
            register(request, metadata=metadata, timeout=30)


def cmyk() -> bytes:
    return encoded(PICTURE.convert("CMYK"))


def deep_png() -> bytes:
    levels = np.asarray(PICTURE.convert("L"), np.uint16) * 257
    return encoded(Image.fromarray(levels), "PNG")


def animation() -> bytes:
    other = Image.fromarray(artworks()[3]).resize(PICTURE.size)
    return encoded(PICTURE, "WEBP", save_all=True, append_images=[other], duration=100)


def transparent_png() -> bytes:
    image = PICTURE.copy()
    image.putalpha(200)
    return encoded(image, "PNG")


UNUSUAL: dict[str, Callable[[], bytes]] = {
    "CMYK": cmyk,
    "16 bits": deep_png,
    "animated": animation,
    "grey": lambda: encoded(PICTURE.convert("L")),
    "alpha": transparent_png,
    "palette": lambda: encoded(PICTURE.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
    "progressive": lambda: encoded(PICTURE, progressive=True),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_image_works(server: RunningServer, own: Checked, case: str) -> None:
    image = UNUSUAL[case]()
    found = own.client.scan(image, min_gallery_version=1).best
    assert found is not None
    assert found.reference_id == "poster"

    tenant = server.tenant()
    written = tenant.client.register(image, link=LINK, reference_id="unusual")
    (stored,) = written.reference.images
    assert (stored.width, stored.height) == PICTURE.size
    found = tenant.client.scan(JPEG, min_gallery_version=written.gallery_version).best
    assert found is not None
    assert found.reference_id == "unusual"


@pytest.mark.parametrize(("orientation", "turn"), [(3, 180), (6, 90), (8, 270)])
def test_turned_photo_is_scanned_upright(own: Checked, orientation: int, turn: int) -> None:
    view = photo_of(artworks()[0], seed=1)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(view.photo).rotate(turn, expand=True)
    found = own.client.scan(encoded(stored, exif=exif), min_gallery_version=1).best
    assert found is not None
    assert corner_error(found.location, view.quad + 0.5) < 0.05


def test_turned_reference_is_registered_upright(server: RunningServer) -> None:
    tenant = server.tenant()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = encoded(PICTURE.rotate(90, expand=True), exif=exif)
    written = tenant.client.register(image, link=LINK)
    (stored,) = written.reference.images
    assert (stored.width, stored.height) == PICTURE.size
    width, height = PICTURE.size
    found = tenant.client.scan(JPEG, min_gallery_version=1).best
    assert found is not None
    upright = [(0, 0), (width, 0), (width, height), (0, height)]
    assert corner_error(found.location, upright) < 0.05


def test_single_pixel_is_too_poor_to_scan_and_too_small_to_register(own: Checked) -> None:
    image = encoded(Image.new("RGB", (1, 1)), "PNG")
    result = own.client.scan(image)
    assert result.matches == ()
    assert result.no_match_reason is NoMatchReason.IMAGE_TOO_POOR
    with refused(Code.INVALID_ARGUMENT, "IMAGE_TOO_SMALL", "image"):
        own.register(image)


def test_blank_picture_is_too_poor_to_scan_and_too_plain_to_register(own: Checked) -> None:
    image = encoded(Image.new("RGB", (500, 500), (200, 180, 160)))
    assert own.client.scan(image).no_match_reason is NoMatchReason.IMAGE_TOO_POOR
    with refused(Code.INVALID_ARGUMENT, "IMAGE_TOO_PLAIN", "image"):
        own.register(image)


def test_message_beyond_all_limits_is_refused_unread(channel: grpc.Channel) -> None:
    # Without a key: its sender would have the server hold it, whoever it is.
    scan = channel.unary_unary("/imagelink.v1.Recognition/Scan")
    scan_of = recognition_pb2.ScanRequest(image=bytes(17 * 1024 * 1024))
    with pytest.raises(grpc.RpcError) as caught:
        scan(scan_of.SerializeToString(), timeout=30)
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED


# Keys


def test_unknown_publisher(server: RunningServer) -> None:
    operator = server.operator
    with refused(Code.NOT_FOUND, "PUBLISHER_NOT_FOUND"):
        operator.get_publisher("nobody")
    with refused(Code.NOT_FOUND, "PUBLISHER_NOT_FOUND"):
        operator.create_api_key("nobody")
    with refused(Code.NOT_FOUND, "PUBLISHER_NOT_FOUND"):
        operator.list_api_keys("nobody")
    with refused(Code.NOT_FOUND, "PUBLISHER_NOT_FOUND"):
        operator.update_publisher("nobody", suspended=True)
    with refused(Code.NOT_FOUND, "PUBLISHER_NOT_FOUND"):
        operator.delete_publisher("nobody")
    with refused(Code.NOT_FOUND, "API_KEY_NOT_FOUND"):
        operator.revoke_api_key("none", publisher="nobody")


def test_publisher_exists_already(server: RunningServer, tenant: Tenant) -> None:
    with refused(Code.ALREADY_EXISTS, "PUBLISHER_ALREADY_EXISTS"):
        server.operator.create_publisher(tenant.id)


def test_missing_key(channel: grpc.Channel) -> None:
    scan = recognition_pb2_grpc.RecognitionStub(channel).Scan
    with refused(Code.UNAUTHENTICATED, "API_KEY_MISSING"):
        scan(recognition_pb2.ScanRequest(image=JPEG), timeout=30)
    listing = gallery_pb2_grpc.GalleryStub(channel).ListReferences
    with refused(Code.UNAUTHENTICATED, "API_KEY_MISSING"):
        listing(gallery_pb2.ListReferencesRequest(), timeout=30)
    publishers = publisher_pb2_grpc.PublishersStub(channel).ListPublishers
    with refused(Code.UNAUTHENTICATED, "API_KEY_MISSING"):
        publishers(publisher_pb2.ListPublishersRequest(), timeout=30)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer x",
        "Bearer il_",
        "Bearer il_a_b",
        "Bearer il__",
    ],
)
def test_malformed_key(channel: grpc.Channel, authorization: str) -> None:
    scan = recognition_pb2_grpc.RecognitionStub(channel).Scan
    metadata = (("authorization", authorization),)
    with refused(Code.UNAUTHENTICATED, "API_KEY_INVALID"):
        scan(recognition_pb2.ScanRequest(image=JPEG), metadata=metadata, timeout=30)


def test_key_with_a_wrong_secret(server: RunningServer, tenant: Tenant) -> None:
    with refused(Code.UNAUTHENTICATED, "API_KEY_INVALID"):
        server.client(tenant.publish_key[:-1] + "!").scan(JPEG)
    with refused(Code.UNAUTHENTICATED, "API_KEY_INVALID"):
        list(server.client(server.operator_key[:-1] + "!").list_publishers())


def test_revoked_key(server: RunningServer, tenant: Tenant) -> None:
    key, text = server.operator.create_api_key(tenant.id)
    client = server.client(text)
    client.scan(JPEG)
    assert server.operator.revoke_api_key(key.name).revoke_time is not None
    with refused(Code.UNAUTHENTICATED, "API_KEY_INVALID"):
        client.scan(JPEG)


def test_expired_key(server: RunningServer, tenant: Tenant) -> None:
    expiry = datetime.now(UTC) + timedelta(seconds=2)
    key, text = server.operator.create_api_key(tenant.id, expire_time=expiry)
    assert key.expire_time == expiry
    client = server.client(text)
    client.scan(JPEG)
    time.sleep(2)
    with refused(Code.UNAUTHENTICATED, "API_KEY_EXPIRED"):
        client.scan(JPEG)
    tenant.client.scan(JPEG)


def test_keys_are_rotated_without_a_gap(server: RunningServer, tenant: Tenant) -> None:
    old, old_text = server.operator.create_api_key(tenant.id)
    _, new_text = server.operator.create_api_key(tenant.id)
    for text in (old_text, new_text):
        server.client(text).scan(JPEG)
    server.operator.revoke_api_key(old.name)
    with refused(Code.UNAUTHENTICATED, "API_KEY_INVALID"):
        server.client(old_text).scan(JPEG)
    server.client(new_text).scan(JPEG)


def test_wrong_role(server: RunningServer, own: Checked) -> None:
    scanner = server.client(own.tenant.scan_key)
    operator = server.operator
    name = f"{own.tenant.name}/references/poster"
    with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        operator.scan(JPEG)
    for client in (scanner, operator):
        with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            client.register(JPEG, link=LINK)
        with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            client.get_reference(name)
        with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            client.delete_reference(name)
    for client in (scanner, own.client):
        with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            client.get_publisher(own.tenant.id)
        with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            client.create_api_key(own.tenant.id)


def test_suspended_publisher(server: RunningServer, tenant: Tenant) -> None:
    server.operator.update_publisher(tenant.id, suspended=True)
    with refused(Code.PERMISSION_DENIED, "PUBLISHER_SUSPENDED"):
        tenant.client.scan(JPEG)
    with refused(Code.PERMISSION_DENIED, "PUBLISHER_SUSPENDED"):
        tenant.client.register(JPEG, link=LINK)
    server.operator.update_publisher(tenant.id, suspended=False)
    tenant.client.scan(JPEG)


def test_key_of_another_publisher(own: Checked, tenant: Tenant) -> None:
    with refused(Code.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
        own.client.register(JPEG, link=LINK, publisher=tenant.id)
    with refused(Code.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
        list(own.client.list_references(publisher=tenant.id))
    with refused(Code.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
        tenant.client.get_reference(f"{own.tenant.name}/references/poster")


# Requests sent twice


def test_same_request_again_is_answered_as_before(tenant: Tenant) -> None:
    request = str(uuid.uuid4())
    answers = [
        tenant.client.register(JPEG, link=LINK, metadata={"a": "b"}, request_id=request_id)
        for request_id in (request, request, request.upper())
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len(list(tenant.client.list_references())) == 1


def test_same_request_id_with_other_content(tenant: Tenant) -> None:
    request = str(uuid.uuid4())
    tenant.client.register(JPEG, link=LINK, request_id=request)
    for image, link in ((JPEG, f"{LINK}other"), (encoded(artworks()[1]), LINK)):
        with refused(Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED", "request_id"):
            tenant.client.register(image, link=link, request_id=request)
    assert len(list(tenant.client.list_references())) == 1


def test_reference_id_exists_already(own: Checked) -> None:
    before = own.client.get_reference("poster", publisher=own.tenant.id)
    with refused(Code.ALREADY_EXISTS, "REFERENCE_ALREADY_EXISTS"):
        own.register(encoded(artworks()[1]), reference_id="poster", link=f"{LINK}other")
    assert own.client.get_reference("poster", publisher=own.tenant.id) == before


# Malformed fields


@pytest.mark.parametrize(
    "reference_id", ["Poster", "-a", "a_b", "a" * 64, "ä", "a/b", "a b", "a\n"]
)
def test_malformed_reference_id(own: Checked, reference_id: str) -> None:
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "reference_id"):
        own.register(JPEG, reference_id=reference_id)


@pytest.mark.parametrize("publisher_id", ["", "Acme", "a/b", "a" * 64, "a\0"])
def test_malformed_publisher_id(server: RunningServer, publisher_id: str) -> None:
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher_id"):
        server.operator.create_publisher(publisher_id)


@pytest.mark.parametrize(
    "link",
    [
        "",
        "/relative",
        "example.com/no-scheme",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "https://a b",
        "https://a\n",
        "https://[",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_malformed_link(own: Checked, link: str) -> None:
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "reference.link"):
        own.register(JPEG, link=link)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "reference.link"):
        own.client.update_reference("poster", link=link, publisher=own.tenant.id)


@pytest.mark.parametrize(
    "metadata",
    [
        {str(number): "" for number in range(65)},
        {"k" * 65: "v"},
        {"k": "v" * 1025},
        {"k": "v\0"},
        {"k\0": "v"},
    ],
)
def test_malformed_metadata(own: Checked, metadata: dict[str, str]) -> None:
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "reference.metadata"):
        own.client.register(JPEG, link=LINK, metadata=metadata)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "reference.metadata"):
        own.client.update_reference("poster", metadata=metadata, publisher=own.tenant.id)


def test_malformed_request_id(own: Checked) -> None:
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "request_id"):
        own.register(JPEG, request_id="again")


@pytest.mark.parametrize(
    "name", ["publishers/a", "publishers//references/b", "publishers/a/images/b", "a/b/c/d/e"]
)
def test_malformed_name(own: Checked, name: str) -> None:
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
        own.client.get_reference(name)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
        own.client.delete_reference(name)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "reference.name"):
        own.client.update_reference(name, active=False)


def test_unknown_reference(own: Checked) -> None:
    with refused(Code.NOT_FOUND, "REFERENCE_NOT_FOUND"):
        own.client.get_reference("none", publisher=own.tenant.id)
    with refused(Code.NOT_FOUND, "REFERENCE_NOT_FOUND"):
        own.client.update_reference("none", active=False, publisher=own.tenant.id)
    with refused(Code.NOT_FOUND, "REFERENCE_NOT_FOUND"):
        own.client.delete_reference("none", publisher=own.tenant.id)


@pytest.mark.parametrize("token", ["x", "####", "cHVibGlzaGVyczphY21l", "ÄÖ", "//8="])
def test_page_token_of_other_origin(own: Checked, channel: grpc.Channel, token: str) -> None:
    listing = gallery_pb2_grpc.GalleryStub(channel).ListReferences
    request = gallery_pb2.ListReferencesRequest(page_token=token)
    with refused(Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", "page_token"):
        listing(request, metadata=bearer(own.tenant.publish_key), timeout=30)


def test_negative_page_size(server: RunningServer, own: Checked, channel: grpc.Channel) -> None:
    listing = gallery_pb2_grpc.GalleryStub(channel).ListReferences
    request = gallery_pb2.ListReferencesRequest(page_size=-1)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "page_size"):
        listing(request, metadata=bearer(own.tenant.publish_key), timeout=30)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "page_size"):
        list(server.operator.list_publishers(page_size=-1))


@pytest.mark.parametrize("paths", [[], ["name"], ["link", "images"], ["*"], ["reference.link"]])
def test_malformed_update_mask(own: Checked, channel: grpc.Channel, paths: list[str]) -> None:
    update = gallery_pb2_grpc.GalleryStub(channel).UpdateReference
    request = gallery_pb2.UpdateReferenceRequest(
        reference=gallery_pb2.Reference(name=f"{own.tenant.name}/references/poster", link=LINK),
        update_mask=FieldMask(paths=paths),
    )
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "update_mask"):
        update(request, metadata=bearer(own.tenant.publish_key), timeout=30)


def test_malformed_publisher(server: RunningServer, tenant: Tenant) -> None:
    operator = server.operator
    for budget in (-1.0, 0.5, float("nan"), float("inf")):
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher.false_accept_budget"):
            operator.update_publisher(tenant.id, false_accept_budget=budget)
    for weight in (-1, 0, 101):
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher.scan_weight"):
            operator.update_publisher(tenant.id, scan_weight=weight)
    for scans in (-1.0, 1e-9, 1e7, float("nan"), float("inf")):
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher.max_scans_per_second"):
            operator.update_publisher(tenant.id, max_scans_per_second=scans)
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher.max_scans_per_second"):
            operator.create_publisher("never-made", max_scans_per_second=scans)
    for references in (-1, 1_000_000_001):
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher.max_references"):
            operator.update_publisher(tenant.id, max_references=references)
    for scans in (-1, 1001):
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher.max_kept_scans"):
            operator.update_publisher(tenant.id, max_kept_scans=scans)
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher.max_kept_scans"):
            operator.create_publisher("never-made", max_kept_scans=scans)
    for name in ("n" * 257, "n\0"):
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "publisher.display_name"):
            operator.update_publisher(tenant.id, display_name=name)
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "api_key.display_name"):
            operator.create_api_key(tenant.id, display_name=name)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "api_key.role"):
        operator.create_api_key(tenant.id, role="operate")
    for past in (datetime.now(UTC) - timedelta(seconds=1), datetime(1, 1, 1, tzinfo=UTC)):
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "api_key.expire_time"):
            operator.create_api_key(tenant.id, expire_time=past)


def test_negative_gallery_version(own: Checked) -> None:
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "min_gallery_version"):
        own.client.scan(JPEG, min_gallery_version=-1)


# Deadlines


@pytest.mark.parametrize("timeout", [0.001, 0.01, 0.03, 0.06, 0.1, 0.2])
def test_registration_cut_off_by_its_deadline_is_whole_or_absent(
    own: Checked, timeout: float
) -> None:
    image = encoded(patchwork(round(timeout * 1e6)))
    reference_id = f"late-{round(timeout * 1000)}"
    request_id = str(uuid.uuid4())

    def register(seconds: float) -> None:
        own.client.register(
            image, link=LINK, reference_id=reference_id, request_id=request_id, timeout=seconds
        )

    try:
        register(timeout)
    except DeadlineExceeded as error:
        assert error.code is Code.DEADLINE_EXCEEDED  # noqa: PT017 (either outcome is right)
    else:
        assert timeout > 0.01
    # The same request again: it finds all of it, or nothing, and the scan finds what it names.
    register(60)
    own.acknowledged.add(reference_id)
    reference = own.client.get_reference(reference_id, publisher=own.tenant.id)
    assert len(reference.images) == 1
    version = own.delete(reference)
    assert own.client.scan(image, min_gallery_version=version).matches == ()


def test_scan_with_a_deadline_in_the_past(own: Checked) -> None:
    with pytest.raises(ImageLinkError) as caught:
        own.client.scan(JPEG, timeout=-1)
    assert caught.value.code is Code.DEADLINE_EXCEEDED


@pytest.mark.xfail(strict=True, reason="Ray Serve answers UNKNOWN before our code is asked")
def test_bytes_that_are_no_message(own: Checked, channel: grpc.Channel) -> None:
    scan = channel.unary_unary("/imagelink.v1.Recognition/Scan")
    with pytest.raises(grpc.RpcError) as caught:
        scan(io.BytesIO(b"\xff" * 50).read(), metadata=bearer(own.tenant.scan_key), timeout=30)
    assert caught.value.code() is not Code.UNKNOWN
    assert "Traceback" not in caught.value.details()
