"""Rendered photos under exact conditions, where ``indexing.views`` draws conditions at random."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.metrics import Quad
from indexing.image import Pixels
from indexing.surfaces import to_bytes
from indexing.views import (
    Doubles,
    Floats,
    View,
    clutter,
    highlight,
    outline,
    paste,
    smeared,
)

# From where the picture is seen, in halves of its diagonal.
DISTANCE = 4.0
# Where 1/e of a reflection's light is left, in halves of the frame's sides.
GLARE_RADIUS = 0.35
# The surface is drawn at this size first, so that it is the same in photos of all sizes.
SURFACE_SIDE = 1600


@dataclass(frozen=True, slots=True)
class ExactConditions:
    """The conditions of one photo; those given here are mild.

    ``share`` is the picture's area over the frame's, as it would be without any tilt, so that tilting
    does not bring the camera nearer. ``tilt`` is the angle between picture and sensor, ``turned``
    that by which the picture is turned in its plane, in degrees. ``motion`` is
    the way that it moves, ``focus`` the standard deviation of the blur, both in % of the photo's long
    side, which is ``long_side`` in pixels. ``noise`` is the standard deviation of each channel in
    levels. ``covered`` is the share of the picture that a box hides; ``glare`` the levels that a
    reflection adds at its brightest. A picture may be cut off where it is too big for the frame.
    """

    share: float = 0.3
    tilt: float = 15.0
    turned: float = 0.0
    motion: float = 0.0
    focus: float = 0.1
    noise: float = 3.0
    jpeg_quality: int = 85
    long_side: int = 960
    covered: float = 0.0
    glare: float = 0.0


def render_exactly(picture: Pixels, conditions: ExactConditions, rng: np.random.Generator) -> View:
    """Photographs a picture, RGB uint8 [h, w, 3], under exact conditions; JPEG comes after.

    What the conditions leave open (the surface, the side it is seen from, what hides it, where it
    shines) is drawn in one order: the same seed gives the same under other conditions.
    """
    axis, direction = rng.uniform(0, 2 * np.pi), rng.uniform(0, np.pi)
    spot, colour = rng.random(2), rng.integers(0, 256, 3, np.uint8)
    glare = _glare(conditions.glare, rng.uniform(-0.2, 0.2, 2))
    upright = picture.shape[0] >= picture.shape[1]
    frame = _frame(conditions.long_side, upright)
    surface = clutter([], _frame(SURFACE_SIDE, upright), rng)
    table = np.asarray(cv2.resize(surface, frame, interpolation=cv2.INTER_AREA), np.uint8)
    quad = _quad((picture.shape[1], picture.shape[0]), frame, axis, conditions)
    hidden = _with_box(picture, conditions.covered, spot, colour)
    lit = paste(table, hidden, quad) + cv2.resize(glare, frame)[:, :, None]
    blurred = _blurred(lit, direction, conditions)
    grain = rng.standard_normal(lit.shape, np.float32)
    return View(to_bytes(blurred + np.float32(conditions.noise) * grain), quad)


def as_jpeg(photo: Pixels, quality: int) -> bytes:
    """A photo, RGB uint8 [h, w, 3], as a JPEG file of a quality from 1 to 100."""
    _, encoded = cv2.imencode(".jpg", photo[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _frame(long_side: int, upright: bool) -> tuple[int, int]:
    short = long_side * 3 // 4
    return (short, long_side) if upright else (long_side, short)


def _quad(
    size: tuple[int, int], frame: tuple[int, int], axis: float, conditions: ExactConditions
) -> Quad:
    """The corners of a picture of ``size`` in the middle of a photo, as ``View.quad``."""
    turned, tilt = math.radians(conditions.turned), math.radians(conditions.tilt)
    straight, seen = (outline(size, turned, lean, axis, DISTANCE) for lean in (0.0, tilt))
    area = conditions.share * frame[0] * frame[1]
    quad = seen * math.sqrt(area / cv2.contourArea(straight.astype(np.float32)))
    middle = (quad.min(axis=0) + quad.max(axis=0)) / 2
    return np.asarray(quad - middle + np.array(frame) / 2 - 0.5, np.float32)


def _with_box(picture: Pixels, share: float, spot: Doubles, colour: Pixels) -> Pixels:
    """A copy of a picture with a box of its own form on it, at a ``spot`` from (0, 0) to (1, 1)."""
    size = np.array(picture.shape[1::-1])
    box = np.rint(size * math.sqrt(share)).astype(int)
    left, top = np.rint((size - box) * spot).astype(int)
    hidden = picture.copy()
    hidden[top : top + box[1], left : left + box[0]] = colour
    return hidden


def _glare(level: float, centre: Doubles) -> Floats:
    return highlight(centre, 0.0, np.full(2, GLARE_RADIUS), level).astype(np.float32)


def _blurred(photo: Floats, direction: float, conditions: ExactConditions) -> Floats:
    sigma = conditions.focus / 100 * conditions.long_side
    if sigma > 0:
        photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), sigma), np.float32)
    way = round(conditions.motion / 100 * conditions.long_side)
    return smeared(photo, way, direction) if way else photo
