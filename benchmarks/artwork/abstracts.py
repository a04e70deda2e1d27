"""Paintings that show nothing but colour, line and form."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from benchmarks.artwork import motifs
from benchmarks.artwork.brief import Brief, Recipe
from benchmarks.artwork.brush import FINE, GOUACHE, painted, wandering
from benchmarks.artwork.canvas import Canvas, Picture, smooth_noise
from benchmarks.artwork.palette import mix


def primary_grid(brief: Brief) -> Picture:
    """Black bars that divide the sheet, some fields filled, all of it crazed with age."""
    canvas, inks = brief.sheet(680, 680), brief.palette
    _divide(brief, canvas, (0.0, 0.0, 1.0, 1.0), 4)
    for _ in range(26):
        x, y = brief.between(0, 1), brief.between(0, 1)
        offsets = np.cumsum(brief.rng.normal(0, 0.012, (14, 2)), axis=0)
        crack = offsets + np.array([x, y])
        canvas.line(crack.tolist(), 0.002, mix(inks.dark, inks.light, 0.65))
    return painted(canvas, brief.rng, wandering(canvas, brief.rng, 0.0, 0.3), (FINE,))


def _divide(
    brief: Brief, canvas: Canvas, field: tuple[float, float, float, float], depth: int
) -> None:
    left, top, right, bottom = field
    inks, wide = brief.palette, right - left > bottom - top
    if depth == 0 or min(right - left, bottom - top) < 0.12:
        filled = brief.rng.random() < 0.5
        ink = inks.accents[brief.whole(0, 3)] if filled else inks.light
        canvas.box(*field, ink)
        canvas.line(
            [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)],
            0.02,
            inks.dark,
        )
        return
    cut = brief.between(0.28, 0.72)
    if wide:
        middle = left + (right - left) * cut
        parts = [(left, top, middle, bottom), (middle, top, right, bottom)]
    else:
        middle = top + (bottom - top) * cut
        parts = [(left, top, right, middle), (left, middle, right, bottom)]
    for part in parts:
        _divide(brief, canvas, part, depth - 1)


def circles_in_squares(brief: Brief) -> Picture:
    """Squares that each hold rings of other colours, loosely drawn."""
    canvas, inks = brief.sheet(800, 600), brief.palette
    columns, rows = 4, 3
    side = 1 / columns
    for cell in range(columns * rows):
        left, top = (cell % columns) * side, (cell // columns) * side
        canvas.box(left, top, left + side, top + side, _any_ink(brief))
        x = left + side / 2 + brief.between(-0.015, 0.015)
        y = top + side / 2 + brief.between(-0.015, 0.015)
        for radius in np.arange(0.118, 0.012, -brief.between(0.018, 0.03)):
            ring = motifs.regular(x, y, float(radius), 40)
            wobble = brief.rng.normal(0, 0.0025, (40, 2))
            canvas.polygon((np.array(ring) + wobble).tolist(), _any_ink(brief))
    canvas.line([(0, 0), (0, 0.75), (1, 0.75), (1, 0), (0, 0)], 0.012, inks.dark)
    return painted(canvas, brief.rng, wandering(canvas, brief.rng, 0.5, 2.5, 8), GOUACHE)


def _any_ink(brief: Brief) -> tuple[int, int, int]:
    inks = brief.palette
    towards = inks.light if brief.heads() else inks.dark
    return mix(inks.accents[brief.whole(0, 3)], towards, brief.between(0, 0.4))


def drips(brief: Brief) -> Picture:
    """Flung paint: skeins of thrown lines and splashes over bare ground."""
    canvas, inks = brief.sheet(840, 560), brief.palette
    canvas.cover(
        canvas.gradient(mix(inks.light, inks.mid, 0.25), mix(inks.light, inks.bright, 0.3))
    )
    for throw in range(170):
        ink = (inks.dark, inks.dark, inks.warm, inks.cool, inks.light, inks.bright)[throw % 6]
        turns = np.cumsum(np.cumsum(brief.rng.normal(0, 0.16, 60))) * 0.4
        steps = brief.between(0.006, 0.02) * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        start_at = np.array([brief.between(0, 1), brief.between(0, 0.67)])
        path = np.cumsum(steps, axis=0) + start_at
        for start in range(0, 56, 4):
            canvas.line(path[start : start + 6].tolist(), brief.between(0.002, 0.009), ink)
        for _ in range(10):
            x, y = path[brief.whole(0, 59)] + brief.rng.normal(0, 0.02, 2)
            canvas.disc(float(x), float(y), brief.between(0.001, 0.007), ink)
    return painted(canvas, brief.rng, None, ())


def colour_terraces(brief: Brief) -> Picture:
    """Bands of a cloudy field, each step of its height in another colour, like a chart of land."""
    canvas, inks = brief.sheet(720, 720), brief.palette
    height = smooth_noise(brief.rng, (canvas.unit, canvas.unit), brief.whole(3, 5), 2)
    steps = 12
    level = np.clip((height + 1.3) / 2.6 * steps, 0, steps - 0.01)
    colours = [
        mix(inks.accents[k % 4], inks.light if k % 3 else inks.dark, 0.18 * (k % 4))
        for k in range(steps)
    ]
    pixels = np.array(colours, np.uint8)[level.astype(int)]
    pixels[level % 1 < 0.09] = inks.dark
    canvas.cover(Image.fromarray(pixels))
    down, across = np.gradient(height[::2, ::2])
    return painted(canvas, brief.rng, np.arctan2(across, -down), GOUACHE)


def floating_forms(brief: Brief) -> Picture:
    """Discs, bars, arcs and wedges that hang in balance over a washed ground."""
    canvas, inks = brief.sheet(760, 620), brief.palette
    canvas.cover(canvas.gradient(inks.light, mix(inks.light, inks.bright, 0.5), True))
    for _ in range(12):
        canvas.glow(
            brief.between(0, 1),
            brief.between(0, 0.8),
            brief.between(0.15, 0.35),
            _any_ink(brief),
            0.35,
        )
    for _ in range(5):
        x, y, reach = brief.between(0.1, 0.9), brief.between(0.1, 0.7), brief.between(0.06, 0.16)
        for share in (1.0, 0.72, 0.42):
            canvas.disc(x, y, reach * share, _any_ink(brief))
    for _ in range(12):
        x, y, angle = brief.between(0, 1), brief.between(0, 0.8), brief.between(0, math.pi)
        far = brief.between(0.15, 0.5)
        end = (x + far * math.cos(angle), y + far * math.sin(angle))
        canvas.line(
            [(x, y), end],
            brief.between(0.004, 0.016),
            inks.dark if brief.heads() else _any_ink(brief),
        )
    for _ in range(9):
        x, y, start = brief.between(0, 1), brief.between(0, 0.8), brief.between(0, 360)
        canvas.polygon(
            motifs.regular(x, y, brief.between(0.03, 0.1), 3 + brief.whole(0, 1), start),
            _any_ink(brief),
        )
        canvas.arc(1 - x, y, brief.between(0.05, 0.15), 0.01, (start, start + 150), inks.dark)
    _chequers(canvas, brief.between(0.1, 0.7), brief.between(0.1, 0.5), brief)
    return painted(canvas, brief.rng, wandering(canvas, brief.rng, 0.4, 1.5, 6), (FINE,))


def _chequers(canvas: Canvas, x: float, y: float, brief: Brief) -> None:
    for cell in range(30):
        left, top = x + (cell % 6) * 0.035, y + (cell // 6) * 0.035 + 0.012 * (cell % 6)
        corners = [
            (left, top),
            (left + 0.035, top + 0.012),
            (left + 0.035, top + 0.047),
            (left, top + 0.035),
        ]
        canvas.polygon(corners, brief.palette.dark if (cell + cell // 6) % 2 else _any_ink(brief))


RECIPES = (
    Recipe(primary_grid, ("Composition in Five Colours", "Crossing"), ("primary", "harbour")),
    Recipe(circles_in_squares, ("Twelve Moons",), ("berry",)),
    Recipe(drips, ("Number Eleven",), ("harbour",)),
    Recipe(colour_terraces, ("Contour", "Low Tide"), ("dusk", "lagoon")),
    Recipe(floating_forms, ("Counterweights", "Small Worlds"), ("coast", "primary")),
)
