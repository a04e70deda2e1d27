"""Corners that are spread over a picture, and the patches about them that are described."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from indexing.image import Pixels

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# A corner is at most one of so many pixels' width of its level: many at one spot tell no more than one.
CELL = 12.0
LEVELS = 6
LEVEL_FACTOR = 1.4
# How many corners a level gives, to the next finer one.
LEVEL_SHARE = 0.75
CANDIDATES = 1500
# OpenCV's default is 20: dark and pale prints keep their corners.
CONTRAST = 7
# The diameter, in pixels of its level, from which a corner has its direction.
CORNER_PIXELS = 31
PATCH_SIDE = 24
# What a patch shows, in diameters of its corner.
PATCH_DIAMETERS = 2.4
# A patch is taken from the coarsest size of the picture that is finer than this share of its own.
FINER = 2**-0.25
SMALLEST_SIZE = 24


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

    def take(self, rows: npt.NDArray[np.intp]) -> "Corners":
        """Some of the corners, in the order of ``rows``."""
        return Corners(self.points[rows], self.diameters[rows], self.angles[rows])


def spread_corners(grey: Pixels, count: int) -> Corners:
    """At most ``count`` corners of grey levels, uint8 [height, width], the strongest of each level first.

    They are FAST corners with the Harris measure and direction of ORB (Rublee et al., 2011), the
    strongest of each cell of each level.
    """
    # OpenCV fails on a single row, and finds nothing in less than a corner.
    found = () if min(grey.shape) < CORNER_PIXELS else _detector().detect(grey, None)
    # By the strength of each, and of them the first of each cell.
    values = np.array(
        [(k.response, k.octave, k.size, k.angle, *k.pt) for k in found], np.float32
    ).reshape(-1, 6)
    values = values[np.argsort(-values[:, 0], kind="stable")]
    level, cell = values[:, 1].astype(np.int64), CELL / CORNER_PIXELS * values[:, 2]
    column, row = (values[:, 4:] / cell[:, None]).astype(np.int64).T
    _, first = np.unique(level << 40 | row << 20 | column, return_index=True)
    first.sort()
    chosen = values[first[_of_all_levels(level[first], count)]]
    return Corners(chosen[:, 4:].copy(), chosen[:, 2].copy(), np.radians(chosen[:, 3]))


def _detector() -> cv2.ORB:
    return cv2.ORB.create(
        nfeatures=CANDIDATES,
        scaleFactor=LEVEL_FACTOR,
        nlevels=LEVELS,
        fastThreshold=CONTRAST,
        patchSize=CORNER_PIXELS,
    )


def _of_all_levels(levels: Ints, count: int) -> npt.NDArray[np.intp]:
    """Which of corners, the strongest first, to keep: what a level has too few of, the finer gives.

    The first of them are of all levels as well, as strengths of different levels do not compare.
    """
    shares = LEVEL_SHARE ** np.arange(LEVELS)
    wanted = np.rint(count * shares / shares.sum()).astype(int)
    kept, places, missing = [], [], 0
    for level in reversed(range(LEVELS)):
        own = np.flatnonzero(levels == level)[: wanted[level] + missing]
        missing += wanted[level] - len(own)
        kept.append(own)
        places.append((np.arange(len(own)) + 0.5) / max(len(own), 1))
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(kept)[order][:count]


def cut_patches(grey: Pixels, corners: Corners) -> Pixels:
    """What is about corners of grey levels, uint8 [height, width], turned upright: uint8 [n, 24, 24]."""
    patches = np.empty((len(corners), PATCH_SIDE, PATCH_SIDE), np.uint8)
    sizes = _halved(grey)
    pitches = PATCH_DIAMETERS / PATCH_SIDE * corners.diameters
    chosen = np.floor(np.log2(np.maximum(pitches / FINER, 1))).clip(max=len(sizes) - 1).astype(int)
    for size in np.unique(chosen):
        rows = np.flatnonzero(chosen == size)
        scale = 2.0**-size
        own = corners.take(rows)
        centres = (own.points + 0.5) * scale - 0.5
        across, down = _grid(centres, pitches[rows] * scale, own.angles)
        cut = cv2.remap(
            sizes[size], across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        patches[rows] = cut.reshape(-1, PATCH_SIDE, PATCH_SIDE)
    return patches


def _halved(grey: Pixels) -> list[Pixels]:
    """The picture, half of its size, a quarter, and so on."""
    sizes = [grey]
    while min(sizes[-1].shape) >= SMALLEST_SIZE:
        height, width = sizes[-1].shape
        half = cv2.resize(
            sizes[-1], (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA
        )
        sizes.append(np.asarray(half, np.uint8))
    return sizes


def _grid(centres: Floats, pitches: Floats, angles: Floats) -> tuple[Floats, Floats]:
    """Where the pixels of patches are in a picture, x and y: float32 [n * 24, 24] each."""
    steps = np.arange(PATCH_SIDE, dtype=np.float32) - np.float32((PATCH_SIDE - 1) / 2)
    right, below = np.meshgrid(steps, steps)
    cos, sin = (
        (pitches * turn(angles)).astype(np.float32)[:, None, None] for turn in (np.cos, np.sin)
    )
    x, y = centres.astype(np.float32).T[:, :, None, None]
    across, down = x + cos * right - sin * below, y + sin * right + cos * below
    return across.reshape(-1, PATCH_SIDE), down.reshape(-1, PATCH_SIDE)
