"""Features of one model version for images that are registered: what lacks them, and those that go.

Every method raises DatabaseUnavailable where the database does not answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from psycopg_pool import AsyncConnectionPool

from indexing.gallery_records import ImageFeatures
from indexing.gallery_statements import (
    EVERY_PUBLISHER,
    fetch_all,
    fetch_count,
    fetch_one,
    transaction,
)
from indexing.queries import QUERIES
from indexing.rollout import BackfillProgress

FIRST_ID = "00000000-0000-0000-0000-000000000000"
PACE_FRESH = timedelta(seconds=30)
DELETED_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of a reference; ``sha256`` is the digest of its file.

    ``local_features`` are those of the version that was asked for; empty where it has none.
    """

    publisher: str
    reference: str
    id: str
    sha256: bytes
    local_features: bytes = b""


class BackfillStore:
    """The features of all publishers' images, by model version."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def lacking(
        self, version: str, after: str, limit: int, local_features_of: str | None = None
    ) -> list[StoredImage]:
        """Return up to ``limit`` images without features of a version, by id, after ``after``.

        With them come the local features of another version, where one is named.
        """
        parameters = {"version": version, "after": after, "limit": limit}
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            rows = await fetch_all(
                connection, "lacking_images", **parameters, local_features_of=local_features_of
            )
        return [StoredImage(*row) for row in rows]

    async def sample(self, limit: int) -> list[StoredImage]:
        """Return up to ``limit`` images of active references, of as many publishers as may be."""
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            rows = await fetch_all(connection, "sampled_images", limit=limit)
        return [StoredImage(*row) for row in rows]

    async def insert(self, made: Sequence[tuple[str, ImageFeatures]]) -> None:
        """Keep features of images, given by their ids; those that have some keep them."""
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            cursor = connection.cursor()
            await cursor.executemany(
                QUERIES["insert_features"],
                [
                    {
                        "image": image,
                        "version": features.model_version,
                        "embedding": features.embedding,
                        "local_features": features.local_features,
                    }
                    for image, features in made
                ],
            )

    async def set_pace(self, rollout: str, images_per_second: float) -> None:
        """Say how fast a rollout's backfill is."""
        parameters = {"id": rollout, "images_per_second": images_per_second}
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["set_rollout_pace"], parameters)

    async def progress(self, rollout: str, version: str) -> BackfillProgress:
        """Return how far a rollout's backfill of a version is."""
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            await connection.execute(QUERIES["begin_snapshot"])
            done = await fetch_count(connection, "count_features", version=version)
            images = await fetch_count(connection, "count_all_images")
            unusable = await fetch_count(connection, "count_unusable", version=version)
            pace = await fetch_one(connection, "rollout_pace", id=rollout, fresh=PACE_FRESH)
        return BackfillProgress(done, images, unusable, float(pace[0]) if pace else 0.0)

    async def delete(self, version: str) -> None:
        """Delete all features of a version, some at a time."""
        deleted = DELETED_AT_ONCE
        while deleted == DELETED_AT_ONCE:
            async with transaction(self._pool, EVERY_PUBLISHER) as connection:
                cursor = await connection.execute(
                    QUERIES["delete_features"], {"version": version, "limit": DELETED_AT_ONCE}
                )
                deleted = cursor.rowcount

    async def delete_needless(self) -> list[str]:
        """Delete the features of versions that nothing uses, and return these versions."""
        async with transaction(self._pool) as connection:
            needless = [name for (name,) in await fetch_all(connection, "needless_features")]
        for version in needless:
            await self.delete(version)
            async with transaction(self._pool) as connection:
                # Not where a rollout of it has begun meanwhile.
                await connection.execute(QUERIES["take_model_lock"])
                still = await fetch_all(connection, "needless_features")
                if (version,) in still:
                    parameters = {"version": version, "has_features": False}
                    await connection.execute(QUERIES["set_has_features"], parameters)
        return needless
