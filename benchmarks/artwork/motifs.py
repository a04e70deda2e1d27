"""Things that pictures show: hills, towns, trees, faces, flowers, vessels, instruments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.artwork.brief import Brief
from benchmarks.artwork.canvas import Canvas, Fill, Point
from benchmarks.artwork.palette import Colour, Palette, mix


def regular(x: float, y: float, radius: float, corners: int, turn: float = 0.0) -> list[Point]:
    """The corners of a regular polygon; the first points up when not turned."""
    angles = [turn - math.pi / 2 + 2 * math.pi * k / corners for k in range(corners)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def star(x: float, y: float, outer: float, inner: float, tips: int) -> list[Point]:
    """The outline of a star with its first tip up."""
    far = regular(x, y, outer, tips)
    near = regular(x, y, inner, tips, math.pi / tips)
    return [point for pair in zip(far, near, strict=True) for point in pair]


def petal(x: float, y: float, length: float, width: float, angle: float) -> list[Point]:
    """A pointed leaf that starts at a point and reaches along an angle."""
    along = [step / 12 for step in range(13)]
    rim = [(t * length, width / 2 * math.sin(math.pi * t**0.8)) for t in along]
    outline = rim + [(far, -side) for far, side in reversed(rim)]
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x + far * cos - side * sin, y + far * sin + side * cos) for far, side in outline]


def ridge(brief: Brief, level: float, height: float, roughness: float = 0.55) -> list[Point]:
    """A mountain line across the sheet, by halving and jolting its middle."""
    heights = brief.rng.uniform(-0.5, 1, 4)
    jolt = 0.5
    while len(heights) < 180:
        middles = (heights[1:] + heights[:-1]) / 2
        middles = middles + brief.rng.uniform(-jolt, jolt, len(middles))
        woven = np.empty(len(heights) + len(middles))
        woven[::2], woven[1::2] = heights, middles
        heights, jolt = woven, jolt * roughness
    places = np.linspace(-0.01, 1.01, len(heights))
    return [(float(x), float(level - height * h)) for x, h in zip(places, heights, strict=True)]


def hill(brief: Brief, level: float, height: float) -> list[Point]:
    """A soft rolling line across the sheet."""
    phase, pace = brief.between(0, 6), brief.between(3, 6)
    places = np.linspace(-0.01, 1.01, 60)
    rise = np.sin(places * pace + phase) + 0.4 * np.sin(places * pace * 2.3 + phase * 2)
    return [(float(x), float(level - height * r)) for x, r in zip(places, rise, strict=True)]


def fill_below(canvas: Canvas, line: list[Point], fill: Fill) -> None:
    """Fills from a line across the sheet down to its lower edge."""
    canvas.polygon([*line, (1.02, canvas.bottom), (-0.02, canvas.bottom)], fill)


def sunburst(canvas: Canvas, x: float, y: float, rays: int, fill: Fill, reach: float = 2.0) -> None:
    """Rays that fan out of a point, every second one filled."""
    for ray in range(rays):
        start = 360 * ray / rays
        canvas.wedge(x, y, reach, (start, start + 180 / rays), fill)


def tower(brief: Brief, canvas: Canvas, box: tuple[float, float, float], ink: Colour) -> None:
    """A high building (left, right, roof) with one of several tops, down to the sheet's edge."""
    left, right, roof = box
    width = right - left
    middle = (left + right) / 2
    top = brief.whole(0, 3)
    canvas.box(left, roof, right, canvas.bottom, ink)
    if top == 0:
        canvas.polygon([(left, roof), (middle, roof - width * 0.8), (right, roof)], ink)
    elif top == 1:
        canvas.box(left + width * 0.2, roof - width * 0.3, right - width * 0.2, roof, ink)
        canvas.line([(middle, roof), (middle, roof - width)], 0.006, ink)
    elif top == 2:
        canvas.wedge(middle, roof, width / 2, (180, 360), ink)


def windows(
    brief: Brief, canvas: Canvas, box: tuple[float, float, float, float], lit: Fill, share: float
) -> None:
    """A grid of small windows in a box, a share of them lit."""
    left, top, right, bottom = box
    columns = max(2, round((right - left) / 0.03))
    pitch = (right - left) / columns
    for row in range(int((bottom - top) / 0.032)):
        for column in range(columns):
            if brief.rng.random() < share:
                x, y = left + (column + 0.25) * pitch, top + row * 0.032
                canvas.box(x, y, x + pitch * 0.5, y + 0.019, lit)


def skyline(
    brief: Brief, canvas: Canvas, base: float, height: float, ink: Colour, lit: Colour
) -> None:
    """A row of high buildings, most of them with lit windows."""
    left = -0.03
    while left < 1.0:
        width = brief.between(0.07, 0.16)
        roof = base - height * brief.between(0.3, 1.0)
        shade = mix(ink, lit, brief.between(0, 0.12))
        tower(brief, canvas, (left, left + width, roof), shade)
        windows(brief, canvas, (left + 0.012, roof + 0.02, left + width - 0.012, base), lit, 0.5)
        left += width * brief.between(0.8, 1.05)


def fir(canvas: Canvas, x: float, foot: float, height: float, ink: Fill) -> None:
    """A fir of stacked boughs."""
    canvas.box(x - height * 0.03, foot - height * 0.15, x + height * 0.03, foot, ink)
    for bough in range(4):
        top = foot - height + bough * height * 0.19
        spread = height * (0.13 + 0.06 * bough)
        base = top + height * 0.32
        canvas.polygon([(x, top), (x + spread, base), (x - spread, base)], ink)


def flower(
    brief: Brief, canvas: Canvas, x: float, y: float, radius: float, inks: tuple[Colour, Colour]
) -> None:
    """A blossom seen from the front: two rings of petals and a dotted heart."""
    petals = brief.whole(6, 12)
    turn = brief.between(0, 1)
    for ring, reach in enumerate((1.0, 0.68)):
        ink = mix(*inks, 0.45 * ring)
        for k in range(petals):
            angle = turn + ring * 0.3 + 2 * math.pi * k / petals
            shade = mix(ink, (0, 0, 0), 0.12 * (k % 2))
            canvas.polygon(petal(x, y, radius * reach, radius * 0.5, angle), shade)
    canvas.disc(x, y, radius * 0.24, inks[1])
    for k in range(9):
        spot = regular(x, y, radius * 0.15, 9)[k]
        canvas.disc(*spot, radius * 0.035, mix(inks[0], (0, 0, 0), 0.5))


def vessel(
    canvas: Canvas, x: float, foot: float, size: Point, inks: tuple[Colour, Colour], waist: float
) -> None:
    """A vase turned about its axis, lit from the left; `waist` places its belly (0 to 1)."""
    width, height = size
    rows = [k / 40 for k in range(41)]
    belly = [0.45 + 0.55 * math.exp(-(((t - waist) / 0.28) ** 2)) for t in rows]
    edge = [(width / 2 * b, foot - height + t * height) for t, b in zip(rows, belly, strict=True)]
    outline = [(x + w, y) for w, y in edge] + [(x - w, y) for w, y in reversed(edge)]
    canvas.polygon(outline, inks[0])
    lit = [(x - w * 0.35, y) for w, y in edge] + [(x - w * 0.8, y) for w, y in reversed(edge)]
    canvas.polygon(lit, mix(inks[0], (255, 255, 255), 0.35))
    dark = [(x + w, y) for w, y in edge] + [(x + w * 0.5, y) for w, y in reversed(edge)]
    canvas.polygon(dark, mix(inks[0], (0, 0, 0), 0.35))
    canvas.ellipse(x, foot - height, width / 2 * belly[0], width * 0.07, inks[1])


def fruit(canvas: Canvas, x: float, y: float, radius: float, ink: Colour, leaf: Colour) -> None:
    """A round fruit with light, shade and a leaf."""
    canvas.ellipse(
        x + radius * 0.3, y + radius * 0.9, radius * 1.2, radius * 0.25, mix(ink, (0, 0, 0), 0.7)
    )
    canvas.disc(x, y, radius, mix(ink, (0, 0, 0), 0.35))
    canvas.disc(x - radius * 0.1, y - radius * 0.1, radius * 0.86, ink)
    canvas.disc(x - radius * 0.3, y - radius * 0.35, radius * 0.4, mix(ink, (255, 255, 255), 0.35))
    canvas.polygon(petal(x, y - radius * 0.9, radius * 0.9, radius * 0.4, -0.6), leaf)


def record(canvas: Canvas, x: float, y: float, radius: float, inks: tuple[Colour, Colour]) -> None:
    """A gramophone record with grooves, two gleams and a label."""
    canvas.disc(x, y, radius, inks[0])
    for groove in range(14):
        reach = radius * (0.96 - groove * 0.042)
        canvas.ring(x, y, reach, 0.0025, mix(inks[0], (255, 255, 255), 0.12 + 0.1 * (groove % 2)))
    for start in (215, 35):
        canvas.wedge(x, y, radius * 0.97, (start, start + 14), mix(inks[0], (255, 255, 255), 0.28))
    canvas.disc(x, y, radius * 0.36, inks[1])
    canvas.ring(x, y, radius * 0.31, 0.004, inks[0])
    canvas.disc(x, y, radius * 0.04, inks[0])


@dataclass(frozen=True)
class Face:
    """How a portrait looks: the way of the hair, and what its sitter wears."""

    hair: str
    glasses: bool
    earrings: bool
    turned: bool


def portrait(canvas: Canvas, x: float, y: float, size: float, palette: Palette, face: Face) -> None:
    """A head and shoulders from plain shapes, half in light and half in shade."""
    skin = mix(palette.bright, palette.light, 0.35)
    shade = mix(palette.warm, palette.dark, 0.15)
    _hair_behind(canvas, x, y, size, palette, face.hair)
    _shoulders(canvas, x, y, size, palette)
    canvas.polygon(
        [
            (x - size * 0.2, y),
            (x + size * 0.2, y),
            (x + size * 0.24, y + size * 0.85),
            (x - size * 0.24, y + size * 0.85),
        ],
        shade,
    )
    canvas.ellipse(x, y, size * 0.48, size * 0.64, skin)
    side = (90, 270) if face.turned else (-90, 90)
    half = [
        (x + size * 0.48 * math.cos(math.radians(a)), y + size * 0.64 * math.sin(math.radians(a)))
        for a in np.linspace(*side, 30)
    ]
    canvas.polygon([*half, (x + size * 0.06, y), (x - size * 0.03, y + size * 0.2)], shade)
    _features(canvas, x, y, size, palette)
    _hair_before(canvas, x, y, size, palette, face.hair)
    if face.glasses:
        for side_x in (x - size * 0.2, x + size * 0.2):
            canvas.ring(side_x, y - size * 0.05, size * 0.17, size * 0.035, palette.dark)
        canvas.line(
            [(x - size * 0.05, y - size * 0.06), (x + size * 0.05, y - size * 0.06)],
            size * 0.03,
            palette.dark,
        )
    if face.earrings:
        for side_x in (x - size * 0.48, x + size * 0.48):
            canvas.polygon(regular(side_x, y + size * 0.34, size * 0.14, 4), palette.bright)
            canvas.polygon(regular(side_x, y + size * 0.34, size * 0.07, 4), palette.cool)


def _features(canvas: Canvas, x: float, y: float, size: float, palette: Palette) -> None:
    for side in (-1, 1):
        eye_x, eye_y = x + side * size * 0.2, y - size * 0.05
        canvas.polygon(
            petal(eye_x - size * 0.13, eye_y, size * 0.26, size * 0.13, 0), palette.light
        )
        canvas.disc(eye_x, eye_y, size * 0.055, palette.cool)
        canvas.disc(eye_x, eye_y, size * 0.028, palette.dark)
        brow = [
            (eye_x - size * 0.14, eye_y - size * 0.11),
            (eye_x, eye_y - size * 0.16),
            (eye_x + size * 0.14, eye_y - size * 0.11),
        ]
        canvas.line(brow, size * 0.035, palette.dark)
    nose = [
        (x - size * 0.03, y - size * 0.05),
        (x + size * 0.07, y + size * 0.2),
        (x - size * 0.05, y + size * 0.22),
    ]
    canvas.line(nose, size * 0.02, palette.dark)
    canvas.polygon(
        petal(x - size * 0.17, y + size * 0.37, size * 0.34, size * 0.13, 0), palette.warm
    )
    canvas.line(
        [(x - size * 0.16, y + size * 0.37), (x + size * 0.16, y + size * 0.37)],
        size * 0.015,
        palette.dark,
    )


def _shoulders(canvas: Canvas, x: float, y: float, size: float, palette: Palette) -> None:
    cloth = canvas.stripes(size * 0.16, 0.7, palette.cool, mix(palette.cool, palette.dark, 0.35))
    canvas.ellipse(x, y + size * 1.7, size * 1.15, size, cloth)
    canvas.box(x - size * 1.15, y + size * 1.7, x + size * 1.15, canvas.bottom, cloth)


def _hair_behind(
    canvas: Canvas, x: float, y: float, size: float, palette: Palette, style: str
) -> None:
    if style == "long":
        canvas.ellipse(x, y + size * 0.1, size * 0.72, size * 0.92, palette.dark)
        canvas.box(x - size * 0.72, y + size * 0.1, x + size * 0.72, y + size * 1.05, palette.dark)
    elif style == "curls":
        for curl_x, curl_y in regular(x, y - size * 0.12, size * 0.58, 13):
            canvas.disc(curl_x, curl_y, size * 0.24, palette.dark)
            canvas.ring(
                curl_x, curl_y, size * 0.13, size * 0.025, mix(palette.dark, palette.warm, 0.5)
            )
    else:
        canvas.ellipse(x, y - size * 0.12, size * 0.54, size * 0.62, palette.dark)


def _hair_before(
    canvas: Canvas, x: float, y: float, size: float, palette: Palette, style: str
) -> None:
    if style == "hat":
        canvas.ellipse(x, y - size * 0.4, size * 0.95, size * 0.16, palette.dark)
        canvas.box(x - size * 0.48, y - size * 0.95, x + size * 0.48, y - size * 0.4, palette.dark)
        canvas.box(x - size * 0.48, y - size * 0.58, x + size * 0.48, y - size * 0.45, palette.warm)
    elif style == "long":
        canvas.polygon(
            petal(x - size * 0.05, y - size * 0.68, size * 0.75, size * 0.3, 2.3), palette.dark
        )
        canvas.polygon(
            petal(x - size * 0.05, y - size * 0.68, size * 0.75, size * 0.3, 0.85), palette.dark
        )
    else:
        canvas.polygon(
            petal(x - size * 0.48, y - size * 0.42, size * 0.96, size * 0.34, -0.1), palette.dark
        )
