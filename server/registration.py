"""The flow of a registration: check, extract features, store."""

import asyncio
import hashlib
import itertools
import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from indexing.blobs import BlobStore, image_key
from indexing.errors import (
    DatabaseUnavailable,
    FeaturesOutdated,
    ImageLinkError,
    ImageTooPlain,
    ImageTooSmall,
    ReferenceAlreadyExists,
    ReferenceNotFound,
    ReferenceQuotaExceeded,
)
from indexing.features import FeatureExtractor, embedding_bytes, geometry_bytes
from indexing.gallery import GalleryStore
from indexing.gallery_records import ImageFeatures, NewImage, NewReference, Written, unusable
from indexing.image import Pixels, decode
from indexing.recognition import WORKING_SIDE
from indexing.reference import ReferenceImage
from server.background import THREADS, in_background
from server.models import Model, Models
from server.repeating import repeat

MIN_REFERENCE_SIDE = 64
FORGET_SECONDS = 600.0

New = TypeVar("New", NewReference, NewImage)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a publisher asks to register; without ``reference_id`` one is made up."""

    publisher: str
    reference_id: str
    link: str
    metadata: Mapping[str, str]
    image: bytes
    request_id: str

    def fingerprint(self) -> bytes:
        """A digest of the content: the same for a repeated request."""
        digest = hashlib.sha256()
        parts = [self.reference_id, self.link, *itertools.chain(*sorted(self.metadata.items()))]
        for part in (*(part.encode() for part in parts), self.image):
            digest.update(hashlib.sha256(part).digest())
        return digest.digest()


def decode_reference(data: bytes) -> tuple[Pixels, tuple[int, int]]:
    """Decodes a reference's image as ``decode`` does, to at most 640 pixels.

    Raises the errors of ``decode``, and ImageTooSmall.
    """
    pixels, (width, height) = decode(data, WORKING_SIDE)
    if min(width, height) < MIN_REFERENCE_SIDE:
        raise ImageTooSmall(width=width, height=height, limit=MIN_REFERENCE_SIDE)
    return pixels, (width, height)


def image_features(extractor: FeatureExtractor, pixels: Pixels) -> ImageFeatures:
    """The features of a decoded reference image, as they are stored. Raises ImageTooPlain."""
    found = extractor.reference(pixels)
    return ImageFeatures(
        extractor.version,
        embedding_bytes(found.embedding),
        geometry_bytes(found.local, found.thumbnail),
    )


def written_features(models: Sequence[Model], pixels: Pixels) -> tuple[ImageFeatures, ...]:
    """The features of an image under each model version that it needs them of.

    Raises ImageTooPlain where the first, which is in service, can make nothing of it; one that
    cannot keeps that.
    """
    serving, *others = models
    first = image_features(serving.features, pixels)
    return (first, *(_features_beside(first, serving, each, pixels) for each in others))


def _features_beside(
    first: ImageFeatures, serving: Model, model: Model, pixels: Pixels
) -> ImageFeatures:
    """The features under another model, whose local ones may be those of the first."""
    if model.features.same_local_features(serving.features):
        embedding = model.features.embed_references([pixels])
        return ImageFeatures(model.version, embedding_bytes(embedding), first.local_features)
    try:
        return image_features(model.features, pixels)
    except ImageTooPlain:
        return unusable(model.version)


class Registrar:
    """Registers references, adds and removes images, in the database and the blob store."""

    def __init__(self, store: GalleryStore, blobs: BlobStore, models: Models) -> None:
        self._store = store
        self._blobs = blobs
        self._models = models
        self._preparing = asyncio.Semaphore(THREADS)

    async def register(self, asked: Registration) -> Written:
        """Registers a reference with its image, or answers what an equal request did before.

        The image is stored before the row that makes it count, so that no row lacks its image.
        Raises the errors of ``decode_reference`` and of ``GalleryStore.register``, and
        ImageTooPlain.
        """
        fingerprint = asked.fingerprint()
        # Before the look for the request, which may be done in between; and before features are
        # made, so that a folder that is sent again costs little.
        refusal = await self._refusal(asked.publisher, asked.reference_id)
        if asked.request_id:
            done = await self._store.find_request(asked.publisher, asked.request_id, fingerprint)
            if done is not None:
                return done
        if refusal is not None:
            raise refusal
        image, features = await self._prepare(asked.image)
        new = NewReference(
            asked.publisher,
            asked.reference_id or secrets.token_hex(8),
            asked.link,
            asked.metadata,
            image,
            features,
            asked.request_id or None,
            fingerprint,
        )
        return await self._stored(new, asked.image, self._store.register)

    async def add_image(
        self, publisher: str, reference_id: str, data: bytes
    ) -> tuple[Written, ReferenceImage]:
        """Adds an image to a reference; returns what was written, and the new image.

        Raises the errors of ``decode_reference`` and of ``GalleryStore.add_image``, and
        ImageTooPlain.
        """
        # What does not exist is said before time is spent on features.
        await self._store.get_reference(publisher, reference_id)
        image, features = await self._prepare(data)
        new = NewImage(publisher, reference_id, image, features)
        return await self._stored(new, data, self._store.add_image), image

    async def remove_image(self, publisher: str, reference_id: str, image: str) -> Written:
        """Removes an image of a reference, and its file.

        Raises the errors of ``GalleryStore.remove_image``.
        """
        written = await self._store.remove_image(publisher, reference_id, image)
        await self._blobs.delete([image_key(publisher, image)])
        return written

    async def _refusal(self, publisher: str, reference_id: str) -> ImageLinkError | None:
        """Why a new reference would be refused now."""
        if reference_id and await self._exists(publisher, reference_id):
            return ReferenceAlreadyExists(publisher=publisher, reference=reference_id)
        try:
            await self._store.check_reference_quota(publisher, reference_id)
        except ReferenceQuotaExceeded as error:
            return error
        return None

    async def _exists(self, publisher: str, reference_id: str) -> bool:
        with suppress(ReferenceNotFound):
            await self._store.get_reference(publisher, reference_id)
            return True
        return False

    async def _stored(
        self, new: New, data: bytes, write: Callable[[New], Awaitable[Written]]
    ) -> Written:
        """Stores an image's file, then its rows by ``write``; no file is left without rows."""
        key = image_key(new.publisher, new.image.id)
        await self._blobs.put(key, data)
        try:
            written = await self._written(new, data, write)
        except DatabaseUnavailable:
            # The row may be there all the same: its image stays, as it does at a cancellation.
            raise
        except ImageLinkError:
            await self._blobs.delete([key])
            raise
        if all(stored.id != new.image.id for stored in written.reference.images):
            await self._blobs.delete([key])
        return written

    async def follow(self) -> None:
        """Forgets requests of long ago, without end; any number of processes may do so."""
        await repeat("forgetting requests", FORGET_SECONDS, self._store.forget_requests)

    async def _written(
        self, new: New, data: bytes, write: Callable[[New], Awaitable[Written]]
    ) -> Written:
        """Writes the rows, with the features that they need by then."""
        while True:
            try:
                return await write(new)
            except FeaturesOutdated:
                # A rollout has begun since they were made.
                await self._models.refresh()
                _, features = await self._prepare(data)
                new = replace(new, features=features)

    async def _prepare(self, data: bytes) -> tuple[ReferenceImage, tuple[ImageFeatures, ...]]:
        async with self._preparing:
            # Not before it is its turn: who waits would keep versions that nobody needs any more.
            models = await self._models.written()
            return await in_background(_prepared, models, data)


def _prepared(
    models: Sequence[Model], data: bytes
) -> tuple[ReferenceImage, tuple[ImageFeatures, ...]]:
    pixels, (width, height) = decode_reference(data)
    image = ReferenceImage(str(uuid.uuid4()), width, height, hashlib.sha256(data).digest())
    return image, written_features(models, pixels)
