"""All features of a picture under one model version, and their form in storage."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from indexing.appearance import thumbnail
from indexing.bundle import Bundle
from indexing.embedding import Embeddings
from indexing.errors import ImageTooPlain
from indexing.image import Pixels, scaled
from indexing.keypoints import Channel, LocalFeatures, joined
from indexing.patch_extractor import PatchExtractor

MIN_REFERENCE_KEYPOINTS = 8
KEYPOINT_FIELDS = ("points", "scales", "angles", "descriptors")
Tensors = dict[str, npt.NDArray[Any]]
_LEVELS = 2047
# A stored scale is in sixteenths of an octave above this share of the image's longer side.
SCALE_OCTAVE = 16
FINEST_SCALE = np.float32(2**-10)
TURN = 2 * np.pi


@dataclass(frozen=True, slots=True)
class ReferenceFeatures:
    """What an index holds of a reference image.

    ``embedding`` has one row; ``thumbnail`` is its grey levels, uint8 [32, 32].
    """

    embedding: Embeddings
    local: dict[Channel, LocalFeatures]
    thumbnail: Pixels


class FeatureExtractor:
    """Turns pictures into the features of a bundle's model version."""

    def __init__(self, bundle: Bundle) -> None:
        self.version = bundle.version
        self._embedder = bundle.embedder
        self._local = bundle.extractors

    def embed(self, photos: Sequence[Pixels]) -> Embeddings:
        """The global embeddings of RGB photos, uint8 [height, width, 3]."""
        return self._embedder.embed(photos)

    def embed_references(self, pictures: Sequence[Pixels]) -> Embeddings:
        """The global embeddings of reference images, RGB uint8 [height, width, 3]."""
        return self._embedder.embed_references(pictures)

    def query(
        self, picture: Pixels, channel: Channel, binary: LocalFeatures | None = None
    ) -> LocalFeatures:
        """The local features of a photo. ``binary`` are those of ORB, if they were found before."""
        extractor = self._local[channel]
        if binary is not None and isinstance(extractor, PatchExtractor):
            return extractor.describe_keypoints(picture, binary)
        return extractor.extract(picture, extractor.query_count)

    def reference(self, picture: Pixels) -> ReferenceFeatures:
        """The features of a reference image. Raises ImageTooPlain where there are too few."""
        local = self.reference_local(picture)
        return ReferenceFeatures(self.embed_references([picture]), local, thumbnail(picture))

    def reference_local(self, picture: Pixels) -> dict[Channel, LocalFeatures]:
        """The local features of a reference image. Raises ImageTooPlain where there are too few."""
        local = {channel: self.reference_keypoints(picture, channel) for channel in Channel}
        if max(len(features) for features in local.values()) < MIN_REFERENCE_KEYPOINTS:
            raise ImageTooPlain
        return local

    def same_local_features(self, other: "FeatureExtractor") -> bool:
        """Whether it finds in every picture the local features that the other finds.

        Codebooks do not matter: they only group them, in an index.
        """
        return all(own.same_as(other._local[channel]) for channel, own in self._local.items())

    def reference_keypoints(self, picture: Pixels, channel: Channel) -> LocalFeatures:
        """The local features of a reference image, of several sizes."""
        extractor = self._local[channel]
        levels = extractor.reference_pyramid
        return joined([extractor.extract(scaled(picture, side), count) for side, count in levels])


def embedding_bytes(embeddings: Embeddings) -> bytes:
    """One embedding as little-endian float16."""
    return embeddings.vectors.astype("<f2").tobytes()


def embeddings_from(version: str, stored: Sequence[bytes]) -> Embeddings:
    """The embeddings of several stored ones, in their order."""
    vectors = np.frombuffer(b"".join(stored), "<f2").reshape(len(stored), -1).astype(np.float32)
    return Embeddings(version, vectors)


def geometry_bytes(local: Mapping[Channel, LocalFeatures], thumbnail: Pixels) -> bytes:
    """All but the embedding, as deflated safetensors of ``quantised`` keypoints."""
    aspect = next(iter(local.values())).aspect
    tensors: Tensors = {"thumbnail": thumbnail, "aspect": np.array([aspect], np.float32)}
    for channel, features in local.items():
        tensors |= {f"{channel}.{name}": values for name, values in quantised(features).items()}
    return zlib.compress(save(tensors))


def reference_features(embedding: Embeddings, stored: bytes) -> ReferenceFeatures:
    """The features of an image from its embedding and what ``geometry_bytes`` wrote."""
    tensors = load(zlib.decompress(stored))
    aspect = float(tensors["aspect"][0])
    local = {
        channel: dequantised(
            {name: tensors[f"{channel}.{name}"] for name in KEYPOINT_FIELDS}, aspect
        )
        for channel in Channel
    }
    return ReferenceFeatures(embedding, local, tensors["thumbnail"])


def quantised(local: LocalFeatures) -> Tensors:
    """Keypoints in little room, by the names of ``KEYPOINT_FIELDS``, each [n] or [n, ...].

    Points are uint16, in 1/2047 of the image's sides; scales uint8, in sixteenths of an octave;
    angles uint8, in 1/256 of a turn; descriptors as they are.
    """
    scales = SCALE_OCTAVE * np.log2(local.scales / FINEST_SCALE)
    turns = np.rint(local.angles / TURN * 256).astype(np.int64)
    return {
        "points": np.rint(local.points.clip(0, 1) * _LEVELS).astype("<u2"),
        "scales": np.rint(scales).clip(0, 255).astype(np.uint8),
        "angles": (turns % 256).astype(np.uint8),
        "descriptors": np.ascontiguousarray(local.descriptors),
    }


def dequantised(tensors: Tensors, aspect: float) -> LocalFeatures:
    """The keypoints that ``quantised`` made small, of an image of this aspect."""
    return LocalFeatures(
        (tensors["points"] / np.float32(_LEVELS)).astype(np.float32),
        np.exp2(tensors["scales"] / np.float32(SCALE_OCTAVE)) * FINEST_SCALE,
        tensors["angles"] * np.float32(TURN / 256),
        tensors["descriptors"],
        aspect,
    )
