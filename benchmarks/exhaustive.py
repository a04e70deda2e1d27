"""Local features matched with every reference of a gallery in turn, without any index.

What a photo is recognised by before there is a shortlist: the nearest neighbours of its descriptors
in each reference, the ratio test of Lowe (2004), and a homography by a kind of RANSAC. A pair costs a
millisecond or two, so it ends at galleries of some hundreds.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.galleries import side_by_side
from indexing.image import Pixels
from training.datasets import read_picture

Floats = npt.NDArray[np.float32]
Descriptors = npt.NDArray[Any]
# Of each descriptor of a photo: the nearest in the reference, and whether it passes the ratio test.
Nearest = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]

KEYPOINTS = 500
SIDE = 640
# Half of OpenCV's default, so that dark and pale prints have keypoints too.
SIFT_CONTRAST = 0.02
RATIO = 0.8
REPROJECTION_PIXELS = 4.0
MAX_ITERATIONS = 10_000
CONFIDENCE = 0.999
# Fewer correspondences make no homography, or one that nothing confirms.
MIN_MATCHES = 5
MIN_ACCEPTED_INLIERS = 8
LEAST_AREA, GREATEST_AREA = 0.01, 3.0
GREATEST_SIDE_RATIO = 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The keypoints of one picture of ``size``, (width, height) in pixels.

    ``points`` is float32 [n, 2] in pixels; ``descriptors`` is [n, d], as its kind has them.
    """

    size: tuple[int, int]
    points: Floats
    descriptors: Descriptors


@dataclass(frozen=True, slots=True)
class LocalMethod:
    """A kind of local features and how a homography is estimated from them.

    ``extract`` finds the keypoints of an RGB picture, uint8 [h, w, 3]; ``nearest`` compares a
    photo's descriptors with a reference's, two at least; ``estimator`` is OpenCV's number of it.
    """

    name: str
    extract: Callable[[Pixels], Keypoints]
    nearest: Callable[[Descriptors, Descriptors], Nearest]
    estimator: int


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """How a reference fits a photo.

    ``inliers`` counts the correspondences that agree with the homography; ``quad`` is float32
    [4, 2], the reference's corners top left, top right, bottom right, bottom left in photo pixels,
    None without a homography.
    """

    inliers: int = 0
    quad: Floats | None = None


def orb(pixels: Pixels) -> Keypoints:
    """ORB (Rublee et al., 2011) of an RGB picture, uint8 [h, w, 3]: descriptors uint8 [n, 32]."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    size, detector = (grey.shape[1], grey.shape[0]), cv2.ORB.create(nfeatures=KEYPOINTS)
    # OpenCV fails on less than a patch.
    found, descriptors = (
        detector.detectAndCompute(grey, None)
        if min(size) >= detector.getPatchSize()
        else ([], None)
    )
    if descriptors is None:
        return Keypoints(size, np.empty((0, 2), np.float32), np.empty((0, 32), np.uint8))
    return Keypoints(size, np.asarray(cv2.KeyPoint.convert(found), np.float32), descriptors)


def root_sift(pixels: Pixels) -> Keypoints:
    """RootSIFT (Arandjelović and Zisserman, 2012) of an RGB picture: descriptors float32 [n, 128]."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    size = grey.shape[1], grey.shape[0]
    detector = cv2.SIFT.create(nfeatures=KEYPOINTS, contrastThreshold=SIFT_CONTRAST)
    found, descriptors = detector.detectAndCompute(grey, None)
    if descriptors is None:
        return Keypoints(size, np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
    roots = np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-7))
    return Keypoints(size, np.asarray(cv2.KeyPoint.convert(found), np.float32), roots)


def nearest_by_hamming(query: Descriptors, reference: Descriptors) -> Nearest:
    """The nearest of binary descriptors, uint8 [n, d] and [m, d], with m at least 2."""
    distances, numbers = faiss.knn_hamming(query, reference, 2)
    return numbers[:, 0], distances[:, 0] < RATIO * distances[:, 1]


def nearest_by_angle(query: Descriptors, reference: Descriptors) -> Nearest:
    """The nearest of unit vectors, float32 [n, d] and [m, d], with m at least 2."""
    # PyTorch keeps to the number of threads that it was given, NumPy does not.
    cosines = (torch.from_numpy(query) @ torch.from_numpy(reference).T).numpy()
    rows, best = np.arange(len(query)), cosines.argmax(axis=1)
    first = cosines[rows, best]
    cosines[rows, best] = -1
    # Of unit vectors the squared distance is 2 - 2 cos.
    return best, 1 - first < RATIO**2 * (1 - cosines.max(axis=1))


# OpenCV's first RANSAC is ten times as slow as this, RANSAC with local optimisation (Chum et al.,
# 2003), and finds no more.
ORB_RANSAC = LocalMethod("ORB + RANSAC, exhaustive", orb, nearest_by_hamming, cv2.USAC_DEFAULT)
ROOT_SIFT_MAGSAC = LocalMethod(
    "RootSIFT + MAGSAC++, exhaustive", root_sift, nearest_by_angle, cv2.USAC_MAGSAC
)
LOCAL_METHODS = (ORB_RANSAC, ROOT_SIFT_MAGSAC)


def fit(method: LocalMethod, photo: Keypoints, reference: Keypoints) -> Fit:
    """Matches a photo's keypoints with a reference's and fits a homography."""
    if len(photo.points) < MIN_MATCHES or len(reference.points) < MIN_MATCHES:
        return Fit()
    nearest, distinct = method.nearest(photo.descriptors, reference.descriptors)
    if distinct.sum() < MIN_MATCHES:
        return Fit()
    homography, mask = cv2.findHomography(
        reference.points[nearest[distinct]],
        photo.points[distinct],
        method.estimator,
        REPROJECTION_PIXELS,
        maxIters=MAX_ITERATIONS,
        confidence=CONFIDENCE,
    )
    if homography is None:
        return Fit()
    quad = cv2.perspectiveTransform(_corners(reference.size)[None], homography)[0]
    return Fit(int(mask.sum()), np.asarray(quad, np.float32))


class ExhaustiveGallery:
    """References that a photo is compared with one by one; none is skipped."""

    def __init__(self, method: LocalMethod, references: Sequence[Path]) -> None:
        self.method = method
        self.references = tuple(references)
        threads, description = os.cpu_count() or 1, f"Keypoints: {method.name}"
        self._keypoints = list(side_by_side(self._read, references, description, threads))

    def search(self, photo: Keypoints) -> list[int]:
        """The numbers of the references by falling inliers, those of equal ones as they come."""
        fits = self._fits(photo)
        return sorted(range(len(fits)), key=lambda number: -fits[number].inliers)

    def recognise(self, pixels: Pixels) -> Path | None:
        """The reference with the most inliers in an RGB photo; None where it is not acceptable."""
        photo = self.method.extract(pixels)
        fits = self._fits(photo)
        best = max(range(len(fits)), key=lambda number: fits[number].inliers)
        return self.references[best] if acceptable(fits[best], photo.size) else None

    def _fits(self, photo: Keypoints) -> list[Fit]:
        return [fit(self.method, photo, reference) for reference in self._keypoints]

    def _read(self, path: Path) -> Keypoints:
        return self.method.extract(read_picture(path, SIDE))


def acceptable(found: Fit, size: tuple[int, int]) -> bool:
    """Whether a fit may be answered: enough inliers, and a quad that a camera could see.

    ``size`` is the photo's (width, height) in pixels. The quad must be convex and not mirrored,
    of 1 to 300 % of the photo's area, its opposite sides within 2.5 times each other.
    """
    if found.quad is None or found.inliers < MIN_ACCEPTED_INLIERS:
        return False
    area = cv2.contourArea(found.quad, oriented=True) / (size[0] * size[1])
    lengths = np.linalg.norm(found.quad - np.roll(found.quad, -1, axis=0), axis=1)
    ratios = lengths[:2] / np.maximum(lengths[2:], 1e-6)
    even = (ratios <= GREATEST_SIDE_RATIO) & (ratios >= 1 / GREATEST_SIDE_RATIO)
    in_range = LEAST_AREA <= area <= GREATEST_AREA
    return in_range and bool(even.all()) and cv2.isContourConvex(found.quad)


def _corners(size: tuple[int, int]) -> Floats:
    width, height = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
