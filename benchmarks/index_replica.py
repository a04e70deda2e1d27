"""A shard's replica, without a server around it: its memory, its first scan, its throughput."""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypedDict, TypeVar

import faiss
import numpy as np
import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.index_data import (
    Floats,
    Pictures,
    Vectors,
    no_keypoints,
    reference_id,
    vector_segment,
)
from benchmarks.threads import search_in_one_thread
from indexing.bundle import Bundle, load_bundle
from indexing.embedding import Embeddings
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_erasures import ErasureStore
from indexing.gallery_index import FrozenGallery
from indexing.image_index import HALF
from indexing.keypoints import Channel
from indexing.placement import WHOLE, Generation
from indexing.replica import ShardReplica
from indexing.search import LISTED_CANDIDATES, Query, SearchResult
from indexing.segment import IndexedReference
from indexing.shard import Shard
from indexing.snapshot import SnapshotStore
from indexing.voting import Ints

Result = TypeVar("Result")

DIMENSION = 256
BATCH = 32
ROUNDS = 30
COLD_STARTS = 6
WARM_SCANS = 20
_A_VECTOR = np.full((1, DIMENSION), DIMENSION**-0.5, np.float32)
NO_PHOTO = np.zeros((1, 1), np.uint8)
NO_BUDGET = 1 << 60


@dataclass(frozen=True, slots=True)
class Installation:
    """Where galleries are: a database with publishers, a folder of snapshots, a bundle's folder."""

    dsn: str
    snapshots: Path
    bundle: Path


class Memory(TypedDict):
    """Resident memory of one process with all galleries loaded, in bytes but for the ratio."""

    galleries: int
    vectors: int
    resident_bytes: int
    vector_bytes: int
    ratio: float
    load_seconds: float


class DescriptorMemory(TypedDict):
    """Resident bytes of pictures with all their descriptors, 200 of ORB and 250 of RootSIFT.

    The descriptors and their ids alone take ``of_descriptors_per_reference``.
    """

    per_reference: float
    of_descriptors_per_reference: int
    per_small_gallery: float
    overhead_of_small_gallery: float


class Cold(TypedDict):
    """Milliseconds of a gallery's first scan and of a later one, medians."""

    references: int
    warm: float
    from_snapshot: float
    from_uncached_snapshot: float


class Throughput(TypedDict):
    """Searches per second of one thread, in batches of 32.

    ``recall`` is how many of FAISS's 50 nearest the shard lists.
    """

    vectors: int
    recall: float
    shard: float
    faiss: float
    ratio: float


@asynccontextmanager
async def opened(at: Installation, bundle: Bundle, name: str) -> AsyncIterator[ShardReplica]:
    """A replica that has loaded nothing yet."""
    pool = await open_pool(at.dsn, max_size=4)
    try:
        yield ShardReplica(
            Shard(bundle).generation,
            GalleryStore(pool),
            SnapshotStore(at.snapshots),
            ErasureStore(pool),
            name,
            NO_BUDGET,
        )
    finally:
        await pool.close()


async def _create_times(at: Installation, publishers: Sequence[str]) -> list[datetime]:
    """When each publisher was made, which its snapshots tell."""
    pool = await open_pool(at.dsn, max_size=1)
    try:
        store = GalleryStore(pool)
        return [(await store.get_publisher(publisher)).create_time for publisher in publishers]
    finally:
        await pool.close()


def write_vector_snapshots(
    at: Installation, bundle: Bundle, sizes: Mapping[str, int], seed: int
) -> None:
    """Snapshots of galleries with one vector of 256 numbers for each reference."""
    created = asyncio.run(_create_times(at, list(sizes)))
    store, source = SnapshotStore(at.snapshots), Vectors(DIMENSION, seed)
    levels = dict.fromkeys(Channel, 0)
    for (publisher, size), create_time in zip(sizes.items(), created, strict=True):
        segment = vector_segment(source.draw(size), bundle)
        store.write(
            Generation(publisher, WHOLE, bundle.version),
            create_time,
            FrozenGallery(size, segment, levels),
        )


def write_picture_snapshots(
    at: Installation,
    bundle: Bundle,
    galleries: Mapping[str, Sequence[IndexedReference]],
) -> None:
    """Snapshots of galleries with all features of their references."""
    created = asyncio.run(_create_times(at, list(galleries)))
    store, shard = SnapshotStore(at.snapshots), Shard(bundle)
    for (publisher, references), create_time in zip(galleries.items(), created, strict=True):
        gallery = shard.empty_gallery()
        gallery.apply(len(references), references, ())
        frozen = gallery.freeze()
        assert frozen is not None
        store.write(Generation(publisher, WHOLE, bundle.version), create_time, frozen)


async def memory(at: Installation, sizes: Mapping[str, int]) -> Memory:
    """Loads all galleries, one after the other, as scans would, and weighs this process."""
    bundle, publishers = load_bundle(at.bundle), list(sizes)
    async with opened(at, bundle, "memory") as replica:
        # The first load brings code and buffers that are nobody's gallery.
        await replica.warm([Generation(publishers[-1], WHOLE, bundle.version)])
        before, start = _resident(), time.perf_counter()
        await replica.warm(
            [Generation(publisher, WHOLE, bundle.version) for publisher in publishers]
        )
        seconds, resident = time.perf_counter() - start, _resident() - before
        result = await searched(replica, [vector_query(bundle, publishers[0], _A_VECTOR)])
    if result[0].references != sizes[publishers[0]]:
        raise BenchmarkError(f"Only {result[0].references} references were loaded.")
    vectors = sum(sizes.values())
    vector_bytes = 2 * DIMENSION * vectors
    return Memory(
        galleries=len(publishers),
        vectors=vectors,
        resident_bytes=resident,
        vector_bytes=vector_bytes,
        ratio=resident / vector_bytes,
        load_seconds=seconds,
    )


async def resident_bytes(at: Installation, publishers: Sequence[str]) -> float:
    """Loads galleries in this process, and weighs all but the first; returns the mean."""
    bundle = load_bundle(at.bundle)
    async with opened(at, bundle, "weighing") as replica:
        await replica.warm([Generation(publishers[0], WHOLE, bundle.version)])
        before = _resident()
        await replica.warm(
            [Generation(publisher, WHOLE, bundle.version) for publisher in publishers[1:]]
        )
        return (_resident() - before) / (len(publishers) - 1)


async def cold(at: Installation, publisher: str, references: Sequence[IndexedReference]) -> Cold:
    """Times the first scan of a gallery that is not loaded, and later ones."""
    bundle = load_bundle(at.bundle)
    pictures = Pictures(bundle, seed=1)
    times: dict[str, list[float]] = {"warm": [], "snapshot": [], "uncached": []}
    for number in range(COLD_STARTS):
        kind = ("snapshot", "uncached")[number % 2]
        if kind == "uncached":
            _drop_from_cache(at.snapshots)
        async with opened(at, bundle, f"cold-{number}") as replica:
            # The connection is there before the first scan, as in a process that serves others.
            await replica.warm([Generation(publisher + "-absent", WHOLE, bundle.version)])
            for again in range(1 + WARM_SCANS):
                shown = references[(number * WARM_SCANS + again) % len(references)]
                query = picture_query(bundle, publisher, pictures, shown)
                start = time.perf_counter()
                (result,) = await searched(replica, [query])
                times["warm" if again else kind].append(time.perf_counter() - start)
                _expect(result, shown)
    return Cold(
        references=len(references),
        warm=1000 * median(times["warm"]),
        from_snapshot=1000 * median(times["snapshot"]),
        from_uncached_snapshot=1000 * median(times["uncached"]),
    )


async def throughput(at: Installation, publisher: str) -> Throughput:
    """Searches vectors through a replica and in a FAISS index alone, by turns."""
    faiss.omp_set_num_threads(1)
    bundle = load_bundle(at.bundle)
    frozen = SnapshotStore(at.snapshots).read(Generation(publisher, WHOLE, bundle.version))
    assert frozen is not None
    vectors = frozen[1].segment.tensors["embeddings"].astype(np.float32)
    index = faiss.IndexScalarQuantizer(DIMENSION, HALF, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    rng = np.random.default_rng(1)
    shard, alone, recalls = [], [], []
    async with opened(at, bundle, "throughput") as replica:
        await replica.warm([Generation(publisher, WHOLE, bundle.version)])
        for _ in range(ROUNDS):
            rows = rng.integers(len(vectors), size=BATCH)
            queries = [vector_query(bundle, publisher, vectors[row : row + 1]) for row in rows]
            start = time.perf_counter()
            results = await searched(replica, queries)
            shard.append(time.perf_counter() - start)
            start = time.perf_counter()
            found = index.search(vectors[rows], LISTED_CANDIDATES)[1]
            alone.append(time.perf_counter() - start)
            recalls += [agreement(r, f) for r, f in zip(results, found, strict=True)]
    return Throughput(
        vectors=len(vectors),
        recall=float(np.mean(recalls)),
        shard=BATCH / median(shard),
        faiss=BATCH / median(alone),
        ratio=median(alone) / median(shard),
    )


def in_a_process_of_its_own(
    measure: Callable[..., Coroutine[Any, Any, Result]], *arguments: object
) -> Result:
    """What a measurement gives in a new process, whose memory nothing else has used."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_run, measure, *arguments).result()


def _run(measure: Callable[..., Coroutine[Any, Any, Result]], *arguments: object) -> Result:
    search_in_one_thread()
    return asyncio.run(measure(*arguments))


async def searched(replica: ShardReplica, queries: Sequence[Query]) -> list[SearchResult]:
    """What a replica answers. Raises the ImageLinkError that it answers instead."""
    results = await replica.search(queries)
    for result in results:
        if not isinstance(result, SearchResult):
            raise result
    return [result for result in results if isinstance(result, SearchResult)]


def vector_query(bundle: Bundle, publisher: str, vector: Floats) -> Query:
    """A photo without keypoints, of which only the embedding is searched."""
    return Query(
        photo=0,
        publisher=publisher,
        model_version=bundle.version,
        channel=Channel.FINE,
        local=no_keypoints(Channel.FINE),
        levels=NO_PHOTO,
        embedding=Embeddings(bundle.version, vector),
    )


def picture_query(
    bundle: Bundle, publisher: str, pictures: Pictures, shown: IndexedReference
) -> Query:
    """The first question that a photo of a reference puts to a shard."""
    return Query(
        photo=0,
        publisher=publisher,
        model_version=bundle.version,
        channel=Channel.ORB,
        local=pictures.photo_of(shown, Channel.ORB),
        levels=np.repeat(np.repeat(shown.images[0].thumbnail, 4, axis=0), 4, axis=1),
    )


def _expect(result: SearchResult, shown: IndexedReference) -> None:
    best = max(result.candidates, key=lambda each: each.evidence.geometry.significance)
    if best.reference != shown.id:
        raise BenchmarkError(f"A photo of {shown.id} was taken for {best.reference}.")


def agreement(result: SearchResult, nearest: Ints) -> float:
    """The share of the exact nearest references, by their numbers, that a search lists."""
    expected = {reference_id(row) for row in nearest.tolist()}
    return len(expected.intersection(result.shortlist)) / len(expected)


def _resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _drop_from_cache(folder: Path) -> None:
    """Has the system forget what it keeps of files, so that they are read from the disk again."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
