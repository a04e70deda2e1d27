import asyncio

import pytest

from indexing.errors import DatabaseUnavailable
from indexing.gallery import GalleryStore, open_pool
from indexing.migrations import migrate
from tests.conftest import Postgres


async def call_until_answered(store: GalleryStore) -> None:
    while True:
        try:
            await store.publisher_ids()
        except DatabaseUnavailable:
            continue
        return


async def test_a_store_outlives_an_outage_of_the_database(own_postgres: Postgres) -> None:
    dsn = own_postgres.create_database()
    await migrate(dsn)
    pool = await open_pool(dsn, max_size=4, acquire_timeout=1.0)
    store = GalleryStore(pool)
    await store.create_publisher("acme", "", 0.001)
    changes = store.changes()
    assert await anext(changes) is None

    own_postgres.stop()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await store.get_publisher("acme")
    next_change = asyncio.ensure_future(anext(changes))

    own_postgres.start()
    await asyncio.wait_for(call_until_answered(store), 10)
    assert (await store.get_publisher("acme")).id == "acme"
    # The listener says that it may have missed something, and listens again.
    assert await asyncio.wait_for(next_change, 10) is None
    await store.delete_publisher("acme")
    assert await asyncio.wait_for(anext(changes), 10) == "acme"

    await changes.aclose()
    await pool.close()


async def test_a_pool_opens_before_the_database_is_up(own_postgres: Postgres) -> None:
    dsn = own_postgres.create_database()
    await migrate(dsn)
    own_postgres.stop()
    pool = await open_pool(dsn, max_size=2, acquire_timeout=1.0)
    store = GalleryStore(pool)
    with pytest.raises(DatabaseUnavailable):
        await store.publisher_ids()

    own_postgres.start()
    await asyncio.wait_for(call_until_answered(store), 10)

    assert await store.publisher_ids() == []
    await pool.close()
