"""Corners of a picture in several sizes, placed to a fraction of a pixel.

A corner is where the grey levels change in every direction: a maximum of the smaller eigenvalue of their
structure tensor (Shi and Tomasi, 1994), in a picture that is reduced step by step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from indexing.image import Pixels
from indexing.keypoints import Floats, LocalFeatures, features_in, scaled_grey

Rows = npt.NDArray[np.intp]

# All descriptors of corners are of these, so that a photo's are found once.
LONG_SIDE = 480
PHOTO_CORNERS = 800

SIZES = 7
REDUCTION = 1.4
# The standard deviation in pixels by which each size is smoothed.
SMOOTHING = 1.2
# A corner is the strongest of a square of so many pixels a side. The wider, the more it counts: by
# strength alone they were all on what is bright in a photo, and none on a print in the shade.
REACHES = (5, 13, 37)
# Of twice the eigenvalue, in squared grey levels per pixel: below it is noise, and paper.
LEAST_STRENGTH = 1.0
# It is turned to where it gets lighter in the picture so many sizes on.
DIRECTION_SIZES = 1
# In pixels of its size.
DIAMETER = 16.0
BORDER = 3
SMALLEST_SIDE = 16
# Sobel's sums are of so many grey levels per pixel.
SOBEL = 8.0


@dataclass(frozen=True, slots=True)
class Corners:
    """Corners of a picture in its pixels, with pixel centres at integers.

    ``points`` is float32 [n, 2], (x, y); ``diameters`` float32 [n]; ``angles``, float32 [n], are
    directions in radians.
    """

    points: Floats
    diameters: Floats
    angles: Floats

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: Rows) -> "Corners":
        """Some of the corners, in the order of ``rows``."""
        return Corners(self.points[rows], self.diameters[rows], self.angles[rows])


@dataclass(frozen=True, slots=True)
class _Size:
    """How a reduced picture changes to the right and downwards, float32 [height, width] each.

    ``pitch``, float32 [2], is what one of its pixels measures in the picture.
    """

    right: Floats
    down: Floats
    pitch: Floats

    def points(self, places: Floats) -> Floats:
        """Places of its pixels, [n, 2], in the picture."""
        return (places + np.float32(0.5)) * self.pitch - np.float32(0.5)

    def directions(self, points: Floats) -> Floats:
        """Where it gets lighter at points of the picture, float32 [n, 2]: radians, float32 [n]."""
        places = (points + np.float32(0.5)) / self.pitch - np.float32(0.5)
        across, along = np.ascontiguousarray(places.T)
        right, down = (
            np.asarray(cv2.remap(each, across, along, cv2.INTER_LINEAR), np.float32)
            for each in (self.right, self.down)
        )
        return np.arctan2(down, right).ravel()


def corner_features(
    pixels: Pixels, long_side: int, count: int, describe: Callable[[Pixels, Corners], Pixels]
) -> LocalFeatures:
    """The corners of an RGB image, uint8 [height, width, 3], at most ``count``, as local features.

    They are those of the image with a longer side of at most ``long_side`` pixels. ``describe`` gives
    the descriptors, uint8 [n, bytes], of corners of grey levels.
    """
    grey = scaled_grey(pixels, long_side)
    corners = find_corners(grey, count)
    descriptors = describe(grey, corners)
    return features_in(grey, corners.points, corners.diameters, corners.angles, descriptors)


def find_corners(grey: Pixels, count: int) -> Corners:
    """At most ``count`` corners of grey levels, uint8 [height, width], those that count most first."""
    sizes = _sizes(grey)
    found = [_strongest(size, count) for size in sizes[:SIZES]]
    parts, shares = [], []
    for number, kept in _of_all_sizes([len(places) for places in found], count):
        points = sizes[number].points(found[number][:kept])
        coarse = sizes[min(number + DIRECTION_SIZES, len(sizes) - 1)]
        diameters = np.full(kept, DIAMETER * sizes[number].pitch.mean(), np.float32)
        parts.append(Corners(points, diameters, coarse.directions(points)))
        shares.append((np.arange(kept) + 0.5) / kept)
    if not parts:
        return Corners(np.zeros((0, 2), np.float32), *np.zeros((2, 0), np.float32))
    # The first of them are of all sizes as well, as strengths of different sizes do not compare.
    order = np.argsort(np.concatenate(shares), kind="stable")
    return Corners(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.diameters for part in parts]),
        np.concatenate([part.angles for part in parts]),
    ).take(order)


def _sizes(grey: Pixels) -> list[_Size]:
    """The picture, and ever smaller ones."""
    height, width = grey.shape
    sizes: list[_Size] = []
    reduced = grey
    while len(sizes) < SIZES + DIRECTION_SIZES and min(reduced.shape) >= SMALLEST_SIDE:
        smooth = cv2.GaussianBlur(reduced, (0, 0), SMOOTHING)
        right, down = (
            cv2.Sobel(smooth, cv2.CV_32F, *axis, scale=1 / SOBEL) for axis in ((1, 0), (0, 1))
        )
        pitch = np.array([width / reduced.shape[1], height / reduced.shape[0]], np.float32)
        sizes.append(_Size(np.asarray(right), np.asarray(down), pitch))
        share = REDUCTION ** -len(sizes)
        smaller = max(1, round(width * share)), max(1, round(height * share))
        reduced = np.asarray(cv2.resize(smooth, smaller, interpolation=cv2.INTER_LINEAR), np.uint8)
    return sizes


def _strongest(size: _Size, count: int) -> Floats:
    """The places of at most ``count`` corners, float32 [n, 2] (x, y), those that count most first."""
    strength = _strength(size)
    highest, side = strength, 1
    reach = np.zeros(strength.shape, np.uint8)
    for wider in REACHES:
        highest, side = _widened(highest, side, wider), wider
        reach += strength == highest
    reach[strength < LEAST_STRENGTH] = 0
    for edge in (reach, reach.T):
        edge[:BORDER] = edge[-BORDER:] = 0
    # Of truth values numpy finds the true ones ten times faster than of numbers those that are not 0.
    y, x = np.divmod(np.flatnonzero(reach > 0), strength.shape[1])
    order = np.lexsort((-strength[y, x], -reach[y, x].astype(np.int64)))[:count]
    y, x = y[order], x[order]
    return np.stack([x, y], axis=1).astype(np.float32) + _summits(strength, y, x)


def _widened(highest: Floats, side: int, wider: int) -> Floats:
    """The maxima of squares of ``wider`` pixels a side from those of ``side`` pixels, in their middles."""
    span = wider - side + 1
    # Up to thrice as wide, a square is what nine narrower ones cover.
    step = span // 2 if wider <= 3 * side else 1
    squares = np.zeros((span, span), np.uint8)
    squares[::step, ::step] = 1
    return np.asarray(cv2.dilate(highest, squares, borderType=cv2.BORDER_REPLICATE), np.float32)


def _strength(size: _Size) -> Floats:
    """Twice the smaller eigenvalue of the structure tensor, float32 [height, width]."""
    xx = cv2.multiply(size.right, size.right)
    yy = cv2.multiply(size.down, size.down)
    xy = cv2.multiply(size.right, size.down, scale=2)
    for each in (xx, yy, xy):
        cv2.blur(each, (3, 3), dst=each)
    trace = cv2.add(xx, yy)
    cv2.magnitude(cv2.subtract(xx, yy, dst=xx), xy, magnitude=xy)
    return np.asarray(cv2.subtract(trace, xy, dst=trace), np.float32)


def _summits(values: Floats, y: Rows, x: Rows) -> Floats:
    """How far from pixels the summits of parabolas through them and their neighbours are, [n, 2]."""
    here = values[y, x]
    left, right = values[y, x - 1], values[y, x + 1]
    above, below = values[y - 1, x], values[y + 1, x]
    crossed = (
        values[y + 1, x + 1] + values[y - 1, x - 1] - values[y + 1, x - 1] - values[y - 1, x + 1]
    )
    slope_x, slope_y = (right - left) / 2, (below - above) / 2
    bend_x, bend_y, twist = left + right - 2 * here, above + below - 2 * here, crossed / 4
    # At a maximum it is positive; where it is nearly none, the summit is a ridge.
    bent = np.maximum(bend_x * bend_y - twist**2, np.float32(1e-6))
    offsets = np.stack(
        [twist * slope_y - bend_y * slope_x, twist * slope_x - bend_x * slope_y], axis=1
    )
    return np.clip(offsets / bent[:, None], -0.5, 0.5).astype(np.float32)


def _of_all_sizes(found: list[int], count: int) -> list[tuple[int, int]]:
    """How many corners to keep of each size, by its number: equal shares, if it has as many.

    What a size lacks the larger ones give.
    """
    kept = []
    for number in reversed(range(len(found))):
        own = min(found[number], round(count / (number + 1)))
        count -= own
        kept.append((number, own))
    return [(number, own) for number, own in kept if own]
