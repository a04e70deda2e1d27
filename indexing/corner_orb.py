"""The binary descriptors of ORB about corners that are placed better than ORB's own."""

import cv2
import numpy as np

from indexing.corners import (
    DIAMETER,
    LONG_SIDE,
    PHOTO_CORNERS,
    REDUCTION,
    SIZES,
    Corners,
    corner_features,
)
from indexing.image import Pixels
from indexing.keypoints import Extractor, Floats, LocalFeatures

# In pixels of its size: what ORB samples about a keypoint.
SAMPLED_DIAMETER = 31


class CornerOrbExtractor:
    """ORB descriptors (Rublee et al., 2011) of corners: 256 bits, compared by their Hamming distance."""

    name = "ORB of corners"
    width = 32
    long_side = LONG_SIDE
    query_count = PHOTO_CORNERS
    reference_pyramid: tuple[tuple[int, int], ...] = ((long_side, 200),)

    def extract(self, pixels: Pixels, count: int) -> LocalFeatures:
        """Finds the ``count`` strongest keypoints of an RGB image, uint8 [height, width, 3]."""
        return corner_features(pixels, self.long_side, count, _described)

    def same_as(self, other: Extractor) -> bool:
        """Whether the other is of the same kind."""
        return isinstance(other, CornerOrbExtractor)


def _described(grey: Pixels, corners: Corners) -> Pixels:
    """The descriptors, uint8 [n, 32], of corners of grey levels, uint8 [height, width]."""
    if not len(corners):
        return np.zeros((0, CornerOrbExtractor.width), np.uint8)
    sizes = np.rint(np.log(corners.diameters / DIAMETER) / np.log(REDUCTION)).astype(int)
    factors = REDUCTION**sizes
    # ORB takes them size by size, and with no edge it describes every one.
    by_size = np.argsort(sizes, kind="stable")
    keypoints = [
        cv2.KeyPoint(x, y, SAMPLED_DIAMETER * factor, degrees, 0, size)
        for (x, y), factor, degrees, size in zip(
            _orb_points(corners.points, factors)[by_size].tolist(),
            factors[by_size].tolist(),
            np.degrees(corners.angles[by_size] % (2 * np.pi)).tolist(),
            sizes[by_size].tolist(),
            strict=True,
        )
    ]
    orb = cv2.ORB.create(scaleFactor=REDUCTION, nlevels=SIZES, edgeThreshold=0)
    _, described = orb.compute(grey, keypoints)
    descriptors = np.empty((len(corners), CornerOrbExtractor.width), np.uint8)
    descriptors[by_size] = described
    return descriptors


def _orb_points(points: Floats, factors: Floats) -> Floats:
    """Points where ORB finds them: it takes the corner of a size's first pixel for that of the picture."""
    half = np.float32(0.5)
    return (points + half - half * factors[:, None]).astype(np.float32)
