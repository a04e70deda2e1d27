"""The flow of a registration: check, extract features, store."""

import asyncio
import hashlib
import itertools
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from indexing.blobs import BlobStore, image_key
from indexing.errors import DatabaseUnavailable, ImageLinkError, ImageTooSmall
from indexing.features import FeatureExtractor, embedding_bytes, geometry_bytes
from indexing.gallery import GalleryStore
from indexing.gallery_records import ImageFeatures, NewReference, Written
from indexing.image import Pixels, decode
from indexing.recognition import WORKING_SIDE
from indexing.reference import ReferenceImage

MIN_REFERENCE_SIDE = 64


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


class Registrar:
    """Registers and deletes references in the database and the blob store."""

    def __init__(self, store: GalleryStore, blobs: BlobStore, features: FeatureExtractor) -> None:
        self._store = store
        self._blobs = blobs
        self._features = features

    async def register(self, asked: Registration) -> Written:
        """Registers a reference with its image, or answers what an equal request did before.

        The image is stored before the row that makes it count, so that no row lacks its image.
        Raises the errors of ``decode_reference`` and of ``GalleryStore.register``, and
        ImageTooPlain.
        """
        fingerprint = asked.fingerprint()
        if asked.request_id:
            done = await self._store.find_request(asked.publisher, asked.request_id, fingerprint)
            if done is not None:
                return done
        image, features = await asyncio.to_thread(self._prepared, asked.image)
        key = image_key(asked.publisher, image.id)
        await self._blobs.put(key, asked.image)
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
        try:
            written = await self._store.register(new)
        except DatabaseUnavailable:
            # The row may be there all the same: its image stays, as it does at a cancellation.
            raise
        except ImageLinkError:
            await self._blobs.delete([key])
            raise
        if all(stored.id != image.id for stored in written.reference.images):
            await self._blobs.delete([key])
        return written

    async def delete(self, publisher: str, reference_id: str) -> int:
        """Deletes a reference with its images; returns the gallery version without it."""
        deleted = await self._store.delete_reference(publisher, reference_id)
        await self._blobs.delete([image_key(publisher, image) for image in deleted.image_ids])
        return deleted.gallery_version

    async def delete_publisher(self, publisher: str) -> int:
        """Deletes a publisher with its images; returns how many references it had."""
        images = await self._store.image_ids(publisher)
        count = await self._store.delete_publisher(publisher)
        await self._blobs.delete([image_key(publisher, image) for image in images])
        return count

    def _prepared(self, data: bytes) -> tuple[ReferenceImage, ImageFeatures]:
        pixels, (width, height) = decode_reference(data)
        found = self._features.reference(pixels)
        image = ReferenceImage(str(uuid.uuid4()), width, height, hashlib.sha256(data).digest())
        features = ImageFeatures(
            self._features.version, embedding_bytes(found.embedding), geometry_bytes(found)
        )
        return image, features
