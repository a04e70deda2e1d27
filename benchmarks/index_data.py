"""Made-up galleries for the index benchmark: as many vectors, descriptors and publishers as asked.

Speed and memory do not depend on what pictures show; what is drawn here has the shape of the real,
and is drawn in seconds where the features of a million pictures would take a day.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from indexing.bundle import Bundle
from indexing.embedding import Embeddings
from indexing.features import (
    KEYPOINT_FIELDS,
    ReferenceFeatures,
    Tensors,
    quantised,
)
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures, joined
from indexing.segment import IndexedReference, Segment

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]

# A picture in a gallery is most like a few others, and like all others a little.
CLUSTERS = 2000
CLUSTER_SPREAD = 0.8
# What a registered picture gives.
KEYPOINTS = {Channel.ORB: 200, Channel.FINE: 250}
DESCRIPTOR_BYTES = {Channel.ORB: 32, Channel.FINE: 48}
# How far descriptors of one list lie apart, and those of a photo from its picture's: a share of the
# bits of ORB, of the levels of RootSIFT.
SPREAD = {Channel.ORB: 0.12, Channel.FINE: 0.08}
PHOTO_NOISE = {Channel.ORB: 0.06, Channel.FINE: 0.03}
LINK = "https://example.com/"


def zipf_sizes(publishers: int, images: int) -> list[int]:
    """How many images each publisher has: the k-th in proportion to 1/k, together about ``images``."""
    shares = 1 / np.arange(1, publishers + 1)
    return [max(1, int(size)) for size in images * shares / shares.sum()]


def reference_id(number: int) -> str:
    """The id of a publisher's reference; ids rise with their numbers."""
    return f"r-{number:07}"


@dataclass(slots=True)
class Vectors:
    """Unit vectors in clusters, drawn without end from one seed."""

    dimension: int
    seed: int
    _rng: np.random.Generator = field(init=False)
    _centres: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._centres = self._normal(CLUSTERS)

    def draw(self, count: int) -> Floats:
        """So many vectors, float32 [count, dimension]."""
        near = self._centres[self._rng.integers(CLUSTERS, size=count)]
        return _unit(near + CLUSTER_SPREAD * self._normal(count))

    def near(self, vectors: Floats, share: float) -> Floats:
        """Vectors that differ from the given by so large a share, as a photo's from its picture's."""
        return _unit(vectors + share * self._normal(len(vectors)))

    def _normal(self, count: int) -> Floats:
        return _unit(self._rng.standard_normal((count, self.dimension), np.float32))


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def vector_segment(vectors: Floats, bundle: Bundle) -> Segment:
    """References with an image each, of which there is the embedding and no keypoint."""
    count = len(vectors)
    ids = [reference_id(number).encode() for number in range(count)]
    answers = [f'["{LINK}{number}", {{}}]'.encode() for number in range(count)]
    tensors: Tensors = {
        "image_ends": np.arange(1, count + 1),
        "embeddings": vectors.astype(np.float16),
        "thumbnails": np.zeros((count, 32, 32), np.uint8),
        "aspects": np.ones(count, np.float32),
    }
    for name, texts in (("id", ids), ("answer", answers)):
        tensors[f"{name}s"] = np.frombuffer(b"".join(texts), np.uint8)
        tensors[f"{name}_ends"] = np.cumsum([len(text) for text in texts])
    for channel in Channel:
        none = quantised(no_keypoints(channel))
        tensors |= {f"{channel}.{name}": none[name] for name in KEYPOINT_FIELDS}
        tensors[f"{channel}.ends"] = np.zeros(count, np.int64)
        tensors[f"{channel}.lists"] = np.zeros(0, np.uint16)
    return Segment(tensors)


def no_keypoints(channel: Channel) -> LocalFeatures:
    """The local features of a picture that has none."""
    none = np.zeros(0, np.float32)
    descriptors = np.zeros((0, DESCRIPTOR_BYTES[channel]), np.uint8)
    return LocalFeatures(np.zeros((0, 2), np.float32), none, none, descriptors, 1.0)


class Pictures:
    """References with all features of an image each, drawn from one seed.

    Descriptors lie around the codebook's finest centroids, so that its lists fill as evenly as
    with those of real pictures.
    """

    def __init__(self, bundle: Bundle, seed: int) -> None:
        self._bundle = bundle
        self._rng = np.random.default_rng(seed)
        self._vectors = Vectors(bundle.manifest.dimension, seed)

    def draw(self, count: int) -> Iterator[IndexedReference]:
        """So many references."""
        for number, vector in enumerate(self._vectors.draw(count)):
            local = {channel: self.local(channel, KEYPOINTS[channel]) for channel in Channel}
            thumbnail = self._rng.integers(256, size=(32, 32), dtype=np.uint8)
            embedding = Embeddings(self._bundle.version, vector[None])
            features = ReferenceFeatures(embedding, local, thumbnail)
            yield IndexedReference(reference_id(number), f"{LINK}{number}", {}, (features,))

    def local(self, channel: Channel, count: int) -> LocalFeatures:
        """The local features of a picture with so many keypoints."""
        rng = self._rng
        return LocalFeatures(
            rng.random((count, 2), np.float32),
            rng.uniform(0.01, 0.1, count).astype(np.float32),
            rng.uniform(0, 2 * np.pi, count).astype(np.float32),
            self.descriptors(channel, count),
            1.0,
        )

    def descriptors(self, channel: Channel, count: int) -> Pixels:
        """So many descriptors, uint8 [count, bytes]."""
        centroids = self._bundle.codebooks[channel].centroids[-1]
        near = centroids[self._rng.integers(len(centroids), size=count)]
        return self.disturbed(channel, near, SPREAD[channel])

    def disturbed(self, channel: Channel, descriptors: Pixels, share: float) -> Pixels:
        """Descriptors that differ by noise: of ORB so many of the bits, of RootSIFT of the levels."""
        if channel is Channel.ORB:
            flipped = self._rng.random((*descriptors.shape, 8)) < share
            return descriptors ^ np.packbits(flipped, axis=-1)[..., 0]
        noise = self._rng.normal(0, 255 * share, descriptors.shape)
        return np.rint(descriptors + noise).clip(0, 255).astype(np.uint8)

    def photo_of(self, reference: IndexedReference, channel: Channel) -> LocalFeatures:
        """What a photo gives that shows a reference's first image, upright and frame-filling."""
        own = reference.images[0].local[channel]
        descriptors = self.disturbed(channel, own.descriptors, PHOTO_NOISE[channel])
        seen = LocalFeatures(own.points, own.scales, own.angles, descriptors, own.aspect)
        clutter = self.local(channel, self._bundle.extractors[channel].query_count - len(seen))
        return joined([seen, clutter])
