"""Local features: keypoints with descriptors, in two kinds.

ORB (Rublee et al., 2011) is cheap; RootSIFT (Arandjelović and Zisserman, 2012), projected to
64 bytes, is what a scan turns to when ORB leaves it in doubt.
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

REFERENCE_KEYPOINTS = 250
# Half of OpenCV's default: dark and pale prints keep their keypoints.
CONTRAST_THRESHOLD = 0.02


class Channel(StrEnum):
    """A kind of local feature."""

    ORB = "orb"
    SIFT = "sift"


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """The keypoints of one image.

    ``points`` is float32 [n, 2], (x, y) as shares of the image's width and height;
    ``descriptors`` is uint8 [n, bytes], row by row for the points.
    """

    points: Floats
    descriptors: Pixels

    def __len__(self) -> int:
        return len(self.points)


class Extractor(Protocol):
    """Finds the local features of one channel."""

    width: int

    def extract(self, pixels: Pixels, count: int) -> LocalFeatures:
        """Finds the ``count`` strongest keypoints of an RGB image, uint8 [height, width, 3]."""
        ...


class OrbExtractor:
    """ORB features: 256 bits each, compared by their Hamming distance."""

    width = 32
    long_side = 640

    def extract(self, pixels: Pixels, count: int) -> LocalFeatures:
        """Finds the ``count`` strongest keypoints of an RGB image, uint8 [height, width, 3]."""
        grey = cv2.cvtColor(scaled(pixels, self.long_side), cv2.COLOR_RGB2GRAY)
        detector = cv2.ORB.create(nfeatures=count, fastThreshold=10)
        # OpenCV fails on a single row, and finds nothing in less than a patch.
        if min(grey.shape) < detector.getPatchSize():
            return LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8))
        found, descriptors = detector.detectAndCompute(grey, None)
        if descriptors is None:
            return LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8))
        return LocalFeatures(_shares(found, grey)[:count], np.asarray(descriptors[:count]))


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear map from RootSIFT, [128], to 64 bytes which keeps distances.

    ``mean`` is float32 [128], ``basis`` float32 [128, 64]; ``scale`` is in levels per unit.
    """

    mean: Floats
    basis: Floats
    scale: float

    def apply(self, descriptors: Floats) -> Pixels:
        """Maps float32 [n, 128] to uint8 [n, 64]."""
        levels = (descriptors - self.mean) @ self.basis * self.scale + 128
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


class SiftExtractor:
    """RootSIFT features, projected to 64 bytes, compared by their Euclidean distance."""

    width = 64
    long_side = 480

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    def extract(self, pixels: Pixels, count: int) -> LocalFeatures:
        """Finds the ``count`` strongest keypoints of an RGB image, uint8 [height, width, 3]."""
        points, descriptors = root_sift(pixels, count, self.long_side)
        return LocalFeatures(points, self._projection.apply(descriptors))


def root_sift(pixels: Pixels, count: int, long_side: int) -> tuple[Floats, Floats]:
    """Finds points, float32 [n, 2], as shares, and RootSIFT, float32 [n, 128], of an RGB image."""
    grey = cv2.cvtColor(scaled(pixels, long_side), cv2.COLOR_RGB2GRAY)
    detector = cv2.SIFT.create(nfeatures=count, contrastThreshold=CONTRAST_THRESHOLD)
    found, sift = detector.detectAndCompute(grey, None)
    if sift is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    sift = sift[:count]
    return _shares(found, grey)[:count], np.sqrt(sift / (sift.sum(axis=1, keepdims=True) + 1e-7))


def _shares(keypoints: Sequence[cv2.KeyPoint], grey: cv2.typing.MatLike) -> Floats:
    height, width = grey.shape[:2]
    points: Floats = np.asarray(cv2.KeyPoint.convert(keypoints), np.float32)
    return np.divide(points, [width, height], dtype=np.float32)
