"""Paintings that show something: landscapes, the sea, still lifes, a town, a face."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from PIL import Image

from benchmarks.artwork import motifs
from benchmarks.artwork.brief import Brief, Recipe
from benchmarks.artwork.brush import FINE, GOUACHE, painted, swirling, wandering
from benchmarks.artwork.canvas import Canvas, Picture
from benchmarks.artwork.palette import mix, ramp


def mountain_lake(brief: Brief) -> Picture:
    """Ranges behind one another, a sun, and a lake that mirrors them."""
    canvas, inks = brief.sheet(800, 600), brief.palette
    canvas.cover(canvas.gradient(inks.cool, inks.bright))
    shore = brief.between(0.46, 0.54)
    sun = (brief.between(0.15, 0.85), brief.between(0.12, 0.24))
    canvas.glow(*sun, 0.35, inks.light, 0.8)
    canvas.disc(*sun, 0.055, inks.light)
    for depth, ink in enumerate(ramp(mix(inks.cool, inks.light, 0.5), inks.dark, 4)):
        line = motifs.ridge(brief, 0.3 + 0.08 * depth, 0.17 - 0.03 * depth)
        motifs.fill_below(canvas, line, ink)
        snow = [(x, y + 0.012 + 0.03 * (i % 2)) for i, (x, y) in enumerate(line)]
        if depth == 1:
            canvas.polygon([*line, *reversed(snow)], inks.light)
    _lake(brief, canvas, shore)
    for _ in range(14):
        x = brief.between(0, 0.4) if brief.heads() else brief.between(0.75, 1)
        motifs.fir(canvas, x, canvas.bottom + 0.02, brief.between(0.1, 0.26), inks.dark)
    return painted(canvas, brief.rng, wandering(canvas, brief.rng, 0.1, 0.5))


def _lake(brief: Brief, canvas: Canvas, shore: float) -> None:
    top, height = round(shore * canvas.unit), canvas.image.height
    mirror = canvas.image.crop((0, 2 * top - height, canvas.unit, top))
    canvas.image.paste(mirror.transpose(Image.Transpose.FLIP_TOP_BOTTOM), (0, top))
    for _ in range(70):
        x, y = brief.between(-0.1, 1), brief.between(shore, canvas.bottom)
        ink = mix(brief.palette.cool, brief.palette.light, brief.between(0, 0.9))
        canvas.line([(x, y), (x + brief.between(0.05, 0.25), y)], brief.between(0.002, 0.007), ink)


def rough_sea(brief: Brief) -> Picture:
    """Rows of breaking waves under a heavy sky, with a sailing boat."""
    canvas, inks = brief.sheet(820, 580), brief.palette
    canvas.cover(canvas.gradient(mix(inks.dark, inks.cool, 0.5), inks.light))
    for _ in range(26):
        x, y = brief.between(0, 1), brief.between(0, 0.24)
        canvas.glow(x, y, brief.between(0.08, 0.2), inks.light if brief.heads() else inks.mid, 0.7)
    boat_x = brief.between(0.25, 0.75)
    rows = 7
    for row, ink in enumerate(ramp(mix(inks.cool, inks.light, 0.4), inks.dark, rows)):
        if row == 2:
            _boat(canvas, boat_x, 0.4, 0.2, brief)
        level = 0.32 + 0.42 * (row / rows) ** 1.2
        _breakers(brief, canvas, level, 0.03 + 0.014 * row, ink)
    return painted(canvas, brief.rng, wandering(canvas, brief.rng, -0.2, 0.9, 6))


def _breakers(
    brief: Brief, canvas: Canvas, level: float, size: float, ink: tuple[int, int, int]
) -> None:
    phase, length = brief.between(0, 1), size * 5
    xs = np.linspace(-0.01, 1.01, 240)
    turn = (xs / length + phase) % 1
    crest = level - size * turn**2 * (1 - turn**10) * 1.6
    line = list(zip(xs.tolist(), crest.tolist(), strict=True))
    motifs.fill_below(canvas, line, ink)
    foam = [(x, y + size * 0.22 * t) for (x, y), t in zip(line, turn.tolist(), strict=True)]
    canvas.polygon([*line, *reversed(foam)], mix(ink, (255, 255, 255), 0.75))
    for _ in range(24):
        x, y = brief.between(0, 1), level + brief.between(0, size * 1.5)
        canvas.line(
            [(x, y), (x + size, y + size * 0.2)], size * 0.07, mix(ink, (255, 255, 255), 0.35)
        )


def _boat(canvas: Canvas, x: float, y: float, size: float, brief: Brief) -> None:
    inks = brief.palette
    canvas.line([(x, y), (x, y - size)], 0.008, inks.dark)
    canvas.polygon(
        [(x + 0.01, y - size), (x + size * 0.5, y - size * 0.15), (x + 0.01, y - size * 0.15)],
        inks.warm,
    )
    canvas.polygon(
        [
            (x - 0.01, y - size * 0.85),
            (x - size * 0.35, y - size * 0.15),
            (x - 0.01, y - size * 0.15),
        ],
        inks.light,
    )
    hull = [
        (x - size * 0.45, y - size * 0.1),
        (x + size * 0.5, y - size * 0.1),
        (x + size * 0.35, y + size * 0.1),
        (x - size * 0.3, y + size * 0.1),
    ]
    canvas.polygon(hull, inks.dark)


def still_life(brief: Brief) -> Picture:
    """A jug, a bottle and fruit on a chequered cloth before a panelled wall."""
    canvas, inks = brief.sheet(780, 640), brief.palette
    canvas.cover(canvas.gradient(mix(inks.cool, inks.dark, 0.4), mix(inks.mid, inks.cool, 0.5)))
    canvas.glow(0.2, 0.15, 0.5, inks.light, 0.45)
    table = 0.5
    canvas.polygon([(0, table), (1, table - 0.03), (1, 1), (0, 1)], mix(inks.warm, inks.dark, 0.45))
    _cloth(canvas, table + 0.05, brief)
    places = brief.rng.permutation([0.2, 0.46, 0.74])
    motifs.vessel(canvas, places[0], 0.63, (0.27, 0.42), (inks.cool, inks.dark), 0.62)
    motifs.vessel(
        canvas, places[1], 0.61, (0.15, 0.5), (mix(inks.dark, inks.mid, 0.4), inks.dark), 0.85
    )
    motifs.vessel(
        canvas, places[2], 0.64, (0.3, 0.2), (mix(inks.light, inks.mid, 0.3), inks.dark), 0.3
    )
    for _ in range(9):
        x, y = brief.between(0.08, 0.92), brief.between(0.58, 0.72)
        ink = (inks.warm, inks.bright, mix(inks.warm, inks.bright, 0.5))[brief.whole(0, 2)]
        motifs.fruit(canvas, x, y, brief.between(0.04, 0.07), ink, mix(inks.cool, inks.dark, 0.4))
    return painted(canvas, brief.rng, wandering(canvas, brief.rng, 0.8, 2.2))


def _cloth(canvas: Canvas, top: float, brief: Brief) -> None:
    inks = brief.palette
    corners = [(0.08, top), (0.9, top - 0.03), (1.02, canvas.bottom), (-0.06, canvas.bottom)]
    canvas.polygon(corners, inks.light)
    for k in range(12):
        low, high = -0.06 + k * 0.09, 0.08 + k * 0.0683
        canvas.line([(high, top), (low, canvas.bottom)], 0.02, mix(inks.light, inks.warm, 0.6))
    for k in range(6):
        y = top + 0.015 + 0.011 * k * (k + 2) * 0.6
        canvas.line([(0, y), (1, y - 0.03)], 0.008 + 0.003 * k, mix(inks.light, inks.warm, 0.6))


def bouquet(brief: Brief) -> Picture:
    """A full bunch of flowers in a patterned vase."""
    canvas, inks = brief.sheet(600, 800), brief.palette
    canvas.cover(
        canvas.gradient(mix(inks.mid, inks.light, 0.3), mix(inks.dark, inks.mid, 0.5), True)
    )
    canvas.box(0, 1.12, 1, canvas.bottom, mix(inks.dark, inks.warm, 0.3))
    motifs.vessel(canvas, 0.5, 1.22, (0.42, 0.42), (inks.cool, inks.dark), 0.55)
    for k in range(9):
        canvas.polygon(motifs.regular(0.34 + k * 0.04, 1.04, 0.02, 4), inks.bright)
    for _ in range(60):
        angle = brief.between(math.pi * 1.05, math.pi * 1.95)
        leaf = mix((38, 84, 52), (150, 176, 84), brief.between(0, 0.9))
        start = (0.5 + 0.2 * math.cos(angle), 0.75 + 0.2 * math.sin(angle))
        canvas.polygon(
            motifs.petal(*start, brief.between(0.25, 0.45), 0.1, angle + brief.between(-0.5, 0.5)),
            leaf,
        )
    for k in range(19):
        reach, angle = 0.36 * math.sqrt((k + 0.5) / 19), k * 2.4 + brief.between(-0.3, 0.3)
        heart = (0.5 + reach * 1.05 * math.cos(angle), 0.46 + reach * 1.1 * math.sin(angle))
        pair = [
            (inks.warm, inks.bright),
            (inks.light, inks.warm),
            (inks.bright, inks.dark),
            (inks.cool, inks.light),
        ][k % 4]
        motifs.flower(brief, canvas, *heart, brief.between(0.09, 0.14), pair)
    return painted(canvas, brief.rng, None, GOUACHE)


def starry_valley(brief: Brief) -> Picture:
    """Whirling lights in a night sky over a village and cypresses."""
    canvas, inks = brief.sheet(800, 640), brief.palette
    canvas.cover(canvas.gradient(mix(inks.dark, inks.cool, 0.3), mix(inks.cool, inks.mid, 0.4)))
    whirls = [
        (
            0.1 + 0.27 * k + brief.between(0, 0.12),
            brief.between(0.08, 0.36),
            brief.between(0.09, 0.16),
        )
        for k in range(4)
    ]
    for x, y, reach in whirls:
        for turn in range(5):
            ink = (
                mix(inks.bright, inks.cool, turn / 5)
                if turn % 2 == 0
                else mix(inks.light, inks.cool, 0.4)
            )
            canvas.ring(x, y, reach * (0.3 + 0.2 * turn), reach * 0.09, ink)
        canvas.disc(x, y, reach * 0.25, inks.bright)
    for _ in range(160):
        x, y = brief.between(0, 1), brief.between(0, 0.5)
        canvas.line(
            [(x, y), (x + 0.05, y + brief.between(-0.02, 0.02))],
            0.006,
            mix(inks.cool, inks.light, brief.between(0, 0.7)),
        )
    for depth, ink in enumerate(
        ramp(mix(inks.cool, inks.dark, 0.3), mix(inks.dark, inks.cool, 0.1), 3)
    ):
        motifs.fill_below(canvas, motifs.hill(brief, 0.52 + 0.06 * depth, 0.04), ink)
    for k in range(12):
        foot = 0.62 + 0.012 * k
        _cottage(brief, canvas, brief.between(0.2, 0.88), foot, 0.07 + 0.004 * k)
    trunk = brief.between(0.08, 0.16)
    for k in range(7):
        canvas.polygon(
            motifs.petal(
                trunk + 0.012 * (k - 3), 0.8, 0.62 - 0.05 * abs(k - 3), 0.08, -1.6 + 0.03 * (k - 3)
            ),
            mix(inks.dark, inks.mid, 0.06 * k),
        )
    return painted(canvas, brief.rng, swirling(canvas, whirls))


def _cottage(brief: Brief, canvas: Canvas, x: float, foot: float, size: float) -> None:
    inks = brief.palette
    wall = mix(inks.cool, inks.light, brief.between(0.1, 0.6))
    canvas.box(x, foot - size * 0.6, x + size, foot, wall)
    canvas.polygon(
        [
            (x - size * 0.1, foot - size * 0.6),
            (x + size * 0.5, foot - size * 1.1),
            (x + size * 1.1, foot - size * 0.6),
        ],
        inks.warm,
    )
    canvas.box(x + size * 0.2, foot - size * 0.45, x + size * 0.4, foot - size * 0.2, inks.bright)
    canvas.box(x + size * 0.6, foot - size * 0.45, x + size * 0.8, foot - size * 0.2, inks.bright)


def birches(brief: Brief) -> Picture:
    """Pale trunks in an autumn wood."""
    canvas, inks = brief.sheet(620, 780), brief.palette
    canvas.cover(canvas.gradient(mix(inks.bright, inks.light, 0.5), mix(inks.warm, inks.dark, 0.3)))
    for _ in range(420):
        x, y = brief.between(0, 1), brief.between(0, 1) ** 1.4 * 0.95
        ink = mix(inks.accents[brief.whole(0, 3)], inks.bright, brief.between(0.2, 0.9))
        canvas.disc(x, y, brief.between(0.008, 0.03), ink)
    for depth in range(3):
        for k in range(4):
            x = (k + brief.between(0.1, 0.9)) / 4
            _birch(brief, canvas, x, 0.92 + 0.14 * depth, 0.02 + 0.018 * depth)
        for _ in range(110):
            x, y = brief.between(0, 1), brief.between(0, 0.5)
            canvas.disc(
                x, y, brief.between(0.006, 0.018), mix(inks.warm, inks.bright, brief.between(0, 1))
            )
    for _ in range(260):
        x, y = brief.between(0, 1), brief.between(0.95, canvas.bottom)
        canvas.ellipse(
            x,
            y,
            0.022,
            0.008,
            mix(inks.dark, inks.accents[brief.whole(0, 3)], brief.between(0.1, 1)),
        )
    return painted(canvas, brief.rng, wandering(canvas, brief.rng, 1.5, 0.7), GOUACHE)


def _birch(brief: Brief, canvas: Canvas, x: float, foot: float, width: float) -> None:
    inks, lean = brief.palette, brief.between(-0.06, 0.06)
    canvas.line([(x, foot), (x + lean, -0.02)], width, mix(inks.light, inks.cool, 0.12))
    canvas.line(
        [(x + width * 0.3, foot), (x + lean + width * 0.3, -0.02)],
        width * 0.35,
        mix(inks.light, inks.dark, 0.5),
    )
    for _ in range(16):
        y = brief.between(0, foot)
        mark = x + lean * (1 - y / foot) - width / 2
        canvas.line(
            [(mark, y), (mark + width * brief.between(0.3, 0.9), y + 0.006)],
            width * 0.16,
            inks.dark,
        )
    for side in (-1, 1):
        y = brief.between(0.15, 0.5)
        canvas.line(
            [(x + lean / 2, y), (x + side * brief.between(0.08, 0.2), y - 0.2)],
            width * 0.25,
            mix(inks.light, inks.dark, 0.4),
        )


def hill_town(brief: Brief) -> Picture:
    """Gabled houses stacked up a hill about a church tower."""
    canvas, inks = brief.sheet(700, 700), brief.palette
    canvas.cover(
        canvas.gradient(mix(inks.cool, inks.light, 0.3), mix(inks.bright, inks.light, 0.4))
    )
    canvas.disc(brief.between(0.1, 0.3), 0.15, 0.07, inks.bright)
    motifs.fill_below(canvas, motifs.ridge(brief, 0.45, 0.12), mix(inks.cool, inks.mid, 0.4))
    church = brief.between(0.4, 0.65)
    canvas.box(church - 0.05, 0.2, church + 0.05, 0.5, mix(inks.light, inks.warm, 0.2))
    canvas.polygon([(church - 0.07, 0.2), (church, 0.03), (church + 0.07, 0.2)], inks.dark)
    canvas.disc(church, 0.27, 0.025, inks.dark)
    for row in range(6):
        level, size = 0.42 + 0.12 * row, 0.1 + 0.012 * row
        reach = 0.22 + 0.09 * row
        for x in np.arange(church - reach - size, church + reach, size * 0.95):
            _house(brief, canvas, float(x), level + brief.between(-0.02, 0.02), size)
    for _ in range(24):
        x, y = brief.between(0, 1), brief.between(0.6, 1.02)
        canvas.disc(
            x, y, brief.between(0.02, 0.045), mix(inks.mid, inks.dark, brief.between(0.1, 0.6))
        )
    return painted(canvas, brief.rng, wandering(canvas, brief.rng, 1.2, 0.6), GOUACHE)


def _house(brief: Brief, canvas: Canvas, x: float, top: float, size: float) -> None:
    inks, height = brief.palette, size * brief.between(1.0, 1.6)
    wall = mix(inks.accents[brief.whole(0, 3)], inks.light, brief.between(0.35, 0.8))
    roof = mix(inks.warm, inks.dark, brief.between(0, 0.5))
    canvas.box(x, top, x + size, top + height + 0.1, wall)
    canvas.box(x + size * 0.8, top, x + size, top + height + 0.1, mix(wall, inks.dark, 0.3))
    canvas.polygon(
        [(x - 0.01, top), (x + size / 2, top - size * 0.5), (x + size + 0.01, top)], roof
    )
    for column in (0.15, 0.48):
        for row in (0.2, 0.65):
            left, up = x + size * column, top + size * row
            canvas.box(left, up, left + size * 0.18, up + size * 0.26, inks.dark)


def sitter(brief: Brief, face: motifs.Face, size: float) -> Picture:
    """A portrait before a background of broken planes."""
    canvas, inks = brief.sheet(600, 760), brief.palette
    canvas.cover(canvas.gradient(mix(inks.mid, inks.dark, 0.5), mix(inks.cool, inks.dark, 0.2)))
    for _ in range(34):
        x, y = brief.between(0, 1), brief.between(0, 1.25)
        shard = motifs.regular(
            x, y, brief.between(0.08, 0.2), brief.whole(3, 5), brief.between(0, 3)
        )
        canvas.polygon(
            shard, mix(inks.accents[brief.whole(0, 3)], inks.dark, brief.between(0.1, 0.6))
        )
    motifs.portrait(canvas, 0.5 + brief.between(-0.06, 0.06), 0.55, size, inks, face)
    directions = swirling(canvas, [(0.5, 0.55, 0.4)])
    return painted(canvas, brief.rng, directions, (*GOUACHE, FINE))


RECIPES = (
    Recipe(mountain_lake, ("Still Water",), ("harbour",)),
    Recipe(bouquet, ("Bunch in a Plum Vase",), ("berry",)),
    Recipe(starry_valley, ("Valley at Midnight",), ("night",)),
    Recipe(still_life, ("Jug, Bottle, Oranges",), ("earth",)),
    Recipe(rough_sea, ("Off the Cape",), ("coast",)),
    Recipe(birches, ("October Birches",), ("earth",)),
    Recipe(hill_town, ("Town on a Hill",), ("lagoon",)),
    Recipe(
        partial(sitter, face=motifs.Face("long", False, True, True), size=0.38),
        ("The Reader",),
        ("meadow",),
    ),
)
SECOND_SITTER = Recipe(
    partial(sitter, face=motifs.Face("hat", True, False, False), size=0.31),
    ("Cut Paper Portrait",),
    ("harbour",),
)
