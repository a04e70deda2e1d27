"""Receipts of deletions, and galleries that move in archives, through the real server."""

import json
import time
from pathlib import Path

import grpc
import pytest
from imagelink import Client, ErasureReceipt, ErasureState, ImageLinkError
from imagelink.v1 import publisher_pb2, publisher_pb2_grpc

from tests.e2e.harness import RunningServer, Tenant, bearer, refused
from tests.e2e.pictures import artworks, encoded, photo_of
from tests.e2e.test_cli import output, run

Code = grpc.StatusCode
LINK = "https://example.com/"
COMPLETE_SECONDS = 15


@pytest.fixture
def filled(tenant: Tenant) -> Tenant:
    """A publisher of two posters, of which a shard has an index."""
    for number, picture in enumerate(artworks()[:2]):
        tenant.client.register(encoded(picture), link=LINK, reference_id=f"poster-{number}")
    tenant.client.scan(photo(0), min_gallery_version=2)
    return tenant


def photo(number: int) -> bytes:
    return encoded(photo_of(artworks()[number]).photo)


def completed(client: Client, receipt: str) -> ErasureReceipt:
    """The receipt as soon as nothing is left."""
    deadline = time.monotonic() + COMPLETE_SECONDS
    while (found := client.get_erasure_receipt(receipt)).complete_time is None:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_a_deleted_reference_is_gone_everywhere(server: RunningServer, filled: Tenant) -> None:
    deleted = filled.client.delete_reference("poster-0", publisher=filled.id)
    receipt = completed(filled.client, deleted.erasure_receipt)
    assert receipt.subject == f"{filled.name}/references/poster-0"
    assert (receipt.reference_count, receipt.image_count, receipt.blob_count) == (1, 1, 1)
    # Every receipt names the processes that hold indexes.
    assert {each.state for each in receipt.confirmations} == {ErasureState.CONFIRMED}
    # Without a gallery version: the index itself has confirmed.
    assert not filled.client.scan(photo(0))
    (kept,) = filled.client.list_references()
    files = (server.data / "blobs" / "images" / filled.id).iterdir()
    assert [file.name for file in files] == [kept.images[0].image_id]


def test_a_deleted_publisher_is_gone_everywhere(server: RunningServer, filled: Tenant) -> None:
    told = output(server, server.operator_key, "publisher", "delete", filled.id, "--yes")
    assert f"Deleted {filled.id} with 2 references." in told
    name = told.splitlines()[-1].removeprefix("Receipt: ")
    receipt = completed(server.operator, name)
    assert (receipt.subject, receipt.feature_count, receipt.blob_count) == (filled.name, 2, 2)
    assert receipt.confirmations
    assert "complete" in output(server, server.operator_key, "erasure", "show", name)
    # Who lost the name finds it again.
    listed = output(server, server.operator_key, "erasure", "list", filled.id, "--json")
    assert [json.loads(line)["name"] for line in listed.splitlines()] == [name]
    assert not (server.data / "blobs" / "images" / filled.id).exists()
    with pytest.raises(ImageLinkError):
        filled.client.scan(photo(0))


def test_receipts_are_for_the_operator_and_the_publisher(
    server: RunningServer, filled: Tenant
) -> None:
    receipt = filled.client.delete_reference("poster-0", publisher=filled.id).erasure_receipt
    other = server.tenant()
    with refused(Code.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
        other.client.get_erasure_receipt(receipt)
    with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        server.client(filled.scan_key).get_erasure_receipt(receipt)
    with refused(Code.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
        list(other.client.list_erasure_receipts(filled.id))
    for client in (server.operator, filled.client):
        assert [each.name for each in client.list_erasure_receipts(filled.id)] == [receipt]
        assert client.get_erasure_receipt(receipt).name == receipt
        with refused(Code.NOT_FOUND, "ERASURE_RECEIPT_NOT_FOUND"):
            client.get_erasure_receipt(f"{filled.name}/erasureReceipts/none")
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
            client.get_erasure_receipt("receipt")


def test_a_gallery_comes_back_from_its_archive(
    server: RunningServer, filled: Tenant, tmp_path: Path
) -> None:
    archive = tmp_path / "gallery.tar"
    before = list(filled.client.list_references())
    told = output(server, server.operator_key, "publisher", "export", filled.id, archive)
    assert told.startswith(f"Exported {filled.id}")
    server.operator.delete_publisher(filled.id)
    told = output(server, server.operator_key, "publisher", "import", filled.id, archive)
    assert told == "2 imported, 0 already there.\n"

    _, key = server.operator.create_api_key(filled.id, role="publish")
    client = server.client(key)
    assert list(client.list_references()) == before
    result = client.scan(photo(1), min_gallery_version=2)
    assert [match.reference_id for match in result.matches] == ["poster-1"]
    again = server.operator.import_gallery(filled.id, archive)
    assert (again.imported_count, again.kept_count) == (0, 2)


def test_an_archive_larger_than_what_may_be_under_way(
    server: RunningServer, tmp_path: Path
) -> None:
    tenant = server.tenant()
    # Noise does not compress: 1.6 MB each.
    for number in range(8):
        picture = artworks()[number]
        image = encoded(picture.repeat(2, 0).repeat(2, 1), "PNG", compress_level=0)
        tenant.client.register(image, link=LINK, reference_id=f"poster-{number}")
    archive = tmp_path / "gallery.tar"
    server.operator.export_gallery(tenant.id, archive)
    assert archive.stat().st_size > 16 * 1024 * 1024
    receipt = server.operator.delete_publisher(tenant.id).erasure_receipt
    result = server.operator.import_gallery(tenant.id, archive)
    # Eight were registered, the publisher was deleted, eight were imported.
    assert (result.imported_count, result.gallery_version) == (8, 17)
    completed(server.operator, receipt)
    second = tmp_path / "second.tar"
    server.operator.export_gallery(tenant.id, second)
    assert second.read_bytes() == archive.read_bytes()


def test_archives_that_cannot_be_imported(
    server: RunningServer, filled: Tenant, tmp_path: Path
) -> None:
    operator, archive = server.operator, tmp_path / "gallery.tar"
    operator.export_gallery(filled.id, archive)
    whole = archive.read_bytes()
    with refused(Code.INVALID_ARGUMENT, "ARCHIVE_INVALID", "chunk"):
        operator.import_gallery("another", archive)
    archive.write_bytes(whole[:-5000])
    with refused(Code.INVALID_ARGUMENT, "ARCHIVE_DAMAGED", "chunk"):
        operator.import_gallery(filled.id, archive)
    archive.write_bytes(encoded(artworks()[0]))
    with refused(Code.INVALID_ARGUMENT, "ARCHIVE_INVALID", "chunk"):
        operator.import_gallery(filled.id, archive)
    done = run(server, server.operator_key, "publisher", "import", filled.id, archive)
    assert (done.returncode, done.stdout) == (1, "")
    assert "it is not an archive of ImageLink" in done.stderr
    for name in ("nobody!", ""):
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
            operator.import_gallery(name, archive)
        with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
            operator.export_gallery(name, archive)
    assert "another" not in [each.id for each in operator.list_publishers()]


def test_exports_that_are_refused(server: RunningServer, filled: Tenant, tmp_path: Path) -> None:
    archive = tmp_path / "gallery.tar"
    with refused(Code.NOT_FOUND, "PUBLISHER_NOT_FOUND"):
        server.operator.export_gallery("nobody", archive)
    for call in (filled.client.export_gallery, filled.client.import_gallery):
        archive.write_bytes(b"")
        with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            call(filled.id, archive)
    (image,) = filled.client.get_reference("poster-1", publisher=filled.id).images
    (file,) = (server.data / "blobs").rglob(f"*{image.image_id}*")
    file.write_bytes(b"rotten")
    with refused(Code.DATA_LOSS, "IMAGE_FILE_DAMAGED"):
        server.operator.export_gallery(filled.id, archive)
    done = run(server, server.operator_key, "publisher", "export", filled.id, archive)
    assert (done.returncode, archive.read_bytes()) == (1, b"")


def test_a_chunk_beyond_the_limit_is_refused(
    server: RunningServer, filled: Tenant, channel: grpc.Channel
) -> None:
    stub = publisher_pb2_grpc.PublishersStub(channel)
    requests = [
        publisher_pb2.ImportGalleryRequest(name=filled.name),
        publisher_pb2.ImportGalleryRequest(chunk=bytes(1024 * 1024 + 1)),
    ]
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "chunk"):
        list(stub.ImportGallery(iter(requests), metadata=bearer(server.operator_key), timeout=30))
