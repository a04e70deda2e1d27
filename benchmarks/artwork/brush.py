"""Paints over a sketch with thousands of strokes that follow a field of directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from benchmarks.artwork.canvas import Canvas, Field, Picture, smooth_noise


@dataclass(frozen=True)
class Brush:
    """One pass over the sheet: how wide and long its strokes are, how many, how true in colour."""

    width: int
    steps: int
    strokes: int
    jitter: float


BROAD = Brush(width=13, steps=7, strokes=1800, jitter=16)
MIDDLE = Brush(width=6, steps=6, strokes=4500, jitter=15)
FINE = Brush(width=3, steps=3, strokes=15000, jitter=13)
OILS = (BROAD, MIDDLE, FINE)
GOUACHE = (MIDDLE, FINE)


def painted(
    canvas: Canvas,
    rng: np.random.Generator,
    directions: Field | None = None,
    brushes: tuple[Brush, ...] = OILS,
) -> Picture:
    """The sketch as a painting: strokes along the directions (radians), thick paint, canvas weave."""
    sketch = np.asarray(canvas.finished())
    shape = (sketch.shape[0], sketch.shape[1])
    if directions is None:
        directions = wandering(canvas, rng)
    sheet = Image.fromarray(sketch)
    for brush in brushes:
        _stroke_over(sheet, sketch, directions, brush, rng)
    return _relief(np.asarray(sheet, np.float32), _weave(shape, rng))


def wandering(
    canvas: Canvas, rng: np.random.Generator, angle: float = 0.0, turn: float = 2.0, cells: int = 4
) -> Field:
    """Directions about one angle that wander smoothly by up to `turn` radians."""
    width, height = canvas.size
    return angle + turn * smooth_noise(rng, (height, width), cells, octaves=2)


def swirling(canvas: Canvas, centres: list[tuple[float, float, float]]) -> Field:
    """Directions that run level, and round each centre (x, y, reach) where it is near."""
    width, height = canvas.size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    across, down = np.full_like(x, 0.6), np.zeros_like(x)
    for centre_x, centre_y, reach in centres:
        away_x, away_y = x - centre_x, y - centre_y
        pull = np.exp(-(away_x**2 + away_y**2) / reach**2) * 4 / reach
        across -= away_y * pull
        down += away_x * pull
    directions: Field = np.arctan2(down, across)
    return directions


def _stroke_over(
    sheet: Image.Image, sketch: Picture, directions: Field, brush: Brush, rng: np.random.Generator
) -> None:
    paths = _paths(directions, brush, rng)
    starts = paths[:, paths.shape[1] // 2].astype(int)
    inks = sketch[starts[:, 1], starts[:, 0]] + rng.normal(0, brush.jitter, (len(starts), 1))
    inks = np.clip(inks + rng.normal(0, brush.jitter / 2, inks.shape), 0, 255).astype(int)
    offset = np.array([0, brush.width / 4])
    pen = ImageDraw.Draw(sheet)
    for path, ink in zip(paths, inks, strict=True):
        pen.line(path.ravel().tolist(), fill=tuple(ink.tolist()), width=brush.width)
        bristle = tuple(np.minimum(ink + 16, 255).tolist())
        pen.line((path - offset).ravel().tolist(), fill=bristle, width=max(1, brush.width // 4))


def _paths(directions: Field, brush: Brush, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """The points of every stroke, [stroke, step, xy], in pixels inside the sheet."""
    height, width = directions.shape
    limit = np.array([width - 1, height - 1], float)
    spots = [rng.uniform(0, 1, (brush.strokes, 2)) * limit]
    for _ in range(brush.steps):
        column, row = spots[-1].astype(int).T
        angle = directions[row, column]
        step = np.stack([np.cos(angle), np.sin(angle)], axis=1) * brush.width * 0.8
        spots.append(np.clip(spots[-1] + step, 0, limit))
    return np.stack(spots, axis=1)


def _weave(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    threads = np.sin(x * 2.1) * np.sin(y * 2.1) * 3
    return np.asarray(threads + rng.normal(0, 2.5, shape), np.float32)


def _relief(pixels: Field, weave: Field) -> Picture:
    """Lights the paint from the top left, as if bright strokes stood higher."""
    height = pixels.mean(axis=2)
    slope = np.zeros_like(height)
    slope[1:, 1:] = (height[1:, 1:] - height[:-1, :-1]) * 0.22
    lit = pixels + (np.clip(slope, -22, 22) + weave)[..., None]
    picture: Picture = np.clip(lit, 0, 255).astype(np.uint8)
    return picture
