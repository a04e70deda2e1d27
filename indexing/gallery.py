"""The galleries in PostgreSQL, the source of truth: the only module that speaks to it.

Every write to a gallery takes its publisher's row lock, gives the gallery its next version
and appends a change, in one transaction. Database errors are translated here and nowhere
else: every method raises DatabaseUnavailable where the database does not answer.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.errors import ForeignKeyViolation, UniqueViolation
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from indexing import errors
from indexing import gallery_statements as statements
from indexing.gallery_erasures import Erasure, record_erasure
from indexing.gallery_records import (
    EVERY_REFERENCE,
    GalleryDelta,
    NewImage,
    NewReference,
    ReferenceFilter,
    StoredKey,
    Written,
)
from indexing.gallery_statements import (
    Row,
    fetch_all,
    fetch_count,
    fetch_one,
    to_api_key,
    to_publisher,
)
from indexing.group_commit import GroupCommit
from indexing.queries import QUERIES
from indexing.reference import DEFAULT_SCAN_WEIGHT, ApiKey, Publisher, Reference, Role

# For so many days a registration may be sent again with its request id.
REQUEST_DAYS = 7

# A peer that vanished without a word is noticed within a minute, not in hours.
_CONNECTION_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


async def open_pool(
    dsn: str, max_size: int, *, acquire_timeout: float = 5.0
) -> AsyncConnectionPool:
    """Open a pool of at most ``max_size`` connections; the caller closes it.

    A call waits up to ``acquire_timeout`` seconds for a connection. The pool opens while the
    database is down, and recovers when it comes back. ``GalleryStore.changes`` keeps one
    connection to itself, so a process that uses it needs at least two.
    """
    pool = AsyncConnectionPool(
        dsn,
        kwargs=_CONNECTION_OPTIONS,
        min_size=1,
        max_size=max_size,
        timeout=acquire_timeout,
        # The default of five minutes backs off so far that a pool would stay down for
        # minutes after the database is up; a pool that gave up tries again on demand.
        reconnect_timeout=acquire_timeout,
        check=AsyncConnectionPool.check_connection,
        configure=statements.confine,
        open=False,
    )
    await pool.open()
    return pool


class GalleryStore:
    """Publishers, API keys, references and the change log of every gallery."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._registrations = GroupCommit(self._register)

    # Publishers

    async def create_publisher(
        self,
        publisher: str,
        display_name: str,
        false_accept_budget: float,
        scan_weight: int = DEFAULT_SCAN_WEIGHT,
        max_scans_per_second: float = 0.0,
        max_references: int = 0,
        max_kept_scans: int = 0,
    ) -> Publisher:
        """Create a publisher with an empty gallery. Raises PublisherAlreadyExists."""
        async with self._transaction() as connection:
            try:
                row = await fetch_one(
                    connection,
                    "create_publisher",
                    id=publisher,
                    display_name=display_name,
                    false_accept_budget=false_accept_budget,
                    scan_weight=scan_weight,
                    max_scans_per_second=max_scans_per_second,
                    max_references=max_references,
                    max_kept_scans=max_kept_scans,
                )
            except UniqueViolation as error:
                raise errors.PublisherAlreadyExists(publisher=publisher) from error
        return to_publisher(row, publisher)

    async def get_publisher(self, publisher: str) -> Publisher:
        """Return a publisher. Raises PublisherNotFound."""
        return to_publisher(await self._one("get_publisher", id=publisher), publisher)

    async def list_publishers(self, after_id: str | None, limit: int) -> list[Publisher]:
        """Return up to ``limit`` publishers by id, those after ``after_id``."""
        rows = await self._all("list_publishers", after_id=after_id or "", limit=limit)
        return [Publisher(*row) for row in rows]

    async def publisher_ids(self) -> list[str]:
        """Return the ids of all publishers, in order."""
        return [publisher for (publisher,) in await self._all("publisher_ids")]

    async def update_publisher(
        self,
        publisher: str,
        *,
        display_name: str | None = None,
        suspended: bool | None = None,
        false_accept_budget: float | None = None,
        scan_weight: int | None = None,
        max_scans_per_second: float | None = None,
        max_references: int | None = None,
        max_kept_scans: int | None = None,
    ) -> Publisher:
        """Change what is not None; the gallery version stays. Raises PublisherNotFound."""
        row = await self._one(
            "update_publisher",
            id=publisher,
            display_name=display_name,
            suspended=suspended,
            false_accept_budget=false_accept_budget,
            scan_weight=scan_weight,
            max_scans_per_second=max_scans_per_second,
            max_references=max_references,
            max_kept_scans=max_kept_scans,
        )
        return to_publisher(row, publisher)

    async def delete_publisher(self, publisher: str, blob_keys: Iterable[str] = ()) -> Erasure:
        """Delete a publisher with all that is its own, and begin its erasure.

        ``blob_keys`` are blobs of it that no row may tell of. Raises PublisherNotFound.
        """
        async with self._writing(publisher) as connection:
            erasure = await record_erasure(connection, publisher, None, blob_keys)
            await connection.execute(QUERIES["delete_publisher"], {"id": publisher})
        return erasure

    # API keys

    async def create_api_key(
        self,
        publisher: str | None,
        key_id: str,
        role: Role,
        secret_sha256: bytes,
        display_name: str,
        expire_time: datetime | None = None,
    ) -> ApiKey:
        """Store a key under the SHA-256 of its secret; no publisher means the operator.

        Raises PublisherNotFound, and FieldInvalid for a key id that exists already.
        """
        async with self._transaction() as connection:
            try:
                row = await fetch_one(
                    connection,
                    "create_api_key",
                    id=key_id,
                    publisher=publisher,
                    role=role.value,
                    secret_sha256=secret_sha256,
                    display_name=display_name,
                    expire_time=expire_time,
                )
            except ForeignKeyViolation as error:
                raise errors.PublisherNotFound(publisher=publisher) from error
        if row is None:
            raise errors.FieldInvalid(field="api_key", problem="its id exists already.")
        return to_api_key(row)

    async def list_api_keys(self, publisher: str) -> list[ApiKey]:
        """Return all keys of a publisher by id, revoked ones too. Raises PublisherNotFound."""
        rows = await self._all("list_api_keys", publisher=publisher)
        if not rows:
            await self.get_publisher(publisher)
        return [to_api_key(row) for row in rows]

    async def revoke_api_key(self, publisher: str | None, key_id: str) -> ApiKey:
        """Revoke a key; the second time changes nothing. Raises ApiKeyNotFound."""
        row = await self._one("revoke_api_key", id=key_id, publisher=publisher)
        if row is None:
            raise errors.ApiKeyNotFound(publisher=publisher, api_key=key_id)
        return to_api_key(row)

    async def find_api_key(self, key_id: str) -> StoredKey | None:
        """Return a key (perhaps one that has ended) with its publisher, or None."""
        row = await self._one("find_api_key", id=key_id)
        if row is None:
            return None
        key = to_api_key(row[:7])
        return StoredKey(key, row[7], Publisher(*row[8:]) if key.publisher else None)

    # References

    async def register(self, new: NewReference) -> Written:
        """Register a reference with its image, or answer a replay as ``find_request`` does.

        Concurrent calls for one publisher share transactions. Raises PublisherNotFound,
        ReferenceAlreadyExists, ReferenceQuotaExceeded, FeaturesOutdated, and for a request id
        used before RequestIdReused or ReferenceNotFound.
        """
        return await self._registrations.write(new.publisher, new)

    async def _register(
        self, publisher: str, news: Sequence[NewReference]
    ) -> list[Written | errors.ImageLinkError]:
        outcomes: list[Written | errors.ImageLinkError] = []
        async with self._writing(publisher) as connection:
            versions = await statements.written_models(connection)
            for new in news:
                try:
                    outcomes.append(await statements.register(connection, new, versions))
                except errors.ImageLinkError as error:
                    outcomes.append(error)
        return outcomes

    async def check_reference_quota(self, publisher: str, reference: str) -> None:
        """Raise ReferenceQuotaExceeded where ``register`` would now, which alone is certain."""
        async with self._transaction(publisher) as connection:
            await statements.check_reference_quota(connection, publisher, reference)

    async def find_request(
        self, publisher: str, request_id: str, fingerprint: bytes
    ) -> Written | None:
        """Return what the registration with this request id did, or None if there was none.

        That is the reference as it is now, and the gallery version of then. Raises
        RequestIdReused where the fingerprint differs, and ReferenceNotFound where the
        reference was deleted since.
        """
        async with self._transaction(publisher) as connection:
            return await statements.find_request(connection, publisher, request_id, fingerprint)

    async def forget_requests(self) -> None:
        """Forget the request ids of all publishers that are older than ``REQUEST_DAYS``."""
        async with self._transaction(statements.EVERY_PUBLISHER) as connection:
            await connection.execute(QUERIES["forget_register_requests"], {"days": REQUEST_DAYS})

    async def get_reference(self, publisher: str, reference: str) -> Reference:
        """Return a reference with its images. Raises ReferenceNotFound."""
        async with self._transaction(publisher) as connection:
            return await statements.get_reference(connection, publisher, reference)

    async def list_references(
        self,
        publisher: str,
        after_id: str | None,
        limit: int,
        conditions: ReferenceFilter = EVERY_REFERENCE,
    ) -> list[Reference]:
        """Return up to ``limit`` references by id that pass, those after ``after_id``.

        An unknown publisher has none.
        """
        async with self._transaction(publisher) as connection:
            rows = await fetch_all(
                connection,
                "list_references",
                publisher=publisher,
                after_id=after_id or "",
                limit=limit,
                **statements.filter_parameters(conditions),
            )
        return [statements.to_reference(row) for row in rows]

    async def count_references(
        self, publisher: str, conditions: ReferenceFilter = EVERY_REFERENCE
    ) -> int:
        """Return how many references of a publisher pass; an unknown one has none."""
        async with self._transaction(publisher) as connection:
            return await fetch_count(
                connection,
                "count_filtered_references",
                publisher=publisher,
                **statements.filter_parameters(conditions),
            )

    async def update_reference(
        self,
        publisher: str,
        reference: str,
        *,
        link: str | None = None,
        metadata: Mapping[str, str] | None = None,
        active: bool | None = None,
    ) -> Written:
        """Change what is not None. Raises PublisherNotFound and ReferenceNotFound."""
        async with self._writing(publisher) as connection:
            await connection.execute(
                QUERIES["update_reference"],
                {
                    "publisher": publisher,
                    "reference": reference,
                    "link": link,
                    "metadata": None if metadata is None else Jsonb(dict(metadata)),
                    "active": active,
                },
            )
            written = await statements.get_reference(connection, publisher, reference)
            return Written(
                written, await statements.append_change(connection, publisher, reference)
            )

    async def delete_reference(self, publisher: str, reference: str) -> Erasure:
        """Delete a reference with its images, their features and the kept scans that show it.

        Begins its erasure. Raises PublisherNotFound and ReferenceNotFound.
        """
        async with self._writing(publisher) as connection:
            erasure = await record_erasure(connection, publisher, reference)
            if not erasure.references:
                raise errors.ReferenceNotFound(publisher=publisher, reference=reference)
            await connection.execute(
                QUERIES["delete_reference"], {"publisher": publisher, "reference": reference}
            )
            await statements.append_change(connection, publisher, reference)
        return erasure

    async def add_image(self, new: NewImage) -> Written:
        """Add an image to a reference.

        Raises PublisherNotFound, ReferenceNotFound, TooManyImages and FeaturesOutdated.
        """
        async with self._writing(new.publisher) as connection:
            return await statements.add_image(connection, new)

    async def remove_image(self, publisher: str, reference: str, image: str) -> Written:
        """Remove an image of a reference, with its features.

        Raises PublisherNotFound, ReferenceNotFound, ImageNotFound and LastImage.
        """
        async with self._writing(publisher) as connection:
            return await statements.remove_image(connection, publisher, reference, image)

    # What the indexes follow

    async def changes_since(self, publisher: str, model_version: str, version: int) -> GalleryDelta:
        """Return what an index at gallery version ``version`` lacks, as of one moment.

        A reference that changed many times comes once, in its present state. Version 0, or
        one that is still to come, gets the complete gallery; one of a deleted publisher of
        the same name is told apart by ``create_time``. The delta is held in memory as a
        whole. Raises PublisherNotFound, and ModelUnavailable where not every image has features
        of the model version.
        """
        async with self._transaction(publisher) as connection:
            await connection.execute(QUERIES["begin_snapshot"])
            row = await fetch_one(connection, "get_publisher", id=publisher)
            now = to_publisher(row, publisher)
            complete = not 0 < version <= now.gallery_version
            changed, removed = await statements.read_gallery(
                connection,
                "gallery_state" if complete else "gallery_changes",
                {"publisher": publisher, "model_version": model_version, "version": version},
            )
        return GalleryDelta(now.gallery_version, now.create_time, complete, changed, removed)

    async def gallery_versions(self, publishers: Sequence[str]) -> dict[str, int]:
        """Return the gallery version of each publisher; those that are gone are left out."""
        return dict(await self._all("gallery_versions", ids=list(publishers)))

    async def count_images_without_features(self, model_version: str) -> int:
        """Return how many images, of all publishers, a model version has no features of."""
        async with self._transaction(statements.EVERY_PUBLISHER) as connection:
            return await fetch_count(
                connection, "count_images_without_features", model_version=model_version
            )

    async def changes(self) -> AsyncGenerator[str | None, None]:
        """Yield the id of each publisher whose gallery changes or goes, without end.

        Yields None once it listens, and again after the database was lost and came back:
        what happened before is not told, so compare ``gallery_versions`` then. Never raises
        DatabaseUnavailable. Close it with ``aclose`` to give the connection back.
        """
        async with aclosing(statements.notifications(self._pool, "listen")) as told:
            async for publisher in told:
                yield publisher

    def _transaction(
        self, whose: str = statements.NOBODY
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        return statements.transaction(self._pool, whose)

    @asynccontextmanager
    async def _writing(self, publisher: str) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that is the only one to write to the publisher's gallery."""
        async with self._transaction(publisher) as connection:
            await statements.lock_publisher(connection, publisher)
            yield connection

    async def _one(self, query: str, **parameters: object) -> Row | None:
        async with self._transaction() as connection:
            return await fetch_one(connection, query, **parameters)

    async def _all(self, query: str, **parameters: object) -> list[Row]:
        async with self._transaction() as connection:
            return await fetch_all(connection, query, **parameters)
