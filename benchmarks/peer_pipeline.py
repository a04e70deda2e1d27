"""What a user would build instead: the nearest embeddings from pgvector, verified or not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psycopg

from benchmarks.peer_verification import Keypoints, keypoints, stands_in
from benchmarks.threads import use_one_thread
from indexing.bundle import load_bundle
from indexing.image import Pixels, decode
from indexing.keypoints import Floats
from indexing.recognition import WORKING_SIDE

# The routes of its server, and what that is told in the environment.
NEAREST, VERIFIED = "/nearest", "/verified"
BUNDLE, DSN = "PEER_BUNDLE", "PEER_DSN"
CANDIDATES = 10
# Without verification, the similarity that divides the serving benchmark's own photos best.
MIN_SIMILARITY = 0.4

TABLE = """
create extension if not exists vector;
create table peer_reference (
    publisher text not null,
    id text not null,
    vector halfvec({d}) not null,
    points bytea not null,
    descriptors bytea not null,
    primary key (publisher, id)
);
"""
INSERT = "insert into peer_reference values (%s, %s, %s::real[]::halfvec, %s, %s)"
INDEX = """
create index on peer_reference using hnsw (vector halfvec_ip_ops);
analyze peer_reference;
"""
NEIGHBOURS = """
select id, -(vector <#> %(vector)s::real[]::halfvec) from peer_reference
where publisher = %(publisher)s
order by vector <#> %(vector)s::real[]::halfvec
limit %(candidates)s
"""
KEYPOINTS = "select publisher, id, points, descriptors from peer_reference"


def register(
    bundle: Path, dsn: str, pictures: Mapping[str, bytes], publishers: Sequence[str]
) -> None:
    """Makes the table of references and its index; every publisher gets all the pictures."""
    decoded = [decode(file, WORKING_SIDE)[0] for file in pictures.values()]
    vectors = load_bundle(bundle).embedder.embed_references(decoded).vectors
    found = [keypoints(pixels) for pixels in decoded]
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(TABLE.format(d=vectors.shape[1]).encode())
        cursor.executemany(
            INSERT,
            [
                (
                    publisher,
                    name,
                    vector.tolist(),
                    local.points.tobytes(),
                    local.descriptors.tobytes(),
                )
                for publisher in publishers
                for name, vector, local in zip(pictures, vectors, found, strict=True)
            ],
        )
        cursor.execute(INDEX.encode())


class PeerPipeline:
    """Recognises photos in batches, in one thread, by what ``register`` wrote.

    Whoever verifies keeps the keypoints of all references in memory: there is nothing quicker.
    """

    def __init__(self, bundle: Path, dsn: str, *, verifies: bool) -> None:
        use_one_thread()
        self._embedder = load_bundle(bundle).embedder
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute("set hnsw.iterative_scan = strict_order")
        self._verifies = verifies
        self._references = self._stored() if verifies else {}

    def scan(self, asked: Sequence[tuple[str, bytes]]) -> list[list[str]]:
        """The id of what each photo, a file, shows of its publisher's references, if anything."""
        decoded = [decode(photo, WORKING_SIDE)[0] for _, photo in asked]
        vectors = self._embedder.embed(decoded).vectors
        return [
            self._found(publisher, pixels, vector)
            for (publisher, _), pixels, vector in zip(asked, decoded, vectors, strict=True)
        ]

    def _found(self, publisher: str, pixels: Pixels, vector: Floats) -> list[str]:
        given = {"vector": vector.tolist(), "publisher": publisher, "candidates": CANDIDATES}
        nearest = self._connection.execute(NEIGHBOURS, given).fetchall()
        if not self._verifies:
            return [name for name, similarity in nearest[:1] if similarity >= MIN_SIMILARITY]
        photo = keypoints(pixels)
        # The first that passes will do: the fewer are matched, the faster.
        for name, _ in nearest:
            if stands_in(photo, self._references[publisher, name]):
                return [name]
        return []

    def _stored(self) -> dict[tuple[str, str], Keypoints]:
        rows = self._connection.execute(KEYPOINTS, binary=True)
        return {
            (publisher, name): Keypoints(_floats(points, 2), _floats(descriptors, 128))
            for publisher, name, points, descriptors in rows
        }


def _floats(stored: bytes, width: int) -> Floats:
    return np.frombuffer(stored, np.float32).reshape(-1, width)
