"""The methods of the service Publishers that carry archives."""

# ruff: noqa: N802 (gRPC names the methods)

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from imagelink.v1 import publisher_pb2

from indexing.errors import FieldInvalid
from server import conversions as convert
from server.archives import CHUNK, Archivist, Imported
from server.audit import audited, writing
from server.auth import OPERATE, Caller
from server.rpc import rpc
from server.status import to_status
from server.streaming import stream_rpc


class ArchiveService:
    """Exports and imports galleries."""

    def __init__(self, archivist: Archivist) -> None:
        self._archivist = archivist

    @stream_rpc(OPERATE)
    async def ExportGallery(
        self, request: publisher_pb2.ExportGalleryRequest, caller: Caller
    ) -> AsyncGenerator[publisher_pb2.ExportGalleryResponse, None]:
        """Exports a gallery."""
        # No write, but a whole gallery leaves.
        with writing("ExportGallery", caller) as export:
            export.request = request
            (publisher,) = convert.parsed_name("name", request.name, "publishers")
            async with aclosing(self._archivist.export(publisher)) as chunks:
                async for chunk in chunks:
                    yield publisher_pb2.ExportGalleryResponse(chunk=chunk)

    @rpc(OPERATE)
    @audited
    async def ImportGallery(
        self, requests: AsyncIterator[publisher_pb2.ImportGalleryRequest], caller: Caller
    ) -> publisher_pb2.ImportGalleryResponse:
        """Imports an archive."""
        first = await anext(requests, publisher_pb2.ImportGalleryRequest())
        (publisher,) = convert.parsed_name("name", first.name, "publishers")
        done = await self._archivist.import_(publisher, _chunks(requests))
        return _imported_message(publisher, done)


async def _chunks(
    requests: AsyncIterator[publisher_pb2.ImportGalleryRequest],
) -> AsyncIterator[bytes]:
    async for request in requests:
        if len(request.chunk) > CHUNK:
            raise FieldInvalid(field="chunk", problem=f"give at most {CHUNK} bytes.")
        yield request.chunk


def _imported_message(publisher: str, done: Imported) -> publisher_pb2.ImportGalleryResponse:
    return publisher_pb2.ImportGalleryResponse(
        imported_count=done.written,
        kept_count=done.kept,
        failures=[
            publisher_pb2.ImportFailure(
                reference=convert.reference_name(publisher, reference), error=to_status(error)
            )
            for reference, error in done.failures.items()
        ],
        gallery_version=done.gallery_version,
    )
