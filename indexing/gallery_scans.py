"""Scans kept with the consent of their publishers, in PostgreSQL; their photos are blobs.

A row is there before its photo and until after it: what a crash leaves, the next removal finds.
Every method raises DatabaseUnavailable where the database does not answer.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from psycopg_pool import AsyncConnectionPool

from indexing.blobs import scan_key
from indexing.gallery_statements import (
    EVERY_PUBLISHER,
    fetch_all,
    fetch_one,
    lock_publisher,
    transaction,
)
from indexing.queries import QUERIES
from indexing.reference import Publisher

REMOVED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KeptScan:
    """A scan whose photo is kept."""

    publisher: str
    id: str

    @property
    def key(self) -> str:
        """Where the blob store has its photo."""
        return scan_key(self.publisher, self.id)


class KeptScanStore:
    """The kept scans of all publishers."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def keep(
        self,
        publisher: Publisher,
        scan_id: str,
        answered: Sequence[str],
        model_version: str,
        put: Callable[[str], Awaitable[None]],
    ) -> bool:
        """Keep a scan, whose photo ``put`` writes under the key that it is given.

        ``answered`` are the references that it was answered with. Return whether it was kept: not
        where the publisher does not agree any more, or lacks one of them by now. Raises
        PublisherNotFound, and what ``put`` raises.
        """
        whose = {"publisher": publisher.id, "id": scan_id}
        async with transaction(self._pool, publisher.id) as connection:
            # So that an erasure is either before it, or knows of it.
            await lock_publisher(connection, publisher.id)
            inserted = await fetch_one(
                connection,
                "insert_kept_scan",
                **whose,
                create_time=publisher.create_time,
                answered=list(answered),
                model_version=model_version,
            )
        if inserted is None:
            return False
        async with transaction(self._pool, publisher.id) as connection:
            if await fetch_one(connection, "set_scan_stored", **whose) is None:
                return False
            await put(scan_key(publisher.id, scan_id))
        return True

    async def sample(self, limit: int) -> list[KeptScan]:
        """Return up to ``limit`` scans, of as many publishers as may be."""
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            rows = await fetch_all(connection, "sampled_scans", limit=limit)
        return [KeptScan(*row) for row in rows]

    async def remove_surplus(
        self, days: int, delete: Callable[[Sequence[str]], Awaitable[None]]
    ) -> int:
        """Remove some of the scans that are older, or more than their publishers agreed to.

        Those without a photo go too. ``delete`` deletes photos by their keys; their rows go once
        it returned. Return how many went. Raises what ``delete`` raises.
        """
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            rows = await fetch_all(
                connection, "lock_surplus_scans", days=days, limit=REMOVED_AT_ONCE
            )
            if rows:
                scans = [KeptScan(*row) for row in rows]
                await delete([scan.key for scan in scans])
                gone = {"publishers": [s.publisher for s in scans], "ids": [s.id for s in scans]}
                await connection.execute(QUERIES["delete_kept_scans"], gone)
        return len(rows)
