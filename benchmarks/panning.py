"""Rendered camera sessions: a phone is moved over a table until the picture on it is in view."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from indexing.image import Pixels
from indexing.surfaces import to_bytes
from indexing.views import Doubles, Floats, clutter, corners, outline, paste, smeared

TABLE = (2000, 2000)
FRAME = (480, 640)
# Share of the frames in which the camera comes near, and from how far in pixels.
APPROACH = 0.4
FAR = (350.0, 700.0)
TREMOR = 12.0


@dataclass(frozen=True, slots=True)
class Camera:
    """What is the same in all frames of a session.

    ``share`` is the picture's share of the frame once it is in the middle. ``tilt`` is the angle between
    picture and sensor in degrees, ``focus`` the standard deviation of the blur in pixels, ``noise``
    that of each channel in levels, ``light`` the share of the light that is left.
    """

    share: float
    tilt: float
    focus: float
    noise: float
    light: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Camera":
        """One at random: from easy to hopeless."""
        return cls(
            share=float(np.exp(rng.uniform(np.log(0.015), np.log(0.25)))),
            tilt=float(rng.triangular(0, 15, 65)),
            focus=float(rng.uniform(0.5, 4.0)),
            noise=float(rng.uniform(3, 35)),
            light=float(rng.uniform(0.3, 1.0)),
        )


def film(picture: Pixels, frames: int, rng: np.random.Generator) -> Iterator[Pixels]:
    """The frames of a session that pans onto a picture, all RGB uint8 [h, w, 3].

    Camera, table and way are drawn at random. The hand trembles, and the sharpness comes and goes.
    """
    camera = Camera.drawn(rng)
    table = paste(clutter([], TABLE, rng), picture, _lying(picture, camera, rng))
    ways = _way(frames, rng)
    roll, lean = rng.uniform(-0.5, 0.5), rng.uniform(0, 2 * np.pi)
    before = ways[0]
    for way in ways:
        seen = _seen(table, way, camera, roll + rng.normal(0, 0.02), lean)
        yield _taken(seen, way - before, camera, rng)
        before = way


def _lying(picture: Pixels, camera: Camera, rng: np.random.Generator) -> Floats:
    """Where the picture lies on the table, in its middle: as ``View.quad``."""
    size = picture.shape[1], picture.shape[0]
    flat = outline(size, rng.uniform(0, 2 * np.pi), 0.0, 0.0, 4.0)
    area = camera.share * FRAME[0] * FRAME[1]
    scale = np.sqrt(area / cv2.contourArea(flat.astype(np.float32)))
    return np.asarray(flat * scale + np.array(TABLE) / 2, np.float32)


def _way(frames: int, rng: np.random.Generator) -> Doubles:
    """Where the camera looks at in each frame: [frames, 2] from the middle of the picture."""
    coming = np.linspace(1, 0, max(2, round(APPROACH * frames))) ** 2
    distance = np.concatenate([coming, np.zeros(frames)])[:frames] * rng.uniform(*FAR)
    direction, aside = rng.uniform(0, 2 * np.pi), rng.normal(0, 30, 2)
    straight = distance[:, None] * [np.cos(direction), np.sin(direction)]
    return np.asarray(straight + aside + rng.normal(0, TREMOR, (frames, 2)))


def _seen(table: Pixels, way: Doubles, camera: Camera, roll: float, lean: float) -> Pixels:
    window = outline(FRAME, roll, np.radians(camera.tilt), lean, 4.0) * np.hypot(*FRAME) / 2
    looked_at = (window + np.array(TABLE) / 2 + way).astype(np.float32)
    transform = cv2.getPerspectiveTransform(looked_at, corners(FRAME))
    seen = cv2.warpPerspective(table, transform, FRAME, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen, np.uint8)


def _taken(seen: Pixels, moved: Doubles, camera: Camera, rng: np.random.Generator) -> Pixels:
    """A frame as the sensor has it: dim, out of focus, smeared by the movement, grainy, a JPEG."""
    sigma = camera.focus * rng.uniform(0.5, 1.3)
    photo = np.asarray(cv2.GaussianBlur(np.float32(camera.light) * seen, (0, 0), sigma), np.float32)
    length = int(np.linalg.norm(moved) * rng.uniform(0.05, 0.4))
    if length >= 2:
        photo = smeared(photo, length, float(np.arctan2(moved[1], moved[0])))
    grain = np.float32(camera.noise) * rng.standard_normal(photo.shape, np.float32)
    _, file = cv2.imencode(".jpg", to_bytes(photo + grain), [cv2.IMWRITE_JPEG_QUALITY, 70])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)
