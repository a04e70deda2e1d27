"""Does the photo look like the reference where the reference is said to stand?

Keypoints that agree on a homography may all lie on a logo that many pictures share. Rectified by
that homography, the photo must also look like the rest of the reference.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from indexing.image import Pixels, scaled

Floats = npt.NDArray[np.float32]

THUMBNAIL_SIDE = 32
PHOTO_SIDE = 192
WINDOW = 8
STRIDE = 4
BEST_SHARE = 0.5
# Levels (0 to 255) of contrast below which noise decides what a window looks like.
NOISE_LEVELS = 4.0


def thumbnail(picture: Pixels) -> Pixels:
    """A reference, RGB uint8 [height, width, 3], as uint8 [32, 32] of its grey levels."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    side = THUMBNAIL_SIDE
    return np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def photo_levels(photo: Pixels) -> Pixels:
    """The grey levels of a photo, RGB uint8 [height, width, 3], at most 192 on the longer side."""
    return scaled(np.asarray(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), np.uint8), PHOTO_SIDE)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike two rectified pictures are: each about 0 by chance, at most 1.

    The mean correlation of all small windows, and that of their ``better_half``: a third of the
    thing may be covered, and glare may lie on it, while a series of things may share a half.
    """

    everywhere: float
    better_half: float


NO_AGREEMENT = Agreement(0.0, 0.0)


def agreement(levels: Pixels, quad: Floats, reference: Pixels) -> Agreement:
    """How alike the photo, inside the quad, and the reference are.

    ``levels`` is uint8 [height, width], ``quad`` float32 [4, 2] in shares of its sides,
    ``reference`` a thumbnail. Windows are compared by their normalised cross-correlation (Lewis,
    1995), damped where they are nearly uniform. 0 where less than a half of the reference is
    inside the photo.
    """
    height, width = levels.shape
    side = THUMBNAIL_SIDE
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32) - np.float32(0.5)
    seen = quad * np.array([width, height], np.float32) - np.float32(0.5)
    transform = cv2.getPerspectiveTransform(corners, seen)
    backwards = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    rectified = cv2.warpPerspective(
        _smoothed(levels, seen), transform, (side, side), flags=backwards
    )
    inside = cv2.warpPerspective(np.ones_like(levels), transform, (side, side), flags=backwards)
    correlations = _correlations(rectified, reference)[_windows(inside).min(axis=1) > 0]
    best = len(_windows(reference)) * BEST_SHARE
    if len(correlations) < best:
        return NO_AGREEMENT
    better_half = np.sort(correlations)[-int(best) :]
    return Agreement(float(correlations.mean()), float(better_half.mean()))


def _smoothed(levels: Pixels, seen: Floats) -> cv2.typing.MatLike:
    # Each level of the thumbnail is the mean of its patch; so must be each sample of the photo.
    pixels_per_sample = np.sqrt(cv2.contourArea(seen)) / THUMBNAIL_SIDE
    size = int(pixels_per_sample + 0.5)
    return cv2.blur(levels, (size, size)) if size > 1 else levels


def _correlations(first: cv2.typing.MatLike, second: cv2.typing.MatLike) -> Floats:
    one, other = (_centred(np.asarray(levels)) for levels in (first, second))
    spreads = np.sqrt((one**2).mean(axis=1) * (other**2).mean(axis=1))
    return np.asarray((one * other).mean(axis=1) / (spreads + NOISE_LEVELS**2), np.float32)


def _centred(levels: Pixels) -> Floats:
    windows = _windows(levels).astype(np.float32)
    return np.asarray(windows - windows.mean(axis=1, keepdims=True), np.float32)


def _windows(levels: npt.NDArray[np.uint8] | cv2.typing.MatLike) -> npt.NDArray[np.uint8]:
    view = np.lib.stride_tricks.sliding_window_view(np.asarray(levels), (WINDOW, WINDOW))
    windows = view[::STRIDE, ::STRIDE].reshape(-1, WINDOW * WINDOW)
    return np.asarray(windows, np.uint8)
