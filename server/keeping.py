"""Keeps photos of scans of the publishers that agreed to it, to compare model versions on."""

import asyncio
import io
from contextlib import suppress

import structlog
from cachetools import TTLCache
from PIL import Image

from indexing.blobs import BlobStore
from indexing.errors import PublisherNotFound
from indexing.gallery_scans import KeptScanStore
from indexing.image import Pixels
from indexing.reference import Publisher
from server.repeating import repeat
from server.scanning import Scan

# Of each publisher, in each scanner: a flood of scans is no sample of a month's.
INTERVAL_SECONDS = 10.0
MAX_PUBLISHERS = 10_000
MOST_WAITING = 8
KEEP_SECONDS = 10.0
SWEEP_SECONDS = 60.0
JPEG_QUALITY = 90

log = structlog.get_logger()


class Keeper:
    """Keeps a scan of each consenting publisher now and then, and removes what is too old or too many.

    No scan waits for it: what finds the queue full, or the database or the blob store away, is
    not kept.
    """

    def __init__(self, store: KeptScanStore, blobs: BlobStore, days: int) -> None:
        self._store = store
        self._blobs = blobs
        self._days = days
        self._waiting: asyncio.Queue[tuple[Publisher, Scan]] = asyncio.Queue(MOST_WAITING)
        self._lately: TTLCache[str, bool] = TTLCache(MAX_PUBLISHERS, INTERVAL_SECONDS)

    def note(self, publisher: Publisher, scan: Scan) -> None:
        """Perhaps has a scan kept that was answered."""
        if publisher.max_kept_scans and publisher.id not in self._lately:
            self._lately[publisher.id] = True
            with suppress(asyncio.QueueFull):
                self._waiting.put_nowait((publisher, scan))

    async def follow(self) -> None:
        """Keeps scans and removes some, without end; any number of processes may do so."""
        await asyncio.gather(
            repeat("keeping scans", 0.0, self.keep_next),
            repeat("removing kept scans", SWEEP_SECONDS, self.sweep),
        )

    async def keep_next(self) -> None:
        """Keeps the next scan that is to be. Raises DatabaseUnavailable, and what a store raises."""
        publisher, scan = await self._waiting.get()
        async with asyncio.timeout(KEEP_SECONDS):
            photo = await asyncio.to_thread(_jpeg, scan.photo.pixels)
            found = scan.recognition
            answered = [match.candidate.reference for match in found.matches]
            with suppress(PublisherNotFound):
                await self._store.keep(
                    publisher,
                    scan.id,
                    answered,
                    found.model_version,
                    lambda key: self._blobs.put(key, photo),
                )

    async def sweep(self) -> None:
        """Removes what is too old or too many. Raises DatabaseUnavailable, and what a store raises."""
        while await self._store.remove_surplus(self._days, self._blobs.delete):
            pass


def _jpeg(pixels: Pixels) -> bytes:
    """Pixels alone: where and with what the photo was taken is not kept."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
