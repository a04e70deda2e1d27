"""The galleries in PostgreSQL as archives have them: read one by one, written one by one."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from indexing.archive import ArchivedImage, ArchivedReference
from indexing.blobs import image_key
from indexing.errors import ArchiveInvalid
from indexing.gallery_records import ImageFeatures, NewImage
from indexing.gallery_statements import (
    EVERY_PUBLISHER,
    append_change,
    check_reference_quota,
    fetch_all,
    fetch_one,
    image_parameters,
    lock_publisher,
    needed,
    transaction,
    written_models,
)
from indexing.queries import QUERIES
from indexing.reference import ReferenceImage


@dataclass(frozen=True, slots=True)
class StoredReference:
    """A reference, and the features of those of its images that have any, by image id."""

    reference: ArchivedReference
    features: Mapping[str, ImageFeatures]


class ArchiveStore:
    """References with all that is theirs. Every method raises DatabaseUnavailable."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def reference_ids(self, publisher: str, after_id: str, limit: int) -> list[str]:
        """Return up to ``limit`` ids of references in their order, those after ``after_id``."""
        async with transaction(self._pool, publisher) as connection:
            rows = await fetch_all(
                connection, "reference_ids", publisher=publisher, after_id=after_id, limit=limit
            )
        return [reference for (reference,) in rows]

    async def read(
        self, publisher: str, reference: str, model_version: str
    ) -> StoredReference | None:
        """Return a reference with its features under a model version; None if it is gone."""
        async with transaction(self._pool, publisher) as connection:
            rows = await fetch_all(
                connection,
                "stored_reference",
                publisher=publisher,
                reference=reference,
                model_version=model_version,
            )
        if not rows:
            return None
        images = (
            ArchivedImage(image, width, height, sha256.hex(), created)
            for *_, image, width, height, sha256, created, _, _ in rows
        )
        features = {
            image: ImageFeatures(model_version, embedding, local)
            for *_, image, _, _, _, _, embedding, local in rows
            if embedding
        }
        name, link, metadata, active, created, updated = rows[0][:6]
        found = ArchivedReference(name, link, metadata, active, created, updated, tuple(images))
        return StoredReference(found, features)

    async def claim_images(self, publisher: str, reference: ArchivedReference) -> None:
        """Make sure that the files of a reference's images may be written.

        No erasure still to be done deletes them after this. Raises ArchiveInvalid where another
        image is registered under the id of one of them, and ReferenceQuotaExceeded.
        """
        ids = [image.id for image in reference.images]
        keys = [image_key(publisher, image) for image in ids]
        # Also the images of others: an id is nobody else's.
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            # Before files are written; ``write`` sees whether it still holds.
            await check_reference_quota(connection, publisher, reference.id)
            await connection.execute(QUERIES["keep_blobs"], {"keys": keys})
            other = await fetch_one(
                connection,
                "other_image",
                ids=ids,
                sha256s=[image.sha256 for image in reference.images],
                publisher=publisher,
                reference=reference.id,
            )
        if other:
            raise _image_taken(reference)

    async def write(
        self,
        publisher: str,
        reference: ArchivedReference,
        features: Mapping[str, tuple[ImageFeatures, ...]],
    ) -> bool:
        """Register a reference as it was archived; False where its id is registered already.

        Raises PublisherNotFound, FeaturesOutdated, ReferenceQuotaExceeded, and ArchiveInvalid
        where an image's id is registered already.
        """
        try:
            async with transaction(self._pool, publisher) as connection:
                await lock_publisher(connection, publisher)
                await check_reference_quota(connection, publisher, reference.id)
                return await _insert(connection, publisher, reference, features)
        except UniqueViolation:
            raise _image_taken(reference) from None


async def _insert(
    connection: AsyncConnection,
    publisher: str,
    reference: ArchivedReference,
    features: Mapping[str, tuple[ImageFeatures, ...]],
) -> bool:
    inserted = await fetch_one(
        connection,
        "import_reference",
        publisher=publisher,
        reference=reference.id,
        link=reference.link,
        metadata=Jsonb(dict(reference.metadata)),
        active=reference.active,
        create_time=reference.create_time,
        update_time=reference.update_time,
    )
    if inserted is None:
        return False
    versions = await written_models(connection)
    for image in reference.images:
        stored = ReferenceImage(image.id, image.width, image.height, bytes.fromhex(image.sha256))
        new = NewImage(publisher, reference.id, stored, needed(features[image.id], versions))
        parameters = image_parameters(new) | {"create_time": image.create_time}
        await connection.execute(QUERIES["import_image"], parameters)
    await append_change(connection, publisher, reference.id)
    return True


def _image_taken(reference: ArchivedReference) -> ArchiveInvalid:
    problem = f"an image id of reference '{reference.id}' is that of another image here."
    return ArchiveInvalid(problem=problem)
