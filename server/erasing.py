"""The flow of an erasure: the rows at once, the files soon, the receipt when the indexes lack it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from indexing.blobs import BlobStore, images_prefix, scans_prefix
from indexing.errors import DatabaseUnavailable
from indexing.gallery import GalleryStore
from indexing.gallery_erasures import Erasure, ErasureStore, Receipt

STEP_SECONDS = 2.0

log = structlog.get_logger()


class Eraser:
    """Deletes references and publishers, with all that was made of them.

    The rows go in one transaction, which leaves the files to delete in the database. They are
    deleted right after it; what a crash or an outage leaves of them, ``follow`` deletes.
    """

    def __init__(self, store: GalleryStore, erasures: ErasureStore, blobs: BlobStore) -> None:
        self._store = store
        self._erasures = erasures
        self._blobs = blobs

    async def delete_reference(self, publisher: str, reference_id: str) -> Erasure:
        """Deletes a reference. Raises PublisherNotFound and ReferenceNotFound."""
        erasure = await self._store.delete_reference(publisher, reference_id)
        await self._try(lambda: self._delete_blobs(erasure.id))
        return erasure

    async def delete_publisher(self, publisher: str) -> Erasure:
        """Deletes a publisher, and also files that crashed calls left. Raises PublisherNotFound."""
        prefixes = images_prefix(publisher), scans_prefix(publisher)
        files = [key for prefix in prefixes for key in await self._blobs.keys(prefix)]
        erasure = await self._store.delete_publisher(publisher, files)
        await self._try(lambda: self._delete_blobs(erasure.id))
        return erasure

    async def receipt(self, publisher: str, erasure_id: str) -> Receipt:
        """How far an erasure is. Raises ErasureReceiptNotFound."""
        return await self._erasures.receipt(publisher, erasure_id)

    async def receipts(self, publisher: str, after_id: str | None, limit: int) -> list[Receipt]:
        """How far a publisher's erasures are, up to ``limit`` of those after ``after_id``."""
        return await self._erasures.receipts(publisher, after_id, limit)

    async def follow(self) -> None:
        """Brings erasures to their end, without end; any number of processes may do so."""
        while True:
            await self._try(self._delete_blobs)
            await self._try(self._erasures.complete)
            await asyncio.sleep(STEP_SECONDS)

    async def _delete_blobs(self, erasure_id: str | None = None) -> None:
        while await self._erasures.delete_blobs(self._blobs.delete, erasure_id):
            pass

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except DatabaseUnavailable:
            log.info("erasures wait for the database")
        except Exception:
            # Whatever the blob store raises: the next round tries again.
            log.exception("erasures wait")
