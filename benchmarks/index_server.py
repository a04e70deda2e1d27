"""A whole server over a full database: how soon it answers, and how soon it knows what is new."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from imagelink import Client, Role, ScanResult

from benchmarks.artwork import Artwork, draw_collection
from benchmarks.artwork.collection import KINDS, capacity
from benchmarks.errors import BenchmarkError
from benchmarks.index_data import LINK, Vectors, vector_segment
from benchmarks.local_server import LocalServer
from indexing.bundle import Bundle
from indexing.features import FeatureExtractor, embedding_bytes, geometry_bytes
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_index import FrozenGallery
from indexing.gallery_records import ImageFeatures, NewReference
from indexing.image import Pixels
from indexing.keypoints import Channel
from indexing.placement import WHOLE, Generation
from indexing.reference import ReferenceImage
from indexing.reference import Role as KeyRole
from indexing.segment import IndexedReference
from indexing.shard import Shard
from indexing.snapshot import SnapshotStore
from server.auth import new_key

REPLICAS = 2
TIMEOUT_SECONDS = 60.0
# Beyond the goal of a second: a reference not found for so long is not found.
WATCHED_SECONDS = 1.5
KNOWN = "known"
FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Known:
    """A gallery with one picture that a photo shows, and a key to scan it."""

    publisher: str
    key: str
    photo: bytes


class Searchable(TypedDict):
    """How long after the answer to its registration scans still miss a reference.

    Scans come to both replicas. ``missed_with_token`` counts scans that missed it although they
    carried the gallery version of the answer.
    """

    registrations: int
    scans: int
    p50_seconds: float
    p95_seconds: float
    maximum_seconds: float
    missed_with_token: int


async def add_known(dsn: str, snapshots: Path, bundle: Bundle, publisher: str, size: int) -> Known:
    """Adds a picture to a gallery of so many vectors, writes its snapshot, and makes a key."""
    (art,) = draw_collection("poster", 1, seed=1)
    features = FeatureExtractor(bundle).reference(art.picture)
    packed = ImageFeatures(
        bundle.version,
        embedding_bytes(features.embedding),
        geometry_bytes(features.local, features.thumbnail),
    )
    image = ReferenceImage("00000000-0000-4000-8000-000000000000", 640, 480, bytes(32))
    key = new_key()
    pool = await open_pool(dsn, max_size=1)
    try:
        store = GalleryStore(pool)
        created = (await store.get_publisher(publisher)).create_time
        await store.create_api_key(publisher, key.id, KeyRole.SCAN, key.secret_sha256, "")
        new = NewReference(publisher, KNOWN, LINK, {}, image, (packed,), None, b"")
        version = (await store.register(new)).gallery_version
    finally:
        await pool.close()
    gallery = Shard(bundle).empty_gallery()
    segment = vector_segment(Vectors(bundle.manifest.dimension, seed=1).draw(size), bundle)
    gallery.thaw(FrozenGallery(size, segment, dict.fromkeys(Channel, 0)))
    gallery.apply(version, [IndexedReference(KNOWN, LINK, {}, (features,))], ())
    frozen = gallery.freeze()
    assert frozen is not None
    SnapshotStore(snapshots).write(Generation(publisher, WHOLE, bundle.version), created, frozen)
    return Known(publisher, key.text, encoded(art.picture))


def start_seconds(server: LocalServer, known: Known) -> float:
    """Starts a server; returns the time from its process to the first right answer to a scan."""
    start = time.perf_counter()
    server.start()
    with Client(server.target, key=known.key, timeout=TIMEOUT_SECONDS) as client:
        result = client.scan(known.photo)
    seconds = time.perf_counter() - start
    if _references(result) != [KNOWN]:
        raise BenchmarkError(f"The first scan answered {_references(result)}.")
    return seconds


def searchable(server: LocalServer, registrations: int) -> Searchable:
    """Registers pictures with a running server; scans them with and, by turns, without a token."""
    watched: list[_Watched] = []
    missed = 0
    with Client(server.target, key=server.operator_key, timeout=TIMEOUT_SECONDS) as operator:
        operator.create_publisher(FRESH)
        _, key = operator.create_api_key(FRESH, role=Role.PUBLISH)
    with Client(server.target, key=key, timeout=TIMEOUT_SECONDS) as client:
        for number, art in enumerate(islice(_pictures(), 2 * registrations)):
            photo = encoded(art.picture)
            written = client.register(photo, link=LINK)
            if number % 2:
                watched.append(_watched(client, photo, written.reference.id))
            else:
                # It makes one replica look: what the other knows by itself could not be told.
                result = client.scan(photo, min_gallery_version=written.gallery_version)
                missed += written.reference.id not in _references(result)
    waits = [each.wait for each in watched]
    return Searchable(
        registrations=len(waits),
        scans=sum(each.scans for each in watched),
        p50_seconds=float(np.percentile(waits, 50)),
        p95_seconds=float(np.percentile(waits, 95)),
        maximum_seconds=max(waits),
        missed_with_token=missed,
    )


def _pictures() -> Iterator[Artwork]:
    for kind in KINDS:
        yield from draw_collection(kind, capacity(kind), seed=2)


@dataclass(frozen=True, slots=True)
class _Watched:
    """How long after its registration a reference was still missed, and how often it was scanned."""

    wait: float
    scans: int


def _watched(client: Client, photo: bytes, reference: str) -> _Watched:
    start = time.perf_counter()
    wait, scans = 0.0, 0
    while time.perf_counter() < start + WATCHED_SECONDS:
        scans += 1
        if reference not in _references(client.scan(photo)):
            wait = time.perf_counter() - start
    return _Watched(wait, scans)


def _references(result: ScanResult) -> list[str]:
    return [match.reference_id for match in result.matches]


def encoded(picture: Pixels) -> bytes:
    """A picture, RGB uint8 [height, width, 3], as a file."""
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return content.tobytes()
