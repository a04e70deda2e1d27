"""The patches about a picture's corners that are described."""

import cv2
import numpy as np
import numpy.typing as npt

from indexing.corners import Corners
from indexing.image import Pixels

Floats = npt.NDArray[np.float32]

PATCH_SIDE = 24
# What a patch shows, in diameters of its corner.
PATCH_DIAMETERS = 2.4
# A patch is taken from the coarsest size of the picture that is finer than this share of its own.
FINER = 2**-0.25
SMALLEST_SIZE = 24
# How far right of and below a patch's middle its pixels are, and ones: float32 [3, 576].
_OFFSETS = np.arange(PATCH_SIDE, dtype=np.float32) - np.float32((PATCH_SIDE - 1) / 2)
_STEPS = np.stack(
    [*map(np.ravel, np.meshgrid(_OFFSETS, _OFFSETS)), np.ones(PATCH_SIDE**2, np.float32)]
)


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
    cos, sin = pitches * np.cos(angles), pitches * np.sin(angles)
    x, y = centres.T
    across, down = (
        np.stack(rows, axis=1).astype(np.float32) @ _STEPS
        for rows in ((cos, -sin, x), (sin, cos, y))
    )
    return across.reshape(-1, PATCH_SIDE), down.reshape(-1, PATCH_SIDE)
