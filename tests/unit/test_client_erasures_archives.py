"""Receipts and archives of the client against a small real gRPC server, written by hand."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from imagelink import (
    AsyncClient,
    Client,
    Deletion,
    ErasureState,
    ImageLinkError,
    InvalidArgument,
    NotFound,
    PublisherDeletion,
)
from imagelink._archives import CHUNK
from imagelink._erasure_calls import erasure_state
from imagelink.cli import app
from imagelink.v1 import (
    gallery_pb2,
    gallery_pb2_grpc,
    publisher_pb2,
    publisher_pb2_grpc,
)
from typer.testing import CliRunner, Result

from tests.unit.fake_servers import served

KEY = "il_test_0123456789"
CODES = grpc.StatusCode
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RECEIPT = "publishers/acme/erasureReceipts/1"
ARCHIVE = bytes(range(256)) * 4096 * 20  # 20 chunks
EXPORTED = [ARCHIVE[start : start + CHUNK] for start in range(0, len(ARCHIVE), CHUNK)]


def status(code: CODES, reason: str, message: str) -> status_pb2.Status:
    packed = Packed()
    packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="imagelink"))
    return status_pb2.Status(code=code.value[0], message=message, details=[packed])


def refuse(context: Any, code: CODES, reason: str, message: str) -> None:
    context.abort_with_status(rpc_status.to_status(status(code, reason, message)))


class Server(gallery_pb2_grpc.GalleryServicer, publisher_pb2_grpc.PublishersServicer):
    """Remembers what it received; fails after so many chunks as ``breaks_after`` says."""

    def __init__(self) -> None:
        self.target = ""
        self.received = b""
        self.named = ""
        self.breaks_after: int | None = None
        self.result = publisher_pb2.ImportGalleryResponse(
            imported_count=3, kept_count=2, gallery_version=9
        )

    def DeleteReference(self, request: Any, context: Any) -> Any:
        return gallery_pb2.DeleteReferenceResponse(gallery_version=6, erasure_receipt=RECEIPT)

    def DeletePublisher(self, request: Any, context: Any) -> Any:
        return publisher_pb2.DeletePublisherResponse(references_deleted=4, erasure_receipt=RECEIPT)

    def GetErasureReceipt(self, request: Any, context: Any) -> Any:
        if request.name != RECEIPT:
            refuse(context, CODES.NOT_FOUND, "ERASURE_RECEIPT_NOT_FOUND", "No such receipt.")
        return self.receipt()

    def ListErasureReceipts(self, request: Any, context: Any) -> Any:
        self.named = request.parent
        number = int(request.page_token or 0)
        return publisher_pb2.ListErasureReceiptsResponse(
            erasure_receipts=[self.receipt()], next_page_token=str(number + 1) if number < 2 else ""
        )

    def receipt(self) -> publisher_pb2.ErasureReceipt:
        moment = Timestamp()
        moment.FromDatetime(NOW)
        return publisher_pb2.ErasureReceipt(
            name=RECEIPT,
            subject="publishers/acme",
            reference_count=4,
            image_count=5,
            feature_count=6,
            blob_count=7,
            scan_count=2,
            request_time=moment,
            blob_delete_time=moment,
            confirmations=[
                publisher_pb2.ErasureConfirmation(
                    shard_replica="shard-0",
                    state=publisher_pb2.ERASURE_STATE_CONFIRMED,
                    confirm_time=moment,
                ),
                publisher_pb2.ErasureConfirmation(
                    shard_replica="shard-1", state=publisher_pb2.ERASURE_STATE_AWAITED
                ),
            ],
        )

    def ExportGallery(self, request: Any, context: Any) -> Any:
        self.named = request.name
        if self.named != "publishers/acme":
            refuse(context, CODES.NOT_FOUND, "PUBLISHER_NOT_FOUND", "No such publisher.")
        for number, chunk in enumerate(EXPORTED):
            if number == self.breaks_after:
                refuse(context, CODES.DATA_LOSS, "IMAGE_FILE_DAMAGED", "A file is lost.")
            yield publisher_pb2.ExportGalleryResponse(chunk=chunk)

    def ImportGallery(self, requests: Any, context: Any) -> Any:
        self.named = next(requests).name
        self.received = b""
        for number, request in enumerate(requests):
            if number == self.breaks_after:
                refuse(context, CODES.INVALID_ARGUMENT, "ARCHIVE_DAMAGED", "It is damaged.")
            self.received += request.chunk
        return self.result


@pytest.fixture
def server() -> Iterator[Server]:
    with served(
        Server(),
        gallery_pb2_grpc.add_GalleryServicer_to_server,
        publisher_pb2_grpc.add_PublishersServicer_to_server,
    ) as servicer:
        yield servicer


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.target, key=KEY) as client:
        yield client


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "acme.tar"
    path.write_bytes(ARCHIVE)
    return path


def run(server: Server, *arguments: object) -> Result:
    words = ["--target", server.target, *map(str, arguments)]
    return CliRunner().invoke(app, words, env={"IMAGELINK_KEY": KEY, "COLUMNS": "200"})


# Receipts


def test_deletions_name_their_receipts(client: Client) -> None:
    assert client.delete_reference("a", publisher="acme") == Deletion(6, RECEIPT)
    assert client.delete_publisher("acme") == PublisherDeletion(4, RECEIPT)


def test_a_receipt_has_its_times_and_states(client: Client) -> None:
    receipt = client.get_erasure_receipt(RECEIPT)
    counts = (receipt.reference_count, receipt.image_count, receipt.feature_count)
    assert (*counts, receipt.blob_count, receipt.scan_count) == (4, 5, 6, 7, 2)
    assert (receipt.blob_delete_time, receipt.complete_time) == (NOW, None)
    first, second = receipt.confirmations
    assert (first.state, first.confirm_time) == (ErasureState.CONFIRMED, NOW)
    assert (second.state, second.confirm_time) == (ErasureState.AWAITED, None)


def test_every_state_of_the_api_has_its_value() -> None:
    states = {erasure_state(value) for value in publisher_pb2.ErasureState.values()}
    assert states == set(ErasureState)
    assert erasure_state(999) is ErasureState.UNKNOWN


def test_an_unknown_receipt_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        client.get_erasure_receipt("publishers/acme/erasureReceipts/2")
    assert caught.value.reason == "ERASURE_RECEIPT_NOT_FOUND"


def test_receipts_are_listed_by_pages(server: Server, client: Client) -> None:
    names = [receipt.name for receipt in client.list_erasure_receipts("acme")]
    assert (server.named, names) == ("publishers/acme", [RECEIPT] * 3)
    listed = run(server, "erasure", "list", "acme")
    assert listed.stdout.count(RECEIPT) == 3
    assert len(run(server, "erasure", "list", "acme", "--json").stdout.splitlines()) == 3


async def test_the_async_client_lists_receipts(server: Server) -> None:
    async with AsyncClient(server.target, key=KEY) as client:
        names = [receipt.name async for receipt in client.list_erasure_receipts("acme")]
    assert names == [RECEIPT] * 3


def test_commands_print_receipts(server: Server) -> None:
    deleted = run(server, "publisher", "delete", "acme", "--yes")
    assert deleted.stdout == f"Deleted acme with 4 references.\nReceipt: {RECEIPT}\n"
    deleted = run(server, "reference", "delete", "a", "--publisher", "acme", "--yes")
    assert f"Receipt: {RECEIPT}" in deleted.stdout
    shown = run(server, "erasure", "show", RECEIPT).stdout
    for line in ("erased         publishers/acme", "complete       not yet", "shard-1  awaited"):
        assert line in shown
    printed = json.loads(run(server, "erasure", "show", RECEIPT, "--json").stdout)
    assert printed["confirmations"][0]["state"] == "confirmed"
    missing = run(server, "erasure", "show", "publishers/acme/erasureReceipts/2")
    assert (missing.exit_code, missing.stderr) == (1, "No such receipt.\n")


# Archives


def test_an_export_is_a_file(server: Server, client: Client, tmp_path: Path) -> None:
    client.export_gallery("acme", tmp_path / "out.tar")
    assert server.named == "publishers/acme"
    assert (tmp_path / "out.tar").read_bytes() == ARCHIVE
    assert [path.name for path in tmp_path.iterdir()] == ["out.tar"]


@pytest.mark.parametrize("breaks_after", [0, 1, len(EXPORTED) - 1])
def test_a_broken_export_leaves_the_file_that_was_there(
    server: Server, client: Client, archive: Path, breaks_after: int
) -> None:
    server.breaks_after = breaks_after
    archive.write_bytes(b"earlier")
    with pytest.raises(ImageLinkError) as caught:
        client.export_gallery("acme", archive)
    assert (caught.value.code, caught.value.reason) == (CODES.DATA_LOSS, "IMAGE_FILE_DAMAGED")
    assert archive.read_bytes() == b"earlier"
    assert list(archive.parent.iterdir()) == [archive]


def test_an_export_of_nobody_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        client.export_gallery("nobody", tmp_path / "out.tar")
    assert list(tmp_path.iterdir()) == []


def test_an_import_sends_the_file(server: Server, client: Client, archive: Path) -> None:
    result = client.import_gallery("acme", archive)
    assert (server.named, server.received) == ("publishers/acme", ARCHIVE)
    assert (result.imported_count, result.kept_count, result.gallery_version) == (3, 2, 9)
    assert result
    assert result.failures == {}


def test_a_refused_import_is_an_error(server: Server, client: Client, archive: Path) -> None:
    server.breaks_after = 3
    with pytest.raises(InvalidArgument) as caught:
        client.import_gallery("acme", archive)
    assert caught.value.reason == "ARCHIVE_DAMAGED"


def test_what_failed_in_an_import_is_told(server: Server, client: Client, archive: Path) -> None:
    name = "publishers/acme/references/plain"
    error = status(CODES.INVALID_ARGUMENT, "IMAGE_TOO_PLAIN", "It is too plain.")
    server.result.failures.add(reference=name, error=error)
    result = client.import_gallery("acme", archive)
    assert not result
    assert {name: error.reason for name, error in result.failures.items()} == {
        name: "IMAGE_TOO_PLAIN"
    }
    told = run(server, "publisher", "import", "acme", archive)
    assert (told.exit_code, told.stdout) == (1, "3 imported, 2 already there.\n")
    assert told.stderr == f"{name}: It is too plain.\n"


async def test_the_async_client_exports_and_imports(
    server: Server, archive: Path, tmp_path: Path
) -> None:
    async with AsyncClient(server.target, key=KEY) as client:
        await client.export_gallery("acme", tmp_path / "out.tar")
        result = await asyncio.wait_for(client.import_gallery("acme", archive), 30)
        receipt = await client.get_erasure_receipt(RECEIPT)
        server.breaks_after = 3
        with pytest.raises(InvalidArgument):
            await client.import_gallery("acme", archive)
    assert (tmp_path / "out.tar").read_bytes() == ARCHIVE
    assert result.imported_count == 3
    assert receipt.subject == "publishers/acme"


def test_commands_export_and_import(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "out.tar"
    exported = run(server, "publisher", "export", "acme", file)
    assert exported.stdout.replace("\n", "").startswith("Exported acme to ")
    assert f"{len(ARCHIVE):,} bytes" in exported.stdout
    imported = run(server, "publisher", "import", "acme", file)
    assert (imported.exit_code, imported.stdout) == (0, "3 imported, 2 already there.\n")
    missing = run(server, "publisher", "import", "acme", tmp_path / "none.tar")
    assert missing.exit_code == 1
    assert missing.stderr == f"No such file or directory: {tmp_path / 'none.tar'}\n"
