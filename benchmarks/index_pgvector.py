"""The same vectors in pgvector: one table of all publishers with an HNSW index, and a filter."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import psycopg

from benchmarks.index_choices import QUERY_NOISE
from benchmarks.index_data import Floats, Vectors
from benchmarks.index_replica import (
    BATCH,
    DIMENSION,
    Installation,
    agreement,
    opened,
    searched,
    vector_query,
)
from indexing.bundle import Bundle, load_bundle
from indexing.placement import WHOLE, Generation
from indexing.search import LISTED_CANDIDATES
from indexing.snapshot import SnapshotStore
from indexing.voting import Ints

# So many vectors HNSW looks at before it stops: the least that reaches the recall, else the last.
SEARCHED = (40, 100, 200, 400, 1000)
RECALL = 0.99
TRIED = 100

TABLE = """
create extension if not exists vector;
create table vector_item (publisher text not null, number integer not null, vector halfvec({d}));
"""
# What an index on disk would take most of the time for is done in memory here.
INDEXES = """
set maintenance_work_mem = '2GB';
create index on vector_item (publisher);
create index on vector_item using hnsw (vector halfvec_ip_ops);
analyze vector_item;
"""
NEAREST = """
select number from vector_item
where publisher = %s
order by vector <#> %s::halfvec
limit 50
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A vector, float32 [1, dimension], to look for in a publisher's gallery, and the exact answer."""

    publisher: str
    vector: Floats
    nearest: Ints


class Searches(TypedDict):
    """One thread or connection; the milliseconds are of single queries."""

    recall: float
    queries_per_second: float
    p50_milliseconds: float
    p99_milliseconds: float


class Comparison(TypedDict):
    """The same vectors and queries through a shard, in batches of 32, and through pgvector.

    ``ef_search`` is pgvector's; ``ratio`` is of the queries per second.
    """

    galleries: int
    vectors: int
    ef_search: int
    build_seconds: float
    pgvector_bytes_per_vector: float
    shard: Searches
    pgvector: Searches
    ratio: float


async def compare(at: Installation, publishers: Sequence[str], queries: int) -> Comparison:
    """Searches galleries that have a snapshot of vectors; most queries are for the largest."""
    bundle = load_bundle(at.bundle)
    store = SnapshotStore(at.snapshots)
    galleries = {
        publisher: _vectors(store, Generation(publisher, WHOLE, bundle.version))
        for publisher in publishers
    }
    asked = _drawn(galleries, queries)
    shard = await _through_shard(at, bundle, asked)
    vectors = sum(map(len, galleries.values()))
    with psycopg.connect(at.dsn, autocommit=True) as connection:
        built = _build(connection, galleries)
        ef_search = _least_searched(connection, asked[:TRIED])
        times, recall = _ask(connection, asked)
        table_bytes = _table_bytes(connection)
        connection.execute("drop table vector_item")
    pgvector = _summed_up(times, recall, len(times) / sum(times))
    return Comparison(
        galleries=len(galleries),
        vectors=vectors,
        ef_search=ef_search,
        build_seconds=built,
        pgvector_bytes_per_vector=table_bytes / vectors,
        shard=shard,
        pgvector=pgvector,
        ratio=shard["queries_per_second"] / pgvector["queries_per_second"],
    )


def _vectors(store: SnapshotStore, generation: Generation) -> Floats:
    found = store.read(generation)
    assert found is not None
    return found[1].segment.tensors["embeddings"].astype(np.float32)


def _drawn(galleries: dict[str, Floats], queries: int) -> list[_Asked]:
    rng = np.random.default_rng(queries)
    noise = Vectors(DIMENSION, queries)
    sizes = np.array([len(vectors) for vectors in galleries.values()])
    names = list(galleries)
    asked = []
    for number in rng.choice(len(names), queries, p=sizes / sizes.sum()):
        vectors = galleries[names[number]]
        vector = noise.near(vectors[rng.integers(len(vectors))][None], QUERY_NOISE)
        nearest = np.argsort(-(vectors @ vector[0]), kind="stable")[:LISTED_CANDIDATES]
        asked.append(_Asked(names[number], vector, nearest))
    return asked


async def _through_shard(at: Installation, bundle: Bundle, asked: Sequence[_Asked]) -> Searches:
    queries = [vector_query(bundle, each.publisher, each.vector) for each in asked]
    batches = [queries[first : first + BATCH] for first in range(0, len(queries), BATCH)]
    times, recalls = [], []
    async with opened(at, bundle, "pgvector") as replica:
        await replica.warm(
            [
                Generation(publisher, WHOLE, bundle.version)
                for publisher in {q.publisher for q in queries}
            ]
        )
        start = time.perf_counter()
        for batch in batches:
            await searched(replica, batch)
        seconds = time.perf_counter() - start
        for query, each in zip(queries, asked, strict=True):
            start = time.perf_counter()
            (result,) = await searched(replica, [query])
            times.append(time.perf_counter() - start)
            recalls.append(agreement(result, each.nearest))
    return _summed_up(times, float(np.mean(recalls)), len(queries) / seconds)


def _summed_up(times: Sequence[float], recall: float, queries_per_second: float) -> Searches:
    return Searches(
        recall=recall,
        queries_per_second=queries_per_second,
        p50_milliseconds=1000 * float(np.percentile(times, 50)),
        p99_milliseconds=1000 * float(np.percentile(times, 99)),
    )


def _table_bytes(connection: psycopg.Connection) -> int:
    row = connection.execute("select pg_total_relation_size('vector_item')").fetchone()
    assert row is not None
    return int(row[0])


def _build(connection: psycopg.Connection, galleries: dict[str, Floats]) -> float:
    dimension = next(iter(galleries.values())).shape[1]
    start = time.perf_counter()
    connection.execute(TABLE.format(d=dimension).encode())
    with connection.cursor().copy("copy vector_item from stdin") as copy:
        for publisher, vectors in galleries.items():
            for number, vector in enumerate(vectors):
                copy.write_row((publisher, number, _text(vector)))
    connection.execute(INDEXES.encode())
    return time.perf_counter() - start


def _least_searched(connection: psycopg.Connection, asked: Sequence[_Asked]) -> int:
    """Sets how much HNSW looks at, and returns it."""
    connection.execute("set hnsw.iterative_scan = strict_order")
    for ef_search in SEARCHED:
        connection.execute(f"set hnsw.ef_search = {ef_search}".encode())
        if _ask(connection, asked)[1] >= RECALL:
            break
    return ef_search


def _ask(connection: psycopg.Connection, asked: Sequence[_Asked]) -> tuple[list[float], float]:
    """The seconds of each query, and the share of the exact nearest that all together found."""
    times, recalls = [], []
    for each in asked:
        text = _text(each.vector[0])
        start = time.perf_counter()
        rows = connection.execute(NEAREST, (each.publisher, text)).fetchall()
        times.append(time.perf_counter() - start)
        found = [number for (number,) in rows]
        recalls.append(np.isin(each.nearest, found).mean())
    return times, float(np.mean(recalls))


def _text(vector: Floats) -> str:
    return "[" + ",".join(f"{value:.5f}" for value in vector.tolist()) + "]"
