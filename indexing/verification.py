"""Geometric verification: does a reference stand in the photo as a flat thing would?"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from indexing.keypoints import LocalFeatures
from indexing.voting import Floats, Ints

MIN_INLIERS = 6
REPROJECTION_PIXELS = 4.0
# In a small gallery every image gets votes by chance: the heaviest correspondences are the least so.
MAX_CORRESPONDENCES = 70
MAX_ITERATIONS = 2000
# How far a correspondence may be from where another's similarity predicts it, in pixels, and as a
# share of its distance: angles are right to some 20 degrees, and a camera tilts.
NEAREST_PIXELS = 12.0
LOOSENESS = 0.4
MAX_TURN = math.radians(45)
FRAME = 640.0
GRID = 4
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
# How far off a correspondence may be at first, and how many times a homography is refitted.
REACH_PIXELS = 12.0
REFITS = 2
# In roots of a print's area as it is seen: the perspective of an arm's length and of across a room differ
# by less than the quads that a few wrong correspondences give.
CAMERA_DISTANCE = 4.0
Transform = cv2.typing.MatLike
_COMPLEX = np.array([1, 1j], np.complex64)
# The chance that a wrong correspondence agrees with a given homography.
CHANCE_INLIER = math.pi * REPROJECTION_PIXELS**2 / (FRAME * FRAME * 0.75)

# Correspondences that fix a homography.
SAMPLE = 4


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

    @property
    def inlier_ratio(self) -> float:
        """Inliers over all correspondences."""
        return self.inliers / self.matches

    @property
    def significance(self) -> float:
        """Minus the natural logarithm of how often chance would give as good a homography.

        The number of false alarms of Moisan and Stival (2004). Unlike a count of inliers or of
        votes it means the same in a gallery of three and of a million.
        """
        chances = _log_choose(self.matches, self.inliers) + _log_choose(self.inliers, SAMPLE)
        return -(chances + (self.inliers - SAMPLE) * math.log(CHANCE_INLIER))


def verify(query: LocalFeatures, reference: LocalFeatures) -> Geometry | None:
    """Fits a homography to keypoints of a photo and of a reference that were matched row by row.

    Returns None where fewer than 6 agree. The estimator is MAGSAC++ (Barath et al., 2020), on the
    correspondences that are consistent with one another. Where its quad is not plausible, as the
    inliers are too close together for a perspective, an affine map stands in for it.
    """
    sample = consistent(query, reference) if len(query) >= MIN_INLIERS else ()
    if len(sample) < MIN_INLIERS:
        return None
    source, target = reference.points * FRAME, query.pixels(FRAME)
    geometry = None
    for estimate in (_homography, _affinity):
        transform = estimate(source[sample], target[sample])
        if transform is not None:
            fitted = _geometry(transform, query, reference)
            if fitted is not None and fitted.plausible:
                return fitted
            geometry = geometry or fitted
    return geometry


def refined(geometry: Geometry, query: LocalFeatures, reference: LocalFeatures) -> Geometry:
    """Refits a plausible geometry to more correspondences, most of which may be wrong.

    They are the rows of both, such as each of the reference's keypoints with whatever in the photo
    is most like it: near the place that the geometry predicts, a resemblance that stands out little
    says much. Where nothing plausible comes of it, the geometry stays where it was; what it is
    measured by are the given correspondences all the same.
    """
    frame = query.frame(FRAME)
    source, target = reference.points * FRAME, query.points * frame
    first = cv2.getPerspectiveTransform(CORNERS * FRAME, geometry.quad * frame)
    closer = _refitted(first, source, target)
    fitted = _geometry(closer, query, reference)
    if fitted is None or not fitted.plausible:
        fitted = _geometry(first, query, reference)
    return fitted or geometry


def _refitted(transform: Transform, source: Floats, target: Floats) -> Transform:
    for _ in range(REFITS):
        near = _distances(source, target, transform) < REACH_PIXELS
        closer = _homography(source[near], target[near]) if near.sum() >= MIN_INLIERS else None
        if closer is None:
            break
        transform = closer
    return transform


def _homography(source: Floats, target: Floats) -> Transform | None:
    homography, _ = cv2.findHomography(
        source,
        target,
        cv2.USAC_MAGSAC,
        REPROJECTION_PIXELS,
        maxIters=MAX_ITERATIONS,
        confidence=0.999,
    )
    return homography


def _affinity(source: Floats, target: Floats) -> Transform | None:
    affinity, _ = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=REPROJECTION_PIXELS
    )
    return None if affinity is None else np.vstack([affinity, [0, 0, 1]])


def _geometry(
    transform: Transform, query: LocalFeatures, reference: LocalFeatures
) -> Geometry | None:
    frame = query.frame(FRAME)
    source, target = reference.points * FRAME, query.points * frame
    inlier = _distances(source, target, transform) < REPROJECTION_PIXELS
    # Keypoints of several scales at one spot are one observation, not several.
    inliers = _distinct(target[inlier] / REPROJECTION_PIXELS)
    if inliers < MIN_INLIERS:
        return None
    corners = CORNERS * FRAME
    quad = cv2.perspectiveTransform(corners[None], transform)[0]
    cells = _distinct(reference.points[inlier] * (GRID - 1e-4))
    return Geometry(
        (quad / frame).astype(np.float32),
        Correspondences(query.points, reference.points, inlier),
        inliers,
        cells / GRID**2,
        _in_front(transform, corners) and _plausible(quad, frame),
    )


def _distances(source: Floats, target: Floats, transform: Transform) -> Floats:
    reprojected = cv2.perspectiveTransform(source[None], transform)[0]
    return np.asarray(np.linalg.norm(reprojected - target, axis=1), np.float32)


def consistent(query: LocalFeatures, reference: LocalFeatures) -> npt.NDArray[np.intp]:
    """Indices of the most correspondences that agree on how the reference lies in the photo.

    The keypoints of one correspondence, with their scales and angles, fix a similarity of the two
    images (weak geometric consistency; Jégou et al., 2008). It predicts where the others are, the
    better the nearer they are; a homography is far from its similarity only far away.
    """
    seen, known = (features.pixels(FRAME) @ _COMPLEX for features in (query, reference))
    turned = np.exp(1j * (query.angles - reference.angles))
    scale = query.scales / reference.scales
    found = seen[:, None] - seen
    predicted = (known[:, None] - known) * (scale * turned)
    near = np.abs(found - predicted) < NEAREST_PIXELS + LOOSENESS * np.abs(predicted)
    octaves = np.log2(scale)
    alike = np.abs(octaves[:, None] - octaves) < 1
    level = (turned[:, None] * turned.conj()).real > np.cos(MAX_TURN)
    agree = near & alike & level
    return np.flatnonzero(agree[:, agree.sum(axis=0).argmax()])


def one_to_one(query: Ints, place: Ints, weights: Floats) -> npt.NDArray[np.intp]:
    """Indices of the heaviest correspondences, at most 70, that are the best of both their ends."""
    queries, places = query.tolist(), place.tolist()
    of_place: dict[int, int] = {}
    for number in np.argsort(-weights, kind="stable").tolist():
        of_place.setdefault(places[number], number)
    of_query: dict[int, int] = {}
    for number in of_place.values():
        of_query.setdefault(queries[number], number)
    return np.array(list(of_query.values())[:MAX_CORRESPONDENCES], np.intp)


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def _distinct(points: Floats) -> int:
    """In how many squares of a unit's side there are points, [n, 2]."""
    # For so few points a set is ten times faster than numpy's unique rows.
    return len(set(map(tuple, np.floor(points).tolist())))


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


def pose_error(geometry: Geometry, photo: float, reference: float) -> float:
    """How far the quad's corners are from where a camera would see those of a print, in roots of its area.

    ``photo`` and ``reference`` are the widths of both over their heights. The pose is the best one by
    perspective-n-point (Terzakis and Lourakis, 2020). As photos may be cropped, nothing is known of the
    camera: it is taken to look at the print's middle. Infinite where the quad is not plausible.
    """
    if not geometry.plausible:
        return math.inf
    quad = geometry.quad * np.array([photo, 1], np.float32)
    seen = cv2.getPerspectiveTransform(CORNERS, quad)
    middle = cv2.perspectiveTransform(np.array([[[0.5, 0.5]]]), seen)[0]
    corners = (quad - middle) / math.sqrt(cv2.contourArea(quad))
    flat = (CORNERS - 0.5) * (math.sqrt(reference), math.sqrt(1 / reference))
    camera = np.diag([CAMERA_DISTANCE, CAMERA_DISTANCE, 1])
    printed = np.c_[flat, np.zeros(4)]
    *_, errors = cv2.solvePnPGeneric(printed, corners, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    return float(np.min(errors))


def overlap(first: Floats, second: Floats) -> float:
    """Intersection over the smaller area of two convex quads, float32 [4, 2]."""
    shared, _ = cv2.intersectConvexConvex(first, second)
    smaller = min(cv2.contourArea(first), cv2.contourArea(second))
    return float(shared / smaller) if smaller > 0 else 0.0
