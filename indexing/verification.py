"""Geometric verification: does a reference stand in the photo as a flat thing would?"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from indexing.voting import Floats, Ints

MIN_INLIERS = 6
REPROJECTION_PIXELS = 4.0
# In a small gallery every image gets votes by chance: the heaviest correspondences are the least so,
# and many samples are needed where one in five of them is right.
MAX_CORRESPONDENCES = 70
MAX_ITERATIONS = 10_000
FRAME = 640.0
GRID = 4
# The chance that a wrong correspondence agrees with a given homography.
CHANCE_INLIER = math.pi * REPROJECTION_PIXELS**2 / (FRAME * FRAME * 0.75)


@dataclass(frozen=True, slots=True)
class Correspondences:
    """Keypoints of a photo and of a reference that were matched.

    ``query_points`` and ``reference_points`` are float32 [n, 2], as shares of their images' sides;
    ``inlier``, bool [n], says which agree with the homography.
    """

    query_points: Floats
    reference_points: Floats
    inlier: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.inlier)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a reference stands in a photo.

    ``quad`` is float32 [4, 2]: the corners top left, top right, bottom right and bottom left of
    the reference, as shares of the photo's width and height. ``inliers`` counts the
    correspondences that agree with the homography, those at one spot once; ``coverage`` is the
    share of a 4 x 4 grid over the reference that holds one; ``plausible`` says whether a camera
    could see a flat thing like that.
    """

    quad: Floats
    correspondences: Correspondences
    inliers: int
    coverage: float
    plausible: bool

    @property
    def matches(self) -> int:
        """How many correspondences there are."""
        return len(self.correspondences)


def verify(query_points: Floats, reference_points: Floats, photo_aspect: float) -> Geometry | None:
    """Fits a homography to correspondences, both float32 [n, 2] as shares of their images.

    ``photo_aspect`` is the photo's width over its height. Returns None where fewer than 6 agree.
    The estimator is MAGSAC++ (Barath et al., 2020).
    """
    frame = _frame(photo_aspect)
    if len(query_points) < MIN_INLIERS:
        return None
    source, target = reference_points * FRAME, query_points * frame
    homography, mask = cv2.findHomography(
        source,
        target,
        cv2.USAC_MAGSAC,
        REPROJECTION_PIXELS,
        maxIters=MAX_ITERATIONS,
        confidence=0.999,
    )
    if homography is None:
        return None
    inlier = mask.ravel().astype(bool)
    inliers = _distinct(target[inlier])
    if inliers < MIN_INLIERS:
        return None
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * FRAME
    quad = cv2.perspectiveTransform(corners[None], homography)[0]
    cells = np.unique(np.floor(reference_points[inlier] * (GRID - 1e-4)).astype(int), axis=0)
    return Geometry(
        (quad / frame).astype(np.float32),
        Correspondences(query_points, reference_points, inlier),
        inliers,
        len(cells) / GRID**2,
        _in_front(homography, corners) and _plausible(quad, frame),
    )


def one_to_one(query: Ints, place: Ints, weights: Floats) -> npt.NDArray[np.intp]:
    """Indices of the heaviest correspondences, at most 70, that are the best of both their ends."""
    order = np.argsort(-weights, kind="stable")
    _, by_place = np.unique(place[order], return_index=True)
    order = order[np.sort(by_place)]
    _, by_query = np.unique(query[order], return_index=True)
    return np.asarray(order[np.sort(by_query)][:MAX_CORRESPONDENCES])


def _frame(aspect: float) -> Floats:
    size = (FRAME, FRAME / aspect) if aspect >= 1 else (FRAME * aspect, FRAME)
    return np.array(size, np.float32)


def _distinct(points: Floats) -> int:
    # Keypoints of several scales at one spot are one observation, not several.
    return len(np.unique(np.floor(points / REPROJECTION_PIXELS), axis=0))


def _in_front(homography: cv2.typing.MatLike, corners: Floats) -> bool:
    depth = np.c_[corners, np.ones(4)] @ homography[2]
    return bool((depth > 0).all() or (depth < 0).all())


def _plausible(quad: Floats, frame: Floats) -> bool:
    sides = np.roll(quad, -1, axis=0) - quad
    turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
    if not (turns > 0).all():
        return False
    lengths = np.linalg.norm(sides, axis=1)
    ratios = np.maximum(lengths[:2], lengths[2:]) / np.maximum(
        np.minimum(lengths[:2], lengths[2:]), 1
    )
    area = cv2.contourArea(quad) / float(frame.prod())
    return bool(0.01 <= area <= 3.0 and (ratios <= 2.5).all())


def overlap(first: Floats, second: Floats) -> float:
    """Intersection over the smaller area of two convex quads, float32 [4, 2]."""
    shared, _ = cv2.intersectConvexConvex(first, second)
    smaller = min(cv2.contourArea(first), cv2.contourArea(second))
    return float(shared / smaller) if smaller > 0 else 0.0
