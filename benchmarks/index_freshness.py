"""Scans of a gallery while it is registered to, and how soon all replicas have what is new."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import cycle, islice
from multiprocessing import get_context
from multiprocessing.synchronize import Event as EventType
from typing import TypedDict
from uuid import uuid4

import numpy as np

from benchmarks.index_data import LINK, Pictures
from benchmarks.index_replica import Installation, opened, picture_query, searched
from benchmarks.threads import search_in_one_thread
from indexing.bundle import Bundle, load_bundle
from indexing.features import embedding_bytes, geometry_bytes
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_records import ImageFeatures, NewReference
from indexing.reference import ReferenceImage
from indexing.replica import ShardReplica
from indexing.search import Query
from indexing.segment import IndexedReference

REGISTRATIONS_PER_SECOND = 50
ROUNDS = 2
IN_FLIGHT = 32
BURST = 400
DRAWN = 400


class Freshness(TypedDict):
    """Milliseconds of searches at rest and beside 50 registrations a second to the same gallery.

    ``registered_per_second`` is how many registrations at once are stored, and in the replica's
    index, in a second, apart from the extraction of their features.
    """

    searches: int
    p50_at_rest: float
    p99_at_rest: float
    p50_while_registering: float
    p99_while_registering: float
    p99_ratio: float
    registered_per_second: float


async def freshness(
    at: Installation, publisher: str, references: Sequence[IndexedReference], seconds: float
) -> Freshness:
    """Searches by turns at rest and while another process registers."""
    bundle = load_bundle(at.bundle)
    pictures = Pictures(bundle, seed=len(references))
    queries = [picture_query(bundle, publisher, pictures, each) for each in references[:50]]
    busy: list[float] = []
    async with opened(at, bundle, "freshness") as replica, _following(replica):
        await _timed(replica, queries, 1.0)
        # Before and after each busy time, as the gallery grows in it.
        rest = await _timed(replica, queries, seconds / ROUNDS)
        for number in range(ROUNDS):
            async with _registering(at, publisher, number):
                busy += await _timed(replica, queries, seconds / ROUNDS)
            rest += await _timed(replica, queries, seconds / ROUNDS)
        rate = await _registered_per_second(at, replica, bundle, queries[0])
    return Freshness(
        searches=len(rest) + len(busy),
        p50_at_rest=_percentile(rest, 50),
        p99_at_rest=_percentile(rest, 99),
        p50_while_registering=_percentile(busy, 50),
        p99_while_registering=_percentile(busy, 99),
        p99_ratio=_percentile(busy, 99) / _percentile(rest, 99),
        registered_per_second=rate,
    )


async def _timed(replica: ShardReplica, queries: Sequence[Query], seconds: float) -> list[float]:
    """The seconds of each search, one after the other for so long."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        await searched(replica, [queries[len(times) % len(queries)]])
        times.append(time.perf_counter() - start)
    return times


@asynccontextmanager
async def _following(replica: ShardReplica) -> AsyncIterator[None]:
    task = asyncio.create_task(replica.follow())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _registering(at: Installation, publisher: str, number: int) -> AsyncIterator[None]:
    """Has another process register 50 references a second meanwhile."""
    context = get_context("spawn")
    begun, ended = context.Event(), context.Event()
    writer = context.Process(target=_run_writer, args=(at, publisher, number, begun, ended))
    writer.start()
    try:
        await asyncio.to_thread(begun.wait)
        yield
    finally:
        ended.set()
        await asyncio.to_thread(writer.join)


def _run_writer(
    at: Installation, publisher: str, number: int, begun: EventType, ended: EventType
) -> None:
    search_in_one_thread()
    asyncio.run(_write_steadily(at, publisher, number, begun, ended))


async def _write_steadily(
    at: Installation, publisher: str, number: int, begun: EventType, ended: EventType
) -> None:
    news = _registrations(load_bundle(at.bundle), publisher, number)
    pool = await open_pool(at.dsn, max_size=4)
    store, start, writes = GalleryStore(pool), time.perf_counter(), []
    begun.set()
    try:
        while not ended.is_set():
            writes.append(asyncio.create_task(store.register(next(news))))
            due = start + len(writes) / REGISTRATIONS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.gather(*writes)
    finally:
        await pool.close()


def _registrations(bundle: Bundle, publisher: str, number: int) -> Iterator[NewReference]:
    """New references of full size without end; 400 features serve all, made beforehand."""
    drawn = [each.images[0] for each in Pictures(bundle, number).draw(DRAWN)]
    features = [
        ImageFeatures(
            bundle.version,
            embedding_bytes(each.embedding),
            geometry_bytes(each.local, each.thumbnail),
        )
        for each in drawn
    ]
    for each in cycle(features):
        image = ReferenceImage(str(uuid4()), 640, 480, bytes(32))
        yield NewReference(publisher, f"new-{uuid4()}", LINK, {}, image, (each,), None, b"")


async def _registered_per_second(
    at: Installation, replica: ShardReplica, bundle: Bundle, query: Query
) -> float:
    """How many registrations, 32 at a time, are stored and in the index in a second."""
    news = list(islice(_registrations(bundle, query.publisher, ROUNDS), BURST))
    pool = await open_pool(at.dsn, max_size=8)
    store, slots = GalleryStore(pool), asyncio.Semaphore(IN_FLIGHT)

    async def register(new: NewReference) -> int:
        async with slots:
            return (await store.register(new)).gallery_version

    try:
        start = time.perf_counter()
        version = max(await asyncio.gather(*map(register, news)))
        await searched(replica, [replace(query, min_gallery_version=version)])
        return BURST / (time.perf_counter() - start)
    finally:
        await pool.close()


def _percentile(times: Sequence[float], percent: float) -> float:
    return 1000 * float(np.percentile(times, percent))
