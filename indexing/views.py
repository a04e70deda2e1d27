"""Rendered phone views of a clean picture: a random camera, clutter, light, blur, noise, JPEG.

They stand in for real photos where there are none: to train, to calibrate, to assess a reference.
Coordinates are in pixels with pixel centres at integers, so a picture of width w and height h
reaches from (-0.5, -0.5) to (w - 0.5, h - 0.5). Sizes are (width, height).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from indexing.surfaces import SURFACES, to_bytes

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Size = tuple[int, int]

UPRIGHT_DEGREES = 20.0
OVERHANG = 0.25
SKIN = np.array([224, 172, 140])
WORDS = ("SALE", "new", "50 %", "No. 17", "Hello", "2 for 1", "please do not touch", "ISBN 978")


@dataclass(frozen=True, slots=True)
class ViewConditions:
    """The ranges that views are drawn from; probabilities and shares are from 0 to 1.

    ``long_side`` of the photo is in pixels. ``area`` is the least and greatest share of the frame
    that the picture covers. ``tilt`` is the greatest angle in degrees between picture and sensor.
    ``turned`` is the probability of any rotation in the plane instead of one within 20 degrees,
    ``cut_off`` that of a picture partly outside the frame. ``occlusion`` is the greatest share of
    the picture that something hides, ``mounted`` the probability of a frame or case about it.
    ``lighting``, ``blur`` and ``noise`` scale the strength of each, 0 for none. ``jpeg_quality`` is
    the least and greatest quality.
    """

    long_side: int = 640
    area: tuple[float, float] = (0.05, 0.95)
    tilt: float = 60.0
    turned: float = 0.5
    cut_off: float = 0.2
    occlusion: float = 0.3
    mounted: float = 0.3
    lighting: float = 1.0
    blur: float = 1.0
    noise: float = 1.0
    jpeg_quality: tuple[int, int] = (25, 95)

    def eased(self, hardness: float) -> "ViewConditions":
        """Milder conditions: ``hardness`` 1 leaves all as it is, 0 is big, upright and clear."""
        least, greatest = self.area
        return replace(
            self,
            area=(least + (1 - hardness) * max(0.0, 0.5 * greatest - least), greatest),
            tilt=self.tilt * hardness,
            turned=self.turned * hardness,
            cut_off=self.cut_off * hardness,
            occlusion=self.occlusion * hardness,
            lighting=self.lighting * hardness,
            blur=self.blur * hardness,
            noise=self.noise * hardness,
        )


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A rendered photo (RGB uint8 [height, width, 3]) and where the picture is in it.

    ``quad`` is float32 [4, 2], the picture's outer corners top left, top right, bottom right,
    bottom left in photo pixels; corners may be outside the frame.
    """

    photo: Picture
    quad: Floats


def render_view(
    picture: Picture,
    background: Picture,
    conditions: ViewConditions | None,
    rng: np.random.Generator,
) -> View:
    """Photograph a picture lying on a background, both RGB uint8 [h, w, 3] of any size."""
    conditions = conditions or ViewConditions()
    photo = _backdrop(background, conditions, rng)
    frame = photo.shape[1], photo.shape[0]
    quad = _draw_quad((picture.shape[1], picture.shape[0]), frame, conditions, rng)
    if rng.random() < conditions.mounted:
        _mount(photo, quad, rng)
    photo = paste(photo, picture, quad)
    if rng.random() < 0.5:
        cover(photo, quad, float(rng.uniform(0, conditions.occlusion)), rng)
    return View(_degrade(photo, conditions, rng), quad)


def photo_without(
    background: Picture, conditions: ViewConditions | None, rng: np.random.Generator
) -> Picture:
    """Photograph a background alone, as harshly as ``render_view``: RGB uint8 [h, w, 3]."""
    conditions = conditions or ViewConditions()
    return _degrade(_backdrop(background, conditions, rng), conditions, rng)


def retouched(picture: Picture, rng: np.random.Generator) -> Picture:
    """A clean picture (RGB uint8 [h, w, 3]) as another file of it: cropped, toned, recompressed."""
    height, width = picture.shape[:2]
    left, right = (rng.uniform(0, 0.03, 2) * width).astype(int)
    top, bottom = (rng.uniform(0, 0.03, 2) * height).astype(int)
    cropped = picture[top : height - bottom, left : width - right]
    return _recompress(_tone(cropped, 0.3, rng), (60, 95), rng)


def clutter(pictures: Sequence[Picture], size: Size, rng: np.random.Generator) -> Picture:
    """A surface with the given pictures (RGB uint8) lying about: RGB uint8 of (width, height)."""
    paint = SURFACES[int(rng.integers(len(SURFACES)))]
    canvas = paint(size, rng)
    conditions = ViewConditions(area=(0.03, 0.4), tilt=30.0, turned=0.7, cut_off=1.0)
    for picture in pictures:
        quad = _draw_quad((picture.shape[1], picture.shape[0]), size, conditions, rng)
        canvas = paste(canvas, picture, quad)
    return canvas


def corners(size: Size) -> Floats:
    """The outer corners of a picture of (width, height) pixels: float32 [4, 2], as ``View.quad``."""
    width, height = size
    reach = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return reach - np.float32(0.5)


def outline(size: Size, roll: float, tilt: float, axis: float, distance: float) -> Doubles:
    """The corners [4, 2] of a picture of (width, height) as a pinhole camera sees them, unscaled.

    Angles are in radians: ``roll`` turns the picture in its plane, ``tilt`` leans it about a line
    through its middle in the direction ``axis``. ``distance`` is in halves of its diagonal.
    """
    flat = (corners(size) + 0.5 - np.array(size) / 2) / (np.hypot(*size) / 2)
    seen = flat @ _rotation(roll)
    along, across = (seen @ _rotation(axis)).T
    depth = 1 + across * np.sin(tilt) / distance
    flattened = np.column_stack([along, across * np.cos(tilt)]) / depth[:, None]
    return np.asarray(flattened @ _rotation(axis).T)


# The camera


def _draw_quad(
    size: Size, frame: Size, conditions: ViewConditions, rng: np.random.Generator
) -> Floats:
    roll = _draw_roll(conditions, rng)
    tilt = np.radians(rng.triangular(0, 0.2 * conditions.tilt, conditions.tilt + 1e-6))
    seen = outline(size, roll, tilt, rng.uniform(0, 2 * np.pi), rng.uniform(2.2, 6.0))
    return _placed(seen, frame, conditions, rng).astype(np.float32)


def _draw_roll(conditions: ViewConditions, rng: np.random.Generator) -> float:
    limit = 180.0 if rng.random() < conditions.turned else UPRIGHT_DEGREES
    return float(np.radians(rng.uniform(-limit, limit)))


def _rotation(angle: float) -> Doubles:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _placed(
    seen: Doubles, frame: Size, conditions: ViewConditions, rng: np.random.Generator
) -> Doubles:
    """The outline scaled to an area (its side uniform) and moved into, or partly out of, frame."""
    overhang = OVERHANG if rng.random() < conditions.cut_off else 0.0
    side = rng.uniform(*np.sqrt(conditions.area)) * np.sqrt(frame[0] * frame[1])
    extent = np.ptp(seen, axis=0)
    fitting = (np.array(frame) * (1 + overhang) / extent).min()
    quad = seen * min(side / np.sqrt(_area(seen)), fitting)
    room = overhang * np.ptp(quad, axis=0)
    least, greatest = -room - quad.min(axis=0), np.array(frame) + room - quad.max(axis=0)
    return np.asarray(quad + least + (greatest - least) * rng.random((2, 2)).mean(axis=0) - 0.5)


def _area(quad: npt.NDArray[np.floating]) -> float:
    return float(cv2.contourArea(quad.astype(np.float32)))


def paste(canvas: Picture, picture: Picture, quad: Floats) -> Picture:
    """A copy of a canvas with a picture, both RGB uint8 [h, w, 3], at a quad like ``View.quad``."""
    picture = _shrunk(picture, quad)
    size = picture.shape[1], picture.shape[0]
    transform = cv2.getPerspectiveTransform(corners(size), quad)
    target = canvas.shape[1], canvas.shape[0]
    layer = cv2.warpPerspective(picture, transform, target, borderMode=cv2.BORDER_REPLICATE)
    opaque = np.ones(picture.shape[:2], np.float32)
    alpha = cv2.warpPerspective(opaque, transform, target)
    return np.asarray(cv2.blendLinear(layer, canvas, alpha, 1 - alpha), np.uint8)


def _shrunk(picture: Picture, quad: Floats) -> Picture:
    """The picture scaled down to about the quad's size, so that warping it does not alias."""
    edges = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    height, width = picture.shape[:2]
    scale = max(edges[[0, 2]].max() / width, edges[[1, 3]].max() / height)
    if scale > 0.8:
        return picture
    size = max(2, round(width * scale)), max(2, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


# What lies around, beneath and above


def _backdrop(background: Picture, conditions: ViewConditions, rng: np.random.Generator) -> Picture:
    long, short = conditions.long_side, conditions.long_side * 3 // 4
    size = (short, long) if rng.random() < 0.6 else (long, short)
    return np.array(cv2.resize(background, size, interpolation=cv2.INTER_AREA), np.uint8)


def _mount(photo: Picture, quad: Floats, rng: np.random.Generator) -> None:
    """Draw a frame or the margin of a case around the quad, in place."""
    margin = rng.uniform(0.01, 0.12, 2).astype(np.float32)
    unit = corners((1, 1)) + np.float32(0.5)
    outer = (unit - 0.5) * (1 + 2 * margin) + np.float32(0.5)
    transform = cv2.getPerspectiveTransform(unit, quad)
    edge = cv2.perspectiveTransform(outer[None], transform)[0]
    # Frames and cases are dark more often than not.
    red, green, blue = (np.array(_colour(rng)) * rng.random()).tolist()
    cv2.fillConvexPoly(photo, edge.round().astype(np.int32), (red, green, blue), cv2.LINE_AA)


def cover(photo: Picture, quad: Floats, share: float, rng: np.random.Generator) -> None:
    """Hide about a share of a quad, float32 [4, 2], under a box, a text or fingers, in place."""
    spot = rng.dirichlet(np.ones(4)) @ quad
    side = np.sqrt(share * _area(quad))
    if rng.random() < 0.4:
        _draw_fingers(photo, spot, side, rng)
    else:
        _draw_label(photo, spot, side, rng)


def _draw_label(
    photo: Picture, spot: npt.NDArray[np.floating], side: float, rng: np.random.Generator
) -> None:
    stretch = np.exp(rng.uniform(-0.3, 1.0))
    half = np.array([side * stretch, side / stretch]) / 2
    (left, top), (right, bottom) = (spot - half).astype(int), (spot + half).astype(int)
    cv2.rectangle(photo, (int(left), int(top)), (int(right), int(bottom)), _colour(rng), -1)
    if rng.random() < 0.6:
        word, scale = WORDS[int(rng.integers(len(WORDS)))], float(half[1]) / 25 + 0.1
        place = (int(left) + 2, int(spot[1] + half[1] / 2))
        cv2.putText(photo, word, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _colour(rng), 1)


def _draw_fingers(
    photo: Picture, spot: npt.NDArray[np.floating], side: float, rng: np.random.Generator
) -> None:
    angle, count = rng.uniform(0, 2 * np.pi), int(rng.integers(1, 5))
    ahead, aside = _rotation(angle)
    width = max(2, int(side / np.sqrt(2 * count)))
    tone = (SKIN * rng.uniform(0.4, 1.1)).clip(0, 255)
    for finger in range(count):
        tip = spot + aside * finger * width * 1.1 + ahead * rng.uniform(-0.4, 0.4) * width
        root = tip + ahead * 2 * max(photo.shape)
        shade = (tone * rng.uniform(0.9, 1.0)).tolist()
        ends = [(int(x), int(y)) for x, y in (tip, root)]
        cv2.line(photo, ends[0], ends[1], shade, width, cv2.LINE_AA)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


# Light, lens, sensor and file


def _degrade(photo: Picture, conditions: ViewConditions, rng: np.random.Generator) -> Picture:
    photo = _tone(photo, conditions.lighting, rng)
    light, glare = _light(conditions.lighting, rng)
    size = photo.shape[1], photo.shape[0]
    lit = photo * cv2.resize(light, size)[:, :, None] + cv2.resize(glare, size)[:, :, None]
    blurred = _coarsened(_blurred(lit, conditions.blur, rng), conditions.blur, rng)
    grain = rng.standard_normal(photo.shape, np.float32)
    strength = np.float32(conditions.noise * rng.exponential(4.0))
    return _recompress(to_bytes(blurred + strength * grain), conditions.jpeg_quality, rng)


def _tone(photo: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Change exposure, contrast, gamma and colour cast by one table per channel."""
    levels = np.linspace(0, 1, 256)[:, None] ** np.exp(strength * rng.uniform(-0.35, 0.35))
    gain = np.exp(strength * (rng.uniform(-0.5, 0.35) + rng.uniform(-0.15, 0.15, 3)))
    haze = strength * max(0.0, rng.uniform(-0.2, 0.2))
    table = to_bytes(255 * (haze + (1 - haze) * levels * gain))
    return np.asarray(cv2.LUT(photo, table[None]), np.uint8)


def _light(strength: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A coarse map of shadow (factor) and one of glare (added levels): float32 [48, 48] each."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    angle, sharpness = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(0, 3.5))
    ramp = (x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.7, 0.7)) * sharpness
    light = 1 - strength * rng.uniform(0, 0.6) / (1 + np.exp(-ramp))
    glare = strength * _highlights(rng)
    return light.astype(np.float32), glare.astype(np.float32)


def _highlights(rng: np.random.Generator) -> Doubles:
    """Levels added by up to three elliptic reflections, mostly none."""
    glare = np.zeros((48, 48))
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.3 else 0):
        centre, angle = rng.uniform(-1, 1, 2), rng.uniform(0, np.pi)
        glare += highlight(centre, angle, rng.uniform(0.05, 0.35, 2), rng.uniform(40, 220))
    return glare


def highlight(centre: Doubles, angle: float, radii: Doubles, level: float) -> Doubles:
    """The levels that an elliptic reflection adds, coarsely: float64 [48, 48] over the frame.

    The frame's sides reach from -1 to 1 for ``centre`` (x, y) and both ``radii``, where 1/e of
    ``level`` is left. The ellipse is turned by ``angle`` in radians.
    """
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    offset = np.stack([x, y], axis=-1) - centre
    scaled = offset @ _rotation(angle) / radii
    return np.asarray(level * np.exp(-(scaled**2).sum(axis=-1)))


def _blurred(photo: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Defocus of up to 0.7 % of the long side, and motion of up to 2.5 % in some."""
    long_side = max(photo.shape)
    sigma = strength * 0.007 * long_side * rng.beta(1, 3)
    if sigma > 0.3:
        photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), sigma), np.float32)
    length = strength * 0.025 * long_side * rng.random() if rng.random() < 0.25 else 0.0
    return smeared(photo, int(length), rng.uniform(0, np.pi)) if length >= 2 else photo


def smeared(photo: Floats, length: int, angle: float) -> Floats:
    """A photo, float32 [h, w, 3], moved by ``length`` pixels, at least 1, at ``angle`` (radians)."""
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
    x, y = round(length * np.cos(angle) / 2), round(length * np.sin(angle) / 2)
    cv2.line(kernel, (length - x, length - y), (length + x, length + y), 1.0)
    return np.asarray(cv2.filter2D(photo, -1, kernel / kernel.sum()), np.float32)


def _coarsened(photo: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Scaled down by up to 2.5 and up again, in some."""
    factor = 1 + strength * rng.uniform(0, 1.5) if rng.random() < 0.3 else 1.0
    if factor < 1.05:
        return photo
    size = photo.shape[1], photo.shape[0]
    small = cv2.resize(photo, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, size), np.float32)


def _recompress(photo: Picture, quality: tuple[int, int], rng: np.random.Generator) -> Picture:
    level = int(rng.integers(quality[0], quality[1] + 1))
    _, encoded = cv2.imencode(".jpg", photo[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, level])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)
