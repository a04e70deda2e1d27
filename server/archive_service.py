"""The methods of the service Publishers that carry archives."""

# ruff: noqa: N802 (gRPC names the methods)

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from imagelink.v1 import publisher_pb2

from indexing.errors import FieldInvalid
from indexing.reference import Role
from server import conversions as convert
from server.archives import CHUNK, Archivist, Imported
from server.auth import Caller
from server.status import to_status
from server.streaming import stream_rpc

OPERATE = frozenset({Role.OPERATE})
# Chunks that are ahead of their acknowledgements, as the API tells. gRPC's own flow control ends
# before the queues in which Ray Serve holds the messages of a stream, which know no bounds.
WINDOW = 8


class ArchiveService:
    """Exports and imports galleries."""

    def __init__(self, archivist: Archivist) -> None:
        self._archivist = archivist

    @stream_rpc(OPERATE)
    async def ExportGallery(
        self, requests: AsyncIterator[publisher_pb2.ExportGalleryRequest], caller: Caller
    ) -> AsyncGenerator[publisher_pb2.ExportGalleryResponse, None]:
        """Exports a gallery."""
        first = await anext(requests, publisher_pb2.ExportGalleryRequest())
        (publisher,) = convert.parsed_name("name", first.name, "publishers")
        ahead = 0
        async with aclosing(self._archivist.export(publisher)) as chunks:
            async for chunk in chunks:
                if ahead == WINDOW:
                    if await anext(requests, None) is None:
                        return
                    ahead -= 1
                yield publisher_pb2.ExportGalleryResponse(chunk=chunk)
                ahead += 1
        for _ in range(ahead):
            await anext(requests, None)

    @stream_rpc(OPERATE)
    async def ImportGallery(
        self, requests: AsyncIterator[publisher_pb2.ImportGalleryRequest], caller: Caller
    ) -> AsyncGenerator[publisher_pb2.ImportGalleryResponse, None]:
        """Imports an archive."""
        first = await anext(requests, publisher_pb2.ImportGalleryRequest())
        (publisher,) = convert.parsed_name("name", first.name, "publishers")
        taken: asyncio.Queue[bool] = asyncio.Queue()
        chunks = _chunks(requests, taken)
        importing = asyncio.create_task(self._archivist.import_(publisher, chunks))
        importing.add_done_callback(lambda _: taken.put_nowait(False))
        try:
            while await taken.get():
                yield publisher_pb2.ImportGalleryResponse()
            result = _result_message(publisher, await importing)
            yield publisher_pb2.ImportGalleryResponse(result=result)
        finally:
            importing.cancel()


async def _chunks(
    requests: AsyncIterator[publisher_pb2.ImportGalleryRequest], taken: "asyncio.Queue[bool]"
) -> AsyncIterator[bytes]:
    async for request in requests:
        if len(request.chunk) > CHUNK:
            raise FieldInvalid(field="chunk", problem=f"give at most {CHUNK} bytes.")
        yield request.chunk
        taken.put_nowait(True)


def _result_message(publisher: str, done: Imported) -> publisher_pb2.ImportResult:
    return publisher_pb2.ImportResult(
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
