"""Erasures in PostgreSQL: what is to be removed everywhere, and the receipts of it.

The transaction that deletes the rows of a reference or a publisher writes down the erasure and
the blobs still to delete, so that a crash at any moment loses neither. Each index then confirms
that it lacks what was erased. An index says that it lives each time it asks what to confirm;
one that is silent for LEASE is taken for ended and no longer waited for, but stays on the receipt
as lost until it confirms after all.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from indexing.blobs import image_key, scan_key
from indexing.errors import ErasureReceiptNotFound, PublisherNotFound
from indexing.gallery_statements import Row, fetch_all, fetch_one, transaction
from indexing.queries import QUERIES

LEASE = timedelta(seconds=60)
FORGET = timedelta(days=1)
BLOB_BATCH = 500
CONFIRM_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Erasure:
    """The removal of a reference, or of a whole publisher where ``reference`` is None.

    ``gallery_version`` is the first without it; after a publisher's, one its gallery never had.
    ``complete_time`` is unset while a blob or an index is left. ``scans`` counts kept scans.
    """

    id: str
    publisher: str
    publisher_create_time: datetime
    reference: str | None
    gallery_version: int
    references: int
    images: int
    features: int
    blobs: int
    request_time: datetime
    blob_delete_time: datetime | None
    complete_time: datetime | None
    scans: int


class ConfirmationState(StrEnum):
    """What is known of an index that may hold something erased."""

    CONFIRMED = "confirmed"
    AWAITED = "awaited"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What one process that holds an index said of an erasure, and when."""

    replica: str
    state: ConfirmationState
    time: datetime | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """An erasure and its confirmations, by replica."""

    erasure: Erasure
    confirmations: tuple[Confirmation, ...]


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An erasure that an index has not confirmed yet."""

    id: str
    publisher: str
    publisher_create_time: datetime
    gallery_version: int

    def is_past(self, create_time: datetime, version: int) -> bool:
        """Whether an index of the publisher created then, at this version, lacks what was erased."""
        return create_time != self.publisher_create_time or version >= self.gallery_version


@dataclass(frozen=True, slots=True)
class ErasedFiles:
    """What has files and goes with an erasure: ids of images and of kept scans, and the keys of all."""

    images: list[str]
    scans: list[str]
    keys: list[str]


async def erased_files(
    connection: AsyncConnection, publisher: str, reference: str | None
) -> ErasedFiles:
    """Return the images, and the kept scans, that go with a reference or with a whole publisher."""
    whose = {"publisher": publisher, "reference": reference}
    images = [image for (image,) in await fetch_all(connection, "erased_image_ids", **whose)]
    scans = [scan for (scan,) in await fetch_all(connection, "erased_scan_ids", **whose)]
    keys = [image_key(publisher, image) for image in images]
    return ErasedFiles(images, scans, keys + [scan_key(publisher, scan) for scan in scans])


async def record_erasure(
    connection: AsyncConnection,
    publisher: str,
    reference: str | None,
    blob_keys: Iterable[str] = (),
) -> Erasure:
    """Write down what is deleted next in this transaction, with all blobs that go with it.

    ``blob_keys`` are blobs that no row tells of. The caller holds the publisher's row lock.
    """
    files = await erased_files(connection, publisher, reference)
    keys = sorted({*blob_keys, *files.keys})
    erasure_id = f"{time.time_ns():016x}-{secrets.token_hex(8)}"
    row = await fetch_one(
        connection,
        "insert_erasure",
        id=erasure_id,
        publisher=publisher,
        reference=reference,
        images=files.images,
        scans=files.scans,
        keys=keys,
    )
    if row is None:
        raise PublisherNotFound(publisher=publisher)
    await connection.execute(QUERIES["insert_erasure_blobs"], {"id": erasure_id, "keys": keys})
    return Erasure(*row)


async def _receipts(connection: AsyncConnection, rows: Sequence[Row]) -> list[Receipt]:
    found = [Erasure(*row) for row in rows]
    confirmations: dict[str, list[Confirmation]] = {erasure.id: [] for erasure in found}
    told = await fetch_all(
        connection, "erasure_confirmations", ids=list(confirmations), lease=LEASE
    )
    for erasure_id, replica, state, when in told:
        each = Confirmation(replica, ConfirmationState(state), when)
        confirmations[erasure_id].append(each)
    return [Receipt(erasure, tuple(confirmations[erasure.id])) for erasure in found]


class ErasureStore:
    """The erasures of all publishers. Every method raises DatabaseUnavailable."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def receipt(self, publisher: str, erasure_id: str) -> Receipt:
        """Return how far an erasure is. Raises ErasureReceiptNotFound."""
        async with transaction(self._pool) as connection:
            row = await fetch_one(connection, "get_erasure", publisher=publisher, id=erasure_id)
            if row is None:
                raise ErasureReceiptNotFound(publisher=publisher, receipt=erasure_id)
            (receipt,) = await _receipts(connection, [row])
        return receipt

    async def receipts(self, publisher: str, after_id: str | None, limit: int) -> list[Receipt]:
        """Return up to ``limit`` receipts in the order of the requests, those after ``after_id``.

        An unknown publisher has none, and one that was deleted keeps its own.
        """
        async with transaction(self._pool) as connection:
            rows = await fetch_all(
                connection,
                "list_erasures",
                publisher=publisher,
                after_id=after_id or "",
                limit=limit,
            )
            return await _receipts(connection, rows)

    async def delete_blobs(
        self, delete: Callable[[Sequence[str]], Awaitable[None]], erasure_id: str | None = None
    ) -> int:
        """Have some blobs deleted, of one erasure or of any; return how many.

        Their keys are forgotten once ``delete`` returned, so that a crash has them deleted
        again. Raises what ``delete`` raises.
        """
        async with transaction(self._pool) as connection:
            rows = await fetch_all(
                connection, "lock_erasure_blobs", id=erasure_id, limit=BLOB_BATCH
            )
            if rows:
                ids, keys = map(list, zip(*rows, strict=True))
                await delete(keys)
                await connection.execute(
                    QUERIES["delete_erasure_blobs"], {"ids": ids, "keys": keys}
                )
        return len(rows)

    async def complete(self) -> None:
        """Close the erasures that are over, and forget indexes that ended long ago."""
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["finish_erasure_blobs"])
            await connection.execute(QUERIES["complete_erasures"], {"lease": LEASE})
            await connection.execute(QUERIES["forget_shard_replicas"], {"age": FORGET})

    async def see_replica(self, replica: str) -> None:
        """Write down that an index lives. It must be, before it loads its first gallery."""
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["see_shard_replica"], {"id": replica})

    async def unconfirmed(self, replica: str) -> list[Unconfirmed]:
        """Return some of the erasures that an index has to confirm."""
        async with transaction(self._pool) as connection:
            rows = await fetch_all(
                connection, "unconfirmed_erasures", replica=replica, limit=CONFIRM_BATCH
            )
        return [Unconfirmed(*row) for row in rows]

    async def confirm(self, replica: str, erasure_ids: Sequence[str]) -> None:
        """Write down that an index lacks what was erased."""
        async with transaction(self._pool) as connection:
            await connection.execute(
                QUERIES["confirm_erasures"], {"replica": replica, "ids": list(erasure_ids)}
            )
