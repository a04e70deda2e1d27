"""Pictures to register, and photos to scan."""

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from imagelink import Quad
from PIL import Image, ImageDraw

from benchmarks.artwork import draw_collection
from indexing.views import View, ViewConditions, render_view

Picture = npt.NDArray[np.uint8]

SEED = 7
CLEAR = ViewConditions(
    long_side=800,
    area=(0.35, 0.6),
    tilt=25.0,
    turned=0.0,
    cut_off=0.0,
    occlusion=0.0,
    lighting=0.3,
    blur=0.2,
    noise=0.3,
    jpeg_quality=(85, 95),
)


@cache
def artworks() -> tuple[Picture, ...]:
    """Nine posters that differ."""
    return tuple(work.picture for work in draw_collection("poster", 9, SEED))


@cache
def strangers() -> tuple[Picture, ...]:
    """Pictures that no test registers."""
    return tuple(work.picture for work in draw_collection("painting", 3, SEED))


def photo_of(picture: Picture, seed: int = 0) -> View:
    """A clear photo of a picture on a table."""
    rng = np.random.default_rng(seed)
    table = np.full((600, 800, 3), (150, 140, 120), np.uint8)
    return render_view(picture, table, CLEAR, rng)


def panning(picture: Picture, frames: int, seed: int = 0) -> list[bytes]:
    """The frames, as files, of a camera that moves over an empty table onto a picture."""
    photo = photo_of(picture, seed).photo
    height, width = photo.shape[:2]
    table = np.full((height, width, 3), (150, 140, 120), np.uint8)
    canvas = np.hstack([table, photo])
    lefts = np.linspace(0, width, frames).astype(int)
    return [encoded(np.ascontiguousarray(canvas[:, left : left + width])) for left in lefts]


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """A photo that shows several pictures."""
    photo = Image.new("RGB", (30 + 450 * len(pictures), 640), (150, 140, 120))
    for number, picture in enumerate(pictures):
        photo.paste(Image.fromarray(picture).resize((420, 580)), (30 + 450 * number, 30))
    return np.asarray(photo)


def patchwork(seed: int, side: int = 256) -> Picture:
    """A small picture like no other: shapes and letters at random."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), tuple(rng.integers(256, size=3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = rng.uniform(-20, side, 2)
        width, height = rng.uniform(8, 70, 2)
        colour = tuple(rng.integers(256, size=3).tolist())
        box = (x, y, x + width, y + height)
        match rng.integers(4):
            case 0:
                draw.rectangle(box, colour)
            case 1:
                draw.ellipse(box, colour)
            case 2:
                draw.polygon([(x, y), (x + width, y), (x, y + height)], colour)
            case _:
                letter = chr(int(rng.integers(65, 91)))
                draw.text((x, y), letter, colour, font_size=float(height))
    return np.asarray(image)


def encoded(picture: Picture | Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """A picture as a file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 92} if kind == "JPEG" else {}) | options)
    return file.getvalue()


def corners_of(quad: Quad) -> npt.NDArray[np.float64]:
    """The corners clockwise from the top left one: [4, 2]."""
    points = (quad.top_left, quad.top_right, quad.bottom_right, quad.bottom_left)
    return np.array([(point.x, point.y) for point in points])


def corner_error(found: Quad, true: npt.ArrayLike) -> float:
    """How far the corners are off on average, over the mean side."""
    true = np.asarray(true, float)
    side = np.linalg.norm(true - np.roll(true, 1, 0), axis=1).mean()
    return float(np.linalg.norm(corners_of(found) - true, axis=1).mean() / side)
