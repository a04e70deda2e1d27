"""What one would build instead: the nearest embeddings from pgvector, and perhaps a homography."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psycopg

from benchmarks.threads import use_one_thread
from indexing.bundle import load_bundle
from indexing.image import Pixels, decode
from indexing.recognition import WORKING_SIDE

TABLE = """
create extension if not exists vector;
create table if not exists peer_picture (id text primary key, vector vector({d}), orb bytea not null);
"""
INDEX = "create index if not exists peer_nearest on peer_picture using hnsw (vector vector_ip_ops)"
NEAREST = "select id, orb, -(vector <#> %s::vector) from peer_picture order by vector <#> %s::vector limit %s"
INSERT = "insert into peer_picture values (%s, %s::vector, %s)"
# As its servers run it: a worker for each of two cores.
WORKERS = 2
BATCH = 8
BATCH_SECONDS = 0.003
KEYPOINTS = 500
VERIFIED = 5
RATIO = 0.85
REPROJECTION = 4.0
MIN_INLIERS = 10
MIN_SIMILARITY = 0.9


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """A bundle whose network embeds, a database, and whether candidates are verified."""

    bundle: Path
    database_url: str
    verifies: bool


class PeerPipeline:
    """Embeds photos in a batch, and asks pgvector about each."""

    def __init__(self, settings: PeerSettings) -> None:
        use_one_thread()
        self._embedder = load_bundle(settings.bundle).embedder
        self._verifies = settings.verifies
        self._orb = cv2.ORB.create(KEYPOINTS)
        self._matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
        self._connection = psycopg.connect(settings.database_url, autocommit=True)

    def register(self, pictures: dict[str, bytes]) -> None:
        """Makes the table, and fills it."""
        decoded = [decode(file, WORKING_SIDE)[0] for file in pictures.values()]
        vectors = self._embedder.embed(decoded).vectors
        self._connection.execute(TABLE.format(d=vectors.shape[1]))
        for name, pixels, vector in zip(pictures, decoded, vectors, strict=True):
            self._connection.execute(
                INSERT, (name, _text(vector), pickle.dumps(self._local(pixels)))
            )
        self._connection.execute(INDEX)

    def scan(self, photos: Sequence[bytes]) -> list[list[str]]:
        """The ids of what is in each photo: one, or none."""
        decoded = [decode(photo, WORKING_SIDE)[0] for photo in photos]
        vectors = self._embedder.embed(decoded).vectors
        return [
            self._found(pixels, vector) for pixels, vector in zip(decoded, vectors, strict=True)
        ]

    def _found(self, pixels: Pixels, vector: np.ndarray[Any, Any]) -> list[str]:
        text = _text(vector)
        rows = self._connection.execute(NEAREST, (text, text, VERIFIED)).fetchall()
        if not self._verifies:
            return [name for name, _, similarity in rows[:1] if similarity >= MIN_SIMILARITY]
        points, descriptors = self._local(pixels)
        inliers = {
            name: self._inliers(points, descriptors, *pickle.loads(stored))
            for name, stored, _ in rows
        }
        best = max(inliers, key=lambda name: inliers[name])
        return [best] if inliers[best] >= MIN_INLIERS else []

    def _local(self, pixels: Pixels) -> tuple[Any, Any]:
        keypoints, descriptors = self._orb.detectAndCompute(
            cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), None
        )
        return cv2.KeyPoint.convert(keypoints), descriptors

    def _inliers(self, points: Any, descriptors: Any, of_points: Any, of_descriptors: Any) -> int:
        if descriptors is None or of_descriptors is None or len(of_descriptors) < 2:
            return 0
        pairs = self._matcher.knnMatch(descriptors, of_descriptors, 2)
        good = [first for first, second in pairs if first.distance < RATIO * second.distance]
        if len(good) < 4:
            return 0
        source = np.array([of_points[match.trainIdx] for match in good])
        target = np.array([points[match.queryIdx] for match in good])
        _, mask = cv2.findHomography(source, target, cv2.USAC_MAGSAC, REPROJECTION)
        return 0 if mask is None else int(mask.sum())


def _text(vector: np.ndarray[Any, Any]) -> str:
    return str(vector.astype(float).tolist())
