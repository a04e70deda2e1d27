"""A fresh, migrated database for each test, and a gallery store on it."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from safetensors.numpy import load_file

from indexing.bundle import DEFAULT_BUNDLE, GRAPH, TENSORS, Bundle, load_bundle, save_bundle
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


@pytest.fixture
def variant_bundle(tmp_path: Path, bundle: Bundle) -> Callable[[str], Bundle]:
    """Makes the default model with other tensors, of those whose names begin so."""
    return partial(_variant, tmp_path / "variant", bundle)


def _variant(folder: Path, bundle: Bundle, changed: str) -> Bundle:
    tensors = load_file(DEFAULT_BUNDLE / TENSORS)
    others = {
        name: np.ascontiguousarray(values[::-1])
        for name, values in tensors.items()
        if name.startswith(changed)
    }
    assert others
    if changed.startswith("network."):
        del tensors[GRAPH]  # It would embed, with the weights of before.
    manifest = bundle.manifest.model_copy(update={"name": "variant"})
    save_bundle(folder, manifest, tensors | others)
    return load_bundle(folder)
