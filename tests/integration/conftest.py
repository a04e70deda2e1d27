"""A fresh, migrated database for each test, and a gallery store on it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from indexing.gallery import GalleryStore, open_pool
from indexing.migrations import migrate
from tests.conftest import Postgres


@pytest.fixture
def empty_dsn(postgres: Postgres) -> str:
    """DSN of a database without a schema."""
    return postgres.create_database()


@pytest_asyncio.fixture
async def postgres_dsn(empty_dsn: str) -> str:
    """DSN of a database with the present schema and no rows."""
    await migrate(empty_dsn)
    return empty_dsn


@pytest_asyncio.fixture
async def store(postgres_dsn: str) -> AsyncIterator[GalleryStore]:
    pool = await open_pool(postgres_dsn, max_size=8)
    yield GalleryStore(pool)
    await pool.close()


@pytest_asyncio.fixture
async def acme(store: GalleryStore) -> str:
    """Id of a publisher with an empty gallery."""
    await store.create_publisher("acme", "Acme", 0.001)
    return "acme"
