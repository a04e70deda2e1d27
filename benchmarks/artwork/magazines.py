"""Magazine covers: a masthead, a picture that fills the sheet, and cover lines."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.artwork import motifs
from benchmarks.artwork.brief import Brief, Recipe
from benchmarks.artwork.canvas import Canvas, Field, Picture, printed, type_width
from benchmarks.artwork.palette import Colour, mix


def masthead(brief: Brief, canvas: Canvas, ink: Colour, issue: Colour, season: str) -> None:
    """The magazine's name across the top, with the issue above it."""
    canvas.lettering(brief.title.upper(), (0.05, 0.075, 0.95, 0.265), ink, 0.07)
    canvas.caption(f"{brief.whole(11, 98)}", 0.05, 0.03, 0.022, issue, 0.02)
    canvas.caption(season, 0.95 - type_width(season, 0.022, 0.02), 0.03, 0.022, issue, 0.02)


def cover_lines(
    canvas: Canvas, lines: tuple[str, ...], x: float, y: float, inks: tuple[Colour, Colour]
) -> None:
    """Headlines of the issue, large and small in turn."""
    for k, line in enumerate(lines):
        size = 0.024 if k % 2 else 0.042
        canvas.caption(line, x, y, size, inks[k % 2], 0.01 if k % 2 else 0.05)
        y += size + (0.045 if k % 2 else 0.02)


def style_cover(brief: Brief) -> Picture:
    """A portrait before a patterned wall."""
    canvas, inks = brief.sheet(620, 820), brief.palette
    canvas.cover(
        canvas.stripes(
            0.11, brief.between(0.6, 1.0), inks.bright, mix(inks.bright, inks.light, 0.4)
        )
    )
    for k in range(60):
        x, y = (k % 6) / 5.5 + 0.09 * (k // 6 % 2), (k // 6) / 7
        canvas.polygon(motifs.star(x, y, 0.045, 0.018, 6), mix(inks.mid, inks.light, 0.3))
        canvas.disc(x + 0.09, y, 0.014, inks.warm)
    face = motifs.Face("curls", brief.heads(), True, brief.heads())
    motifs.portrait(canvas, 0.56, 0.68, 0.36, inks, face)
    masthead(brief, canvas, inks.dark, inks.dark, "IN THREE COLOURS")
    canvas.box(0, 1.06, 1, canvas.bottom, inks.dark)
    canvas.disc(0.17, 0.47, 0.115, inks.warm)
    canvas.centred("48 pages", 0.432, 0.03, inks.light, 0.03, 0.17)
    canvas.centred("OF COLOUR", 0.485, 0.022, inks.light, 0.02, 0.17)
    cover_lines(
        canvas,
        ("The new plain", "ten coats to keep", "Who sews?", "a visit to six ateliers"),
        0.05,
        1.08,
        (inks.light, inks.bright),
    )
    return printed(canvas, brief.rng, 3)


def structure_cover(brief: Brief) -> Picture:
    """A city of blocks seen from above a corner, for readers who build."""
    canvas, inks = brief.sheet(640, 840), brief.palette
    canvas.cover(canvas.gradient(inks.light, mix(inks.cool, inks.light, 0.4)))
    side = 0.085
    for row in range(15):
        for column in range(8):
            x = (column + 0.5 * (row % 2)) * side * 1.74
            _block(brief, canvas, (x, 0.55 + row * side * 0.5), side, brief.between(0.05, 0.32))
    masthead(brief, canvas, inks.warm, inks.dark, "QUARTERLY")
    canvas.box(0, 1.2, 1, canvas.bottom, inks.dark)
    canvas.caption("Why towers lean", 0.05, 1.225, 0.042, inks.bright, 0.04)
    canvas.caption("concrete, timber and the weather", 0.56, 1.235, 0.022, inks.light, 0.0)
    return printed(canvas, brief.rng, 3)


def _block(
    brief: Brief, canvas: Canvas, place: tuple[float, float], side: float, height: float
) -> None:
    (x, y), across, down = place, side * 0.87, side * 0.5
    ink = (*brief.palette.accents, brief.palette.light)[brief.whole(0, 4)]
    shades = (
        mix(ink, brief.palette.light, 0.25),
        mix(ink, brief.palette.dark, 0.25),
        mix(ink, brief.palette.dark, 0.6),
    )
    top = y - height
    canvas.polygon(
        [(x, top - down), (x + across, top), (x, top + down), (x - across, top)], shades[0]
    )
    for way, shade in ((-1, shades[1]), (1, shades[2])):
        edge = x + way * across
        canvas.polygon([(x, top + down), (edge, top), (edge, y), (x, y + down)], shade)
        for floor in np.arange(top + 0.025, y - 0.01, 0.032):
            for pane in (0.15, 0.42, 0.69):
                left, right = x + way * across * (pane + 0.17), x + way * across * pane
                low, high = floor + down * (1 - pane - 0.17), floor + down * (1 - pane)
                canvas.polygon(
                    [(left, low), (right, high), (right, high + 0.014), (left, low + 0.014)],
                    brief.palette.bright,
                )


def cosmos_cover(brief: Brief) -> Picture:
    """A sunflower spiral of dots that reads as a galaxy, over linked stars."""
    canvas, inks = brief.sheet(600, 780), brief.palette
    canvas.cover(canvas.gradient(inks.dark, mix(inks.dark, inks.cool, 0.5)))
    stars = brief.rng.uniform((0, 0), (1, 1.3), (90, 2))
    for k, point in enumerate(stars):
        gaps = np.hypot(*(stars - point).T)
        for near in np.argsort(gaps)[1:4]:
            canvas.line(
                [tuple(point.tolist()), tuple(stars[near].tolist())],
                0.0022,
                mix(inks.cool, inks.mid, 0.4),
            )
        canvas.disc(float(point[0]), float(point[1]), 0.004 + 0.003 * (k % 3), inks.light)
    x, y = brief.between(0.45, 0.6), 0.74
    canvas.glow(x, y, 0.5, inks.warm, 0.75)
    for k in range(620):
        reach, angle = 0.017 * math.sqrt(k), k * 2.39996
        ink = mix(inks.light, (inks.bright, inks.warm, inks.mid)[k % 3], min(1, reach * 3))
        canvas.disc(
            x + reach * math.cos(angle),
            y + reach * 0.8 * math.sin(angle),
            0.0035 + reach * 0.016,
            ink,
        )
    masthead(brief, canvas, inks.light, inks.bright, "VOLUME EIGHT")
    canvas.box(0, 1.11, 1, canvas.bottom, inks.dark)
    cover_lines(
        canvas,
        ("Older than dust", "what old stars still tell us"),
        0.05,
        1.14,
        (inks.light, inks.bright),
    )
    return printed(canvas, brief.rng, 3)


def table_cover(brief: Brief) -> Picture:
    """Citrus slices and leaves strewn over a dotted cloth."""
    canvas, inks = brief.sheet(640, 800), brief.palette

    def fade(x: Field, y: Field) -> Field:
        tone: Field = 0.12 + 0.3 * y / 1.25 + 0 * x
        return tone

    canvas.cover(canvas.halftone(fade, 0.03, mix(inks.mid, inks.light, 0.6), inks.mid))
    spots = [
        (0.24, 0.52),
        (0.7, 0.45),
        (0.47, 0.8),
        (0.86, 0.78),
        (0.12, 0.92),
        (0.72, 1.1),
        (0.36, 1.16),
        (1.0, 1.13),
        (0.98, 0.36),
    ]
    for x, y in spots:
        for _ in range(4):
            angle = brief.between(0, 6.3)
            leaf = motifs.petal(
                x + 0.1 * math.cos(angle), y + 0.1 * math.sin(angle), 0.17, 0.075, angle
            )
            canvas.polygon(leaf, mix(inks.cool, inks.dark, brief.between(0, 0.6)))
            canvas.line([leaf[0], leaf[12]], 0.004, inks.mid)
        _slice(brief, canvas, x + brief.between(-0.03, 0.03), y, brief.between(0.11, 0.16))
    masthead(brief, canvas, inks.warm, inks.dark, "HARVEST")
    canvas.box(0.05, 0.62, 0.47, 0.76, inks.dark)
    canvas.caption("Sour & sweet", 0.08, 0.648, 0.042, inks.bright, 0.03)
    canvas.caption("21 suppers in half an hour", 0.08, 0.712, 0.02, inks.light)
    return printed(canvas, brief.rng, 3)


def _slice(brief: Brief, canvas: Canvas, x: float, y: float, radius: float) -> None:
    inks, ink = brief.palette, (brief.palette.warm, brief.palette.bright)[brief.whole(0, 1)]
    canvas.disc(x + 0.012, y + 0.016, radius, mix(inks.mid, inks.dark, 0.5))
    canvas.disc(x, y, radius, ink)
    canvas.disc(x, y, radius * 0.91, mix(inks.light, ink, 0.15))
    turn, parts = brief.between(0, 360), brief.whole(8, 11)
    for part in range(parts):
        start = turn + 360 * part / parts
        canvas.wedge(
            x, y, radius * 0.85, (start + 3, start + 360 / parts - 3), mix(ink, inks.light, 0.2)
        )
        for _ in range(5):
            angle, far = (
                math.radians(start + brief.between(8, 26)),
                radius * brief.between(0.3, 0.75),
            )
            pip = motifs.petal(
                x + far * math.cos(angle),
                y + far * math.sin(angle),
                radius * 0.12,
                radius * 0.04,
                angle,
            )
            canvas.polygon(pip, mix(ink, inks.light, 0.55))


def botany_cover(brief: Brief) -> Picture:
    """Ferns, blossoms and broad leaves in the dark round a framed title."""
    canvas, inks = brief.sheet(600, 800), brief.palette
    canvas.cover(canvas.gradient(inks.dark, mix(inks.dark, inks.cool, 0.4)))
    for _ in range(80):
        angle = brief.between(0, 6.3)
        _frond(canvas, 0.5 + 0.5 * math.cos(angle), 0.75 + 0.62 * math.sin(angle), brief)
    for k in range(17):
        angle = 2 * math.pi * k / 17 + brief.between(-0.15, 0.15)
        pair = ((inks.warm, inks.bright), (inks.light, inks.bright), (inks.bright, inks.warm))[
            k % 3
        ]
        motifs.flower(
            brief,
            canvas,
            0.5 + 0.41 * math.cos(angle),
            0.78 + 0.46 * math.sin(angle),
            brief.between(0.07, 0.11),
            pair,
        )
    canvas.ellipse(0.5, 0.78, 0.29, 0.26, inks.light)
    canvas.ellipse(0.5, 0.78, 0.27, 0.24, mix(inks.dark, inks.cool, 0.2))
    for k, line in enumerate(("Night", "gardens", "AND WHO VISITS THEM")):
        canvas.centred(
            line,
            (0.63, 0.75, 0.9)[k],
            (0.085, 0.1, 0.021)[k],
            (inks.light, inks.bright, inks.light)[k],
            0.03,
        )
    masthead(brief, canvas, inks.light, inks.bright, "A MONTHLY REVIEW")
    return printed(canvas, brief.rng, 3)


def _frond(canvas: Canvas, x: float, y: float, brief: Brief) -> None:
    angle, length = brief.between(0, 6.3), brief.between(0.2, 0.34)
    ink = mix(brief.palette.cool, brief.palette.mid, brief.between(0, 1))
    for k in range(12):
        far = length * k / 12
        foot = (x + far * math.cos(angle), y + far * math.sin(angle))
        for side in (-1, 1):
            leaf = motifs.petal(*foot, 0.1 * (1 - k / 14), 0.028, angle + side * 0.9)
            canvas.polygon(leaf, mix(ink, brief.palette.dark, 0.25 if side > 0 else 0.0))


RECIPES = (
    Recipe(style_cover, ("Mode",), ("berry",)),
    Recipe(structure_cover, ("Struct",), ("primary",)),
    Recipe(cosmos_cover, ("Orbit",), ("night",)),
    Recipe(table_cover, ("Gusto",), ("lagoon",)),
    Recipe(botany_cover, ("Verdure",), ("meadow",)),
)
