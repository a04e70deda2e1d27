"""All features of a picture under one model version, and their form in storage."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load, save

from indexing.bundle import Bundle
from indexing.embedding import Embeddings
from indexing.errors import ImageTooPlain
from indexing.image import Pixels
from indexing.keypoints import (
    REFERENCE_KEYPOINTS,
    Channel,
    Extractor,
    LocalFeatures,
    OrbExtractor,
    SiftExtractor,
)

QUERY_KEYPOINTS = {Channel.ORB: 600, Channel.SIFT: 500}
MIN_REFERENCE_KEYPOINTS = 8
_LEVELS = 65535


@dataclass(frozen=True, slots=True)
class ReferenceFeatures:
    """What an index holds of a reference image; ``embedding`` has one row."""

    embedding: Embeddings
    local: dict[Channel, LocalFeatures]


class FeatureExtractor:
    """Turns pictures into the features of a bundle's model version."""

    def __init__(self, bundle: Bundle) -> None:
        self.version = bundle.version
        self._embedder = bundle.embedder
        self._local: dict[Channel, Extractor] = {
            Channel.ORB: OrbExtractor(),
            Channel.SIFT: SiftExtractor(bundle.projection),
        }

    def embed(self, pictures: Sequence[Pixels]) -> Embeddings:
        """The global embeddings of RGB pictures, uint8 [height, width, 3]."""
        return self._embedder.embed(pictures)

    def query(self, picture: Pixels, channel: Channel) -> LocalFeatures:
        """The local features of a photo."""
        return self._local[channel].extract(picture, QUERY_KEYPOINTS[channel])

    def reference(self, picture: Pixels) -> ReferenceFeatures:
        """The features of a reference image. Raises ImageTooPlain where there are too few."""
        local = {
            channel: extractor.extract(picture, REFERENCE_KEYPOINTS)
            for channel, extractor in self._local.items()
        }
        if max(len(features) for features in local.values()) < MIN_REFERENCE_KEYPOINTS:
            raise ImageTooPlain
        return ReferenceFeatures(self.embed([picture]), local)


def embedding_bytes(embeddings: Embeddings) -> bytes:
    """One embedding as little-endian float16."""
    return embeddings.vectors.astype("<f2").tobytes()


def embeddings_from(version: str, stored: Sequence[bytes]) -> Embeddings:
    """The embeddings of several stored ones, in their order."""
    vectors = np.frombuffer(b"".join(stored), "<f2").reshape(len(stored), -1).astype(np.float32)
    return Embeddings(version, vectors)


def local_bytes(local: dict[Channel, LocalFeatures]) -> bytes:
    """Local features as safetensors, with points in 1/65535 of the image's sides."""
    tensors = {}
    for channel, features in local.items():
        tensors[f"{channel}.points"] = np.rint(features.points.clip(0, 1) * _LEVELS).astype("<u2")
        tensors[f"{channel}.descriptors"] = np.ascontiguousarray(features.descriptors)
    return save(tensors)


def local_from(stored: bytes) -> dict[Channel, LocalFeatures]:
    """Local features as ``local_bytes`` wrote them."""
    tensors = load(stored)
    return {
        channel: LocalFeatures(
            (tensors[f"{channel}.points"] / np.float32(_LEVELS)).astype(np.float32),
            tensors[f"{channel}.descriptors"],
        )
        for channel in Channel
    }
