"""Local features: keypoints with descriptors, of two channels.

ORB (Rublee et al., 2011) is cheap; a scan that it leaves in doubt turns to finer features: RootSIFT
(Arandjelović and Zisserman, 2012), projected to 48 bytes, or what a model learnt instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from indexing.image import Pixels, scaled

Floats = npt.NDArray[np.float32]

# Half of OpenCV's default: dark and pale prints keep their keypoints.
CONTRAST_THRESHOLD = 0.02


class Channel(StrEnum):
    """A kind of local feature."""

    ORB = "orb"
    # Stored features and bundles name it after the first of its kind.
    FINE = "sift"


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """The keypoints of one image.

    ``points`` is float32 [n, 2], (x, y) as shares of the image's width and height; ``scales``,
    float32 [n], are their diameters as shares of its longer side, ``angles``, float32 [n], their
    directions in radians; ``descriptors`` is uint8 [n, bytes]. ``aspect`` is the image's width
    over its height.
    """

    points: Floats
    scales: Floats
    angles: Floats
    descriptors: Pixels
    aspect: float

    def __len__(self) -> int:
        return len(self.points)

    def frame(self, long_side: float) -> Floats:
        """The image's (width, height), float32 [2], with a longer side of so many pixels."""
        size = (long_side, long_side / self.aspect)
        if self.aspect < 1:
            size = (long_side * self.aspect, long_side)
        return np.array(size, np.float32)

    def pixels(self, long_side: float) -> Floats:
        """The points, float32 [n, 2], in an image with a longer side of so many pixels."""
        return self.points * self.frame(long_side)

    def take(self, rows: npt.NDArray[np.intp]) -> "LocalFeatures":
        """Some of the keypoints, in the order of ``rows``."""
        return LocalFeatures(
            self.points[rows],
            self.scales[rows],
            self.angles[rows],
            self.descriptors[rows],
            self.aspect,
        )


def joined(parts: Sequence[LocalFeatures]) -> LocalFeatures:
    """The keypoints of several sizes of one image."""
    return LocalFeatures(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.angles for part in parts]),
        np.concatenate([part.descriptors for part in parts]),
        parts[0].aspect,
    )


class Extractor(Protocol):
    """Finds the local features of one channel.

    ``name`` says which kind they are of. It looks at pictures whose longer side is at most
    ``long_side`` pixels. ``query_count`` is how many keypoints a photo gives. ``reference_pyramid`` has
    sizes of a reference's longer side in pixels, and how many it gives in each: from afar only coarse
    details are seen, which the strongest of a full-size picture may not be.
    """

    name: str
    width: int
    long_side: int
    query_count: int
    reference_pyramid: tuple[tuple[int, int], ...]

    def extract(self, pixels: Pixels, count: int) -> LocalFeatures:
        """Finds the ``count`` strongest keypoints of an RGB image, uint8 [height, width, 3]."""
        ...

    def same_as(self, other: "Extractor") -> bool:
        """Whether it finds in every picture what the other finds."""
        ...


class OrbExtractor:
    """ORB features: 256 bits each, compared by their Hamming distance."""

    name = "ORB"
    width = 32
    long_side = 640
    query_count = 400
    reference_pyramid: tuple[tuple[int, int], ...] = ((long_side, 200),)

    def extract(self, pixels: Pixels, count: int) -> LocalFeatures:
        """Finds the ``count`` strongest keypoints of an RGB image, uint8 [height, width, 3]."""
        grey = scaled_grey(pixels, self.long_side)
        detector = cv2.ORB.create(nfeatures=count, fastThreshold=10)
        # OpenCV fails on a single row, and finds nothing in less than a patch.
        if min(grey.shape) < detector.getPatchSize():
            return _features((), grey, np.zeros((0, self.width), np.uint8))
        found, descriptors = detector.detectAndCompute(grey, None)
        if descriptors is None:
            return _features((), grey, np.zeros((0, self.width), np.uint8))
        return _features(found[:count], grey, np.asarray(descriptors[:count], np.uint8))

    def same_as(self, other: Extractor) -> bool:
        """Whether the other is of ORB as well."""
        return isinstance(other, OrbExtractor)


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear map from RootSIFT, [128], to 48 bytes which keeps distances.

    ``mean`` is float32 [128], ``basis`` float32 [128, 48]; ``scale`` is in levels per unit.
    """

    mean: Floats
    basis: Floats
    scale: float

    def apply(self, descriptors: Floats) -> Pixels:
        """Maps float32 [n, 128] to uint8 [n, 48]."""
        levels = (descriptors - self.mean) @ self.basis * self.scale + 128
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)

    def equals(self, other: "Projection") -> bool:
        """Whether it maps everything as the other does."""
        return (
            np.array_equal(self.mean, other.mean)
            and np.array_equal(self.basis, other.basis)
            and self.scale == other.scale
        )


class SiftExtractor:
    """RootSIFT features, projected to 48 bytes, compared by their Euclidean distance."""

    name = "RootSIFT"
    width = 48
    # SIFT doubles its input first: this is 640 pixels without the doubling.
    long_side = 320
    query_count = 500
    reference_pyramid: tuple[tuple[int, int], ...] = ((long_side, 170), (long_side // 3, 80))

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    def extract(self, pixels: Pixels, count: int) -> LocalFeatures:
        """Finds the ``count`` strongest keypoints of an RGB image, uint8 [height, width, 3]."""
        grey = scaled_grey(pixels, self.long_side)
        found, descriptors = root_sift(grey, count)
        return _features(found, grey, self._projection.apply(descriptors))

    def same_as(self, other: Extractor) -> bool:
        """Whether the other projects what it finds in the same way."""
        return isinstance(other, SiftExtractor) and self._projection.equals(other._projection)


def scaled_grey(pixels: Pixels, long_side: int) -> Pixels:
    """Grey levels, uint8 [h, w], of an RGB image scaled down to at most ``long_side`` pixels."""
    return scaled(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8), long_side)


def root_sift(grey: Pixels, count: int) -> tuple[Sequence[cv2.KeyPoint], Floats]:
    """Finds the ``count`` strongest keypoints of grey levels, uint8 [height, width].

    Returns them, the strongest first, with their RootSIFT descriptors, float32 [n, 128].
    """
    detector = cv2.SIFT.create(nfeatures=count, contrastThreshold=CONTRAST_THRESHOLD)
    found, sift = detector.detectAndCompute(grey, None)
    if sift is None:
        return (), np.zeros((0, 128), np.float32)
    order = np.argsort([-keypoint.response for keypoint in found], kind="stable")[:count]
    sift = sift[order]
    return [found[i] for i in order], np.sqrt(sift / (sift.sum(axis=1, keepdims=True) + 1e-7))


def features_in(
    grey: Pixels, points: Floats, diameters: Floats, angles: Floats, descriptors: Pixels
) -> LocalFeatures:
    """Local features whose ``points``, [n, 2], and ``diameters``, [n], are in pixels of an image."""
    height, width = grey.shape
    return LocalFeatures(
        np.divide(points, [width, height], dtype=np.float32),
        diameters / np.float32(max(width, height)),
        angles,
        descriptors,
        width / height,
    )


def _features(
    keypoints: Sequence[cv2.KeyPoint], grey: Pixels, descriptors: Pixels
) -> LocalFeatures:
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)
    shape = np.array([(k.size, np.radians(k.angle)) for k in keypoints], np.float32).reshape(-1, 2)
    return features_in(grey, points, shape[:, 0], shape[:, 1], descriptors)
