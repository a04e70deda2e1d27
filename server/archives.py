"""The flows of an export and an import of a gallery."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from indexing.archive import (
    FORMAT,
    ArchivedReference,
    ArchiveHeader,
    ArchiveReader,
    ArchiveWriter,
    Files,
)
from indexing.blobs import BlobStore, image_key
from indexing.errors import (
    ArchiveInvalid,
    FeaturesOutdated,
    FieldInvalid,
    ImageFileDamaged,
    ImageInvalid,
    ImageLinkError,
    ImageTooLarge,
    ImageTooManyPixels,
    ImageTooPlain,
    ImageTooSmall,
    PublisherAlreadyExists,
)
from indexing.features import embeddings_from, reference_features
from indexing.gallery import GalleryStore
from indexing.gallery_archives import ArchiveStore, StoredReference
from indexing.gallery_records import ImageFeatures
from server import conversions as convert
from server.background import in_background
from server.models import Model, Models
from server.registration import decode_reference, written_features

CHUNK = 1024 * 1024
PAGE = 500
# What a picture may be under one model and not under another.
UNUSABLE = (ImageInvalid, ImageTooLarge, ImageTooManyPixels, ImageTooPlain, ImageTooSmall)


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an archive: how many references were written or kept, and what failed."""

    written: int
    kept: int
    failures: Mapping[str, ImageLinkError]
    gallery_version: int


class Archivist:
    """Writes galleries into archives, and archives into galleries."""

    def __init__(
        self,
        store: GalleryStore,
        archives: ArchiveStore,
        blobs: BlobStore,
        models: Models,
    ) -> None:
        self._store = store
        self._archives = archives
        self._blobs = blobs
        self._models = models

    async def export(self, publisher: str) -> AsyncGenerator[bytes, None]:
        """The archive of a gallery, in chunks.

        Raises PublisherNotFound, and ImageFileDamaged where a file is not what was registered.
        """
        buffer = bytearray()
        async for piece in self._pieces(publisher):
            buffer += piece
            while len(buffer) >= CHUNK:
                yield bytes(buffer[:CHUNK])
                del buffer[:CHUNK]
        yield bytes(buffer)

    async def _pieces(self, publisher: str) -> AsyncIterator[bytes]:
        found = await self._store.get_publisher(publisher)
        version = self._models.version(publisher)
        writer = ArchiveWriter()
        header = ArchiveHeader(
            FORMAT, publisher, found.display_name, found.false_accept_budget, version
        )
        for piece in writer.begin(header):
            yield piece
        last = ""
        while ids := await self._archives.reference_ids(publisher, last, PAGE):
            for reference_id in ids:
                whole = await self._whole(publisher, reference_id, version)
                for piece in writer.add(*whole) if whole else ():
                    yield piece
            last = ids[-1]
        yield writer.end()

    async def _whole(
        self, publisher: str, reference_id: str, version: str
    ) -> tuple[ArchivedReference, Files] | None:
        """A reference with its files; None where it is gone by now."""
        stored = await self._archives.read(publisher, reference_id, version)
        while stored is not None:
            try:
                return stored.reference, await self._files(publisher, stored)
            except ImageFileDamaged:
                # Its file may have gone with it, or with the image, since the row was read.
                before = stored
                stored = await self._archives.read(publisher, reference_id, version)
                if stored == before:
                    raise
        return None

    async def _files(self, publisher: str, stored: StoredReference) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        for image in stored.reference.images:
            data = b""
            with suppress(FileNotFoundError):
                data = await self._blobs.get(image_key(publisher, image.id))
            if hashlib.sha256(data).hexdigest() != image.sha256:
                raise ImageFileDamaged(reference=stored.reference.id, image=image.id)
            files[f"{image.id}.image"] = data
            if image.id in stored.features:
                files[f"{image.id}.embedding"] = stored.features[image.id].embedding
                files[f"{image.id}.local_features"] = stored.features[image.id].local_features
        return files

    async def import_(self, publisher: str, chunks: AsyncIterator[bytes]) -> Imported:
        """Registers what an archive has, as it has it, and leaves what is registered already.

        Each reference is written in one transaction, after its bytes were verified. Raises
        ArchiveInvalid, ArchiveDamaged and ReferenceQuotaExceeded; what came before is written
        then.
        """
        reader = ArchiveReader(chunks)
        header = await reader.header()
        await self._prepare(publisher, header)
        written = kept = 0
        failures: dict[str, ImageLinkError] = {}
        async for reference, files in reader.references():
            try:
                done = await self._import(publisher, header, reference, files)
                written, kept = written + done, kept + (not done)
            except UNUSABLE as error:
                failures[reference.id] = error
        now = await self._store.get_publisher(publisher)
        return Imported(written, kept, failures, now.gallery_version)

    async def _prepare(self, publisher: str, header: ArchiveHeader) -> None:
        if header.publisher != publisher:
            problem = f"it is of publisher '{header.publisher}', so import it as that one."
            raise ArchiveInvalid(problem=problem)
        try:
            name = convert.checked_display_name("display_name", header.display_name)
            budget = convert.checked_budget("false_accept_budget", header.false_accept_budget)
        except FieldInvalid as error:
            raise ArchiveInvalid(problem=str(error)) from None
        with suppress(PublisherAlreadyExists):
            await self._store.create_publisher(publisher, name, budget)

    async def _import(
        self, publisher: str, header: ArchiveHeader, reference: ArchivedReference, files: Files
    ) -> bool:
        """Writes a reference; False where there is one with its id."""
        _check(reference)
        if await self._archives.read(publisher, reference.id, header.model_version):
            return False
        features = await self._features(header, reference, files)
        await self._archives.claim_images(publisher, reference)
        for image in reference.images:
            await self._blobs.put(image_key(publisher, image.id), files[f"{image.id}.image"])
        while True:
            try:
                return await self._archives.write(publisher, reference, features)
            except FeaturesOutdated:
                # A rollout has begun since they were made.
                await self._models.refresh()
                features = await self._features(header, reference, files)

    async def _features(
        self, header: ArchiveHeader, reference: ArchivedReference, files: Files
    ) -> dict[str, tuple[ImageFeatures, ...]]:
        models = await self._models.written()
        return {
            image.id: await in_background(_image_features, models, header, image.id, files)
            for image in reference.images
        }


def _image_features(
    models: Sequence[Model], header: ArchiveHeader, image: str, files: Files
) -> tuple[ImageFeatures, ...]:
    """The features that an image needs, from the archive where it has them all."""
    if [model.version for model in models] == [header.model_version]:
        archived = _archived_features(header, image, files)
        if archived is not None:
            return (archived,)
    pixels, _ = decode_reference(files[f"{image}.image"])
    return written_features(models, pixels)


def _archived_features(header: ArchiveHeader, image: str, files: Files) -> ImageFeatures | None:
    embedding = files.get(f"{image}.embedding")
    local = files.get(f"{image}.local_features")
    if embedding is None or local is None:
        return None
    try:
        reference_features(embeddings_from(header.model_version, [embedding]), local)
    except Exception as error:
        # An index that reads them later would fail on them, whatever they are.
        problem = f"the features of image '{image}' cannot be read."
        raise ArchiveInvalid(problem=problem) from error
    return ImageFeatures(header.model_version, embedding, local)


def _check(reference: ArchivedReference) -> None:
    """Holds a reference to the rules of those that are registered. Raises ArchiveInvalid."""
    try:
        convert.checked_id("id", reference.id)
        convert.checked_link("link", reference.link)
        convert.checked_metadata("metadata", reference.metadata)
        for image in reference.images:
            convert.checked_uuid("image", image.id)
    except FieldInvalid as error:
        problem = f"reference '{reference.id[:80]}' breaks a rule. {error}"
        raise ArchiveInvalid(problem=problem) from None
