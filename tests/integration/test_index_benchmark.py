"""What the index benchmark measures with, on galleries of a few references."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from benchmarks.index_data import KEYPOINTS, Pictures, Vectors, zipf_sizes
from benchmarks.index_database import fill
from benchmarks.index_pgvector import compare
from benchmarks.index_replica import (
    Installation,
    cold,
    memory,
    throughput,
    write_picture_snapshots,
    write_vector_snapshots,
)
from indexing.bundle import DEFAULT_BUNDLE, Bundle
from indexing.gallery import GalleryStore, open_pool
from indexing.keypoints import Channel
from indexing.migrations import migrate
from tests.conftest import Postgres

SIZES = {"large": 300, "small": 60}


@pytest.fixture
def installation(postgres: Postgres, tmp_path: Path, bundle: Bundle) -> Installation:
    dsn = postgres.create_database()
    asyncio.run(migrate(dsn))
    fill(dsn, SIZES, bundle)
    return Installation(dsn, tmp_path / "snapshots", DEFAULT_BUNDLE)


def test_sizes_follow_zipf_and_add_up() -> None:
    sizes = zipf_sizes(1000, 100_000)
    assert len(sizes) == 1000
    assert abs(sum(sizes) - 100_000) < 1000
    assert sizes[0] == pytest.approx(10 * sizes[9], rel=0.01)
    assert min(zipf_sizes(1000, 1000)) == 1


def test_vectors_have_length_one_and_neighbours() -> None:
    source = Vectors(64, seed=1)
    vectors = source.draw(500)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    near = source.near(vectors, 0.5)
    assert ((near @ vectors.T).argmax(axis=1) == np.arange(500)).mean() > 0.95


def test_pictures_give_as_much_as_real_ones(bundle: Bundle) -> None:
    (drawn,) = Pictures(bundle, seed=1).draw(1)
    (image,) = drawn.images
    assert {channel: len(image.local[channel]) for channel in Channel} == KEYPOINTS


def test_a_filled_database_is_what_the_store_would_have_written(
    installation: Installation, bundle: Bundle
) -> None:
    async def read() -> tuple[int, int, int]:
        pool = await open_pool(installation.dsn, max_size=1)
        try:
            store = GalleryStore(pool)
            delta = await store.changes_since("small", bundle.version, 10)
            missing = await store.count_images_without_features(bundle.version)
            return delta.gallery_version, len(delta.changed), missing
        finally:
            await pool.close()

    assert asyncio.run(read()) == (SIZES["small"], SIZES["small"] - 10, 0)


def test_vectors_are_loaded_and_searched_as_faiss_and_pgvector_search_them(
    installation: Installation, bundle: Bundle
) -> None:
    write_vector_snapshots(installation, bundle, SIZES, seed=1)
    weighed = asyncio.run(memory(installation, SIZES))
    assert (weighed["galleries"], weighed["vectors"]) == (2, 360)
    beside = asyncio.run(throughput(installation, "large"))
    assert (beside["vectors"], beside["recall"]) == (300, 1.0)
    compared = asyncio.run(compare(installation, list(SIZES), 20))
    assert compared["shard"]["recall"] > 0.99
    assert compared["pgvector"]["recall"] > 0.99


def test_first_scans_find_what_the_photo_shows(installation: Installation, bundle: Bundle) -> None:
    references = list(Pictures(bundle, seed=1).draw(SIZES["small"]))
    write_picture_snapshots(installation, bundle, {"small": references})
    measured = asyncio.run(cold(installation, "small", references))
    assert measured["references"] == SIZES["small"]
    assert 0 < measured["warm"] < measured["from_snapshot"]
