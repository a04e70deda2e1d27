"""Row-level security, the second wall between publishers: what a forgotten condition would see."""

from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege
from psycopg_pool import AsyncConnectionPool

from indexing.blobs import BlobStore
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_scans import KeptScanStore
from indexing.gallery_statements import EVERY_PUBLISHER, transaction
from indexing.migrations import migrate
from tests.integration.references import MODEL, a_reference

TABLES = (
    "reference",
    "reference_image",
    "image_features",
    "change",
    "register_request",
    "kept_scan",
)


@pytest_asyncio.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[AsyncConnectionPool]:
    """Connections to a database in which two publishers have a reference each."""
    opened = await open_pool(postgres_dsn, max_size=2)
    store, blobs = GalleryStore(opened), BlobStore.from_url("memory://")
    for publisher in ("acme", "other"):
        created = await store.create_publisher(publisher, publisher, 0.001, max_kept_scans=1)
        await store.register(a_reference("one", publisher=publisher, request_id="first"))
        await KeptScanStore(opened).keep(
            created, "scan", ["one"], MODEL, lambda key: blobs.put(key, b"photo")
        )
    yield opened
    await opened.close()


async def seen(connection: AsyncConnection, table: str) -> list[str]:
    """The publishers whose rows a statement without a condition sees."""
    query = f"select publisher_id from {table} order by publisher_id"
    rows = await (await connection.execute(query.encode())).fetchall()
    return [publisher for (publisher,) in rows]


@pytest.mark.parametrize("table", TABLES)
async def test_a_transaction_sees_the_rows_of_whom_it_names(
    pool: AsyncConnectionPool, table: str
) -> None:
    async with transaction(pool) as connection:
        assert await seen(connection, table) == []
    async with transaction(pool, "acme") as connection:
        assert await seen(connection, table) == ["acme"]
    async with transaction(pool, EVERY_PUBLISHER) as connection:
        assert await seen(connection, table) == ["acme", "other"]
    async with transaction(pool) as connection:
        assert await seen(connection, table) == [], "the transaction before is forgotten"


@pytest.mark.parametrize("table", TABLES)
async def test_a_transaction_changes_no_row_of_another(
    pool: AsyncConnectionPool, table: str
) -> None:
    async with transaction(pool, "acme") as connection:
        for statement in (
            f"update {table} set publisher_id = publisher_id where publisher_id = 'other'",
            f"delete from {table} where publisher_id = 'other'",
        ):
            assert (await connection.execute(statement.encode())).rowcount == 0
    with pytest.raises(InsufficientPrivilege, match="row-level security"):
        async with transaction(pool, "acme") as connection:
            await connection.execute(f"update {table} set publisher_id = 'other'".encode())


async def test_a_transaction_inserts_no_row_for_another(pool: AsyncConnectionPool) -> None:
    with pytest.raises(InsufficientPrivilege, match="row-level security"):
        async with transaction(pool, "acme") as connection:
            await connection.execute("insert into change values ('other', 2, 'one')")


async def test_a_deleted_publisher_takes_only_its_own_rows_along(
    pool: AsyncConnectionPool,
) -> None:
    await GalleryStore(pool).delete_publisher("acme")
    async with transaction(pool, EVERY_PUBLISHER) as connection:
        for table in TABLES:
            assert await seen(connection, table) == ["other"]


async def test_a_tables_owner_that_is_no_superuser_is_held_too(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        database = connection.info.dbname
        connection.execute("drop role if exists ordinary")
        connection.execute("create role ordinary login")
        connection.execute(f"alter database {database} owner to ordinary".encode())
    dsn = psycopg.conninfo.make_conninfo(empty_dsn, user="ordinary")
    await migrate(dsn)
    opened = await open_pool(dsn, max_size=2)
    try:
        store = GalleryStore(opened)
        await store.create_publisher("acme", "Acme", 0.001)
        await store.register(a_reference("one"))
        async with transaction(opened) as connection:
            assert await seen(connection, "reference") == []
        assert [each.id for each in await store.list_references("acme", None, 10)] == ["one"]
    finally:
        await opened.close()
