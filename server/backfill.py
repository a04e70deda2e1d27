"""Gives registered images the features of a new model version, beside the scans."""

import asyncio
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from indexing.appearance import thumbnail
from indexing.blobs import BlobStore, image_key
from indexing.errors import ImageLinkError
from indexing.features import FeatureExtractor, embedding_bytes, geometry_bytes
from indexing.gallery_backfill import FIRST_ID, BackfillStore, StoredImage
from indexing.gallery_records import ImageFeatures, unusable
from indexing.image import Pixels
from indexing.rollout import Rollout
from server.registration import decode_reference

BATCH = 32
PACE_SECONDS = 30.0
THREADS = os.cpu_count() or 1

NO_PICTURE = np.empty((0, 0, 3), np.uint8)

Result = TypeVar("Result")


class Backfill:
    """The backfill of one rollout: any number of times begun, it ends with every image done.

    Where both versions of the rollout find the same local features, those of the former are kept,
    and only embeddings are made.
    """

    def __init__(
        self,
        store: BackfillStore,
        blobs: BlobStore,
        former: FeatureExtractor,
        features: FeatureExtractor,
        rollout: Rollout,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._features = features
        self._rollout = rollout
        same = features.same_local_features(former)
        self._local_features_of = former.version if same else None
        self._after = FIRST_ID
        self._next: asyncio.Task[list[tuple[StoredImage, bytes]]] | None = None
        # When batches ended, and how many images each had.
        self._done: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    async def step(self, max_images_per_second: float) -> bool:
        """Does one batch; False where none was left, as of its look.

        Raises DatabaseUnavailable, and whatever the blob store raises: it can be done again then.
        """
        start = time.monotonic()
        coming, self._next = self._next, None
        batch = await (coming or self._fetched())
        if not batch:
            return self._begin_again()
        self._after = batch[-1][0].id
        # The next files come while these are worked on.
        self._next = asyncio.create_task(self._fetched())
        images, files = zip(*batch, strict=True)
        stored = [image.local_features for image in images]
        made = await batch_features(self._features, files, stored)
        await self._store.insert(list(zip([image.id for image in images], made, strict=True)))
        await self._note(len(batch))
        if max_images_per_second:
            elapsed = time.monotonic() - start
            await asyncio.sleep(len(batch) / max_images_per_second - elapsed)
        return True

    def _begin_again(self) -> bool:
        """Goes back to the first id once all were seen: an image may come under any."""
        whole = self._after == FIRST_ID
        self._after = FIRST_ID
        return not whole

    async def _fetched(self) -> list[tuple[StoredImage, bytes]]:
        version = self._rollout.model
        images = await self._store.lacking(version, self._after, BATCH, self._local_features_of)
        return list(zip(images, await asyncio.gather(*map(self._file, images)), strict=True))

    async def _file(self, image: StoredImage) -> bytes:
        """The file of an image; empty where it is lost or is not what was registered."""
        try:
            data = await self._blobs.get(image_key(image.publisher, image.id))
        except FileNotFoundError:
            return b""
        return data if hashlib.sha256(data).digest() == image.sha256 else b""

    async def _note(self, images: int) -> None:
        now = time.monotonic()
        self._done.append((now, images))
        while self._done[0][0] < now - PACE_SECONDS and len(self._done) > 2:
            self._done.popleft()
        done = sum(count for _, count in list(self._done)[1:])
        await self._store.set_pace(self._rollout.id, done / (now - self._done[0][0]))


async def batch_features(
    extractor: FeatureExtractor, files: Sequence[bytes], stored: Sequence[bytes]
) -> list[ImageFeatures]:
    """The features of image files: local ones in as many threads as cores, embeddings at once.

    ``stored`` has the local features of each file that are known; empty where they are to be found.
    """
    looked = await _in_threads(
        _looked, [(extractor, *each) for each in zip(files, stored, strict=True)]
    )
    pictures = [picture for picture, local in looked if local]
    embeddings = iter((await asyncio.to_thread(extractor.embed_references, pictures)).rows())
    version = extractor.version
    return [
        ImageFeatures(version, embedding_bytes(next(embeddings)), local)
        if local
        else unusable(version)
        for _, local in looked
    ]


async def _in_threads(
    work: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]
) -> list[Result]:
    turns = asyncio.Semaphore(THREADS)

    async def one(each: tuple[Any, ...]) -> Result:
        async with turns:
            return await asyncio.to_thread(work, *each)

    return list(await asyncio.gather(*map(one, arguments)))


def _looked(extractor: FeatureExtractor, data: bytes, stored: bytes) -> tuple[Pixels, bytes]:
    """A picture and its local features as they are stored; empty where it cannot be used."""
    try:
        picture, _ = decode_reference(data)
        return picture, stored or _local_features(extractor, picture)
    except ImageLinkError:
        return NO_PICTURE, b""


def _local_features(extractor: FeatureExtractor, picture: Pixels) -> bytes:
    return geometry_bytes(extractor.reference_local(picture), thumbnail(picture))
