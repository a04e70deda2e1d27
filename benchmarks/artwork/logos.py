"""Logos as they stand on a card or a label: an emblem, lettering and a pattern around."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.artwork import motifs
from benchmarks.artwork.brief import Brief, Recipe
from benchmarks.artwork.canvas import Canvas, Picture, Point, printed
from benchmarks.artwork.palette import Colour, mix


def summit_badge(brief: Brief) -> Picture:
    """A round badge: mountains and firs within a lettered ring."""
    canvas, inks = brief.sheet(640, 640), brief.palette
    for k in range(13):
        canvas.line(motifs.hill(brief, 0.08 * k, 0.02), 0.004, mix(inks.light, inks.mid, 0.6))
    canvas.disc(0.5, 0.5, 0.46, inks.dark)
    canvas.ring(0.5, 0.5, 0.445, 0.008, inks.light)
    inner = canvas.gradient(inks.warm, inks.bright)
    scene = brief.sheet(640, 640)
    scene.cover(inner)
    scene.disc(0.5, 0.42, 0.1, inks.light)
    for depth in range(3):
        line = motifs.ridge(brief, 0.52 + 0.08 * depth, 0.2 - 0.05 * depth)
        motifs.fill_below(scene, line, mix(inks.cool, inks.dark, 0.1 + 0.3 * depth))
    for k in range(9):
        motifs.fir(scene, 0.2 + 0.075 * k, 0.82, brief.between(0.12, 0.24), inks.dark)
    canvas.disc(0.5, 0.5, 0.31, scene.image)
    canvas.ring(0.5, 0.5, 0.32, 0.012, inks.light)
    canvas.ring_lettering(brief.title.upper(), 0.5, 0.5, 0.378, 0.085, (-165, -15), inks.light)
    canvas.ring_lettering("MOUNTAIN GUIDES", 0.5, 0.5, 0.378, 0.06, (145, 35), inks.bright)
    for x in (0.125, 0.875):
        canvas.polygon(motifs.star(x, 0.545, 0.032, 0.014, 5), inks.bright)
    return printed(canvas, brief.rng)


def brewery_crest(brief: Brief) -> Picture:
    """A quartered shield with hops, stripes and a ribbon."""
    canvas, inks = brief.sheet(620, 720), brief.palette
    canvas.cover(canvas.stripes(0.05, 0.78, inks.light, mix(inks.light, inks.mid, 0.25)))
    for side in (-1, 1):
        for k in range(9):
            x, y = 0.5 + side * (0.4 - 0.012 * k), 0.92 - 0.085 * k
            for way in (0.5, 1.3):
                canvas.polygon(
                    motifs.petal(x, y, 0.13, 0.06, -math.pi / 2 + side * way),
                    mix(inks.cool, inks.dark, 0.3 * way),
                )
    canvas.polygon(_shield(0.35), inks.dark)
    canvas.polygon(_shield(0.325), inks.light)
    canvas.polygon(_shield(0.31), inks.warm)
    field = Canvas(620, 720, inks.warm)
    field.box(0.5, 0, 1, 0.47, field.stripes(0.06, 0.0, inks.bright, inks.dark))
    field.box(0, 0.47, 0.5, 1.2, field.stripes(0.07, 0.8, inks.cool, inks.light))
    canvas.polygon(_shield(0.3), field.image)
    canvas.polygon(motifs.star(0.36, 0.32, 0.1, 0.045, 8), inks.bright)
    for row in range(4):
        for k in range(4 - row):
            x = 0.64 + (k - (3 - row) / 2) * 0.062
            canvas.polygon(
                motifs.petal(x, 0.53 + 0.055 * row, 0.09, 0.08, math.pi / 2),
                mix(inks.bright, inks.mid, 0.2 * k),
            )
    canvas.polygon(
        [(0.02, 0.88), (0.14, 0.8), (0.14, 0.98), (0.02, 1.06), (0.06, 0.97)],
        mix(inks.dark, inks.cool, 0.4),
    )
    canvas.polygon(
        [(0.98, 0.88), (0.86, 0.8), (0.86, 0.98), (0.98, 1.06), (0.94, 0.97)],
        mix(inks.dark, inks.cool, 0.4),
    )
    canvas.box(0.1, 0.79, 0.9, 0.95, inks.dark)
    canvas.lettering(brief.title.upper(), (0.14, 0.82, 0.86, 0.92), inks.light, 0.05)
    canvas.centred("BREWED BY HAND - 1887", 1.05, 0.036, inks.dark, 0.03)
    return printed(canvas, brief.rng)


def _shield(reach: float) -> list[Point]:
    curve = [
        (reach * math.cos(a), 0.52 * reach / 0.35 * math.sin(a))
        for a in np.linspace(0, math.pi, 40)
    ]
    top = 0.5 - reach
    return [(0.5 - reach, top), (0.5 + reach, top), *((0.5 + x, 0.45 + y) for x, y in curve)]


def coffee_rosette(brief: Brief) -> Picture:
    """Fine looped lines as on a banknote round a coffee bean."""
    canvas, inks = brief.sheet(660, 660), brief.palette
    canvas.cover(canvas.gradient(inks.dark, mix(inks.dark, inks.warm, 0.35)))
    turns = np.linspace(0, 2 * math.pi, 900)
    for layer in range(7):
        loops, depth = brief.whole(7, 16), brief.between(0.03, 0.09)
        for phase in (0, 1.6, 3.1, 4.7):
            reach = 0.2 + 0.035 * layer + depth * np.cos(loops * turns + phase)
            path = zip(
                (0.5 + reach * np.cos(turns)).tolist(),
                (0.44 + reach * np.sin(turns)).tolist(),
                strict=True,
            )
            canvas.line(
                path, 0.0032, mix(inks.bright, inks.accents[layer % 4], 0.5 * (layer % 3) / 2)
            )
    canvas.disc(0.5, 0.44, 0.175, inks.dark)
    canvas.ring(0.5, 0.44, 0.17, 0.008, inks.bright)
    canvas.ellipse(0.5, 0.44, 0.085, 0.125, inks.warm)
    groove = [
        (0.5 + 0.03 * math.sin(4 * t), 0.44 + 0.24 * (t - 0.785) / 1.57)
        for t in np.linspace(0, 1.57, 30)
    ]
    canvas.line(groove, 0.02, inks.dark)
    canvas.box(0.08, 0.83, 0.92, 0.955, inks.dark)
    canvas.lettering(brief.title.upper(), (0.11, 0.85, 0.89, 0.935), inks.light, 0.04)
    return printed(canvas, brief.rng)


def paper_fox(brief: Brief) -> Picture:
    """A fox's head folded out of flat triangles, over its name."""
    canvas, inks = brief.sheet(680, 720), brief.palette
    canvas.cover(canvas.gradient(mix(inks.cool, inks.light, 0.2), mix(inks.cool, inks.dark, 0.3)))
    for k in range(70):
        x, y = (k % 10) / 9, (k // 10) / 8
        shade = mix(inks.cool, inks.light, 0.35 if (k + k // 10) % 2 else 0.12)
        canvas.polygon(motifs.regular(x, y, 0.058, 3, math.pi * ((k + k // 10) % 2)), shade)
    for side in (-1, 1):
        for corners, ink in _fox_half(brief):
            canvas.polygon(
                [(0.5 + side * x, y) for x, y in corners],
                mix(ink, inks.dark, 0.16 if side > 0 else 0),
            )
    canvas.polygon([(0.45, 0.66), (0.55, 0.66), (0.5, 0.73)], inks.dark)
    canvas.box(0, 0.8, 1, canvas.bottom, inks.light)
    canvas.lettering(brief.title.upper(), (0.08, 0.84, 0.92, 0.96), inks.dark, 0.06)
    canvas.centred("books & paper since 1962", 0.99, 0.032, inks.warm, 0.02)
    return printed(canvas, brief.rng)


def _fox_half(brief: Brief) -> list[tuple[list[Point], Colour]]:
    inks = brief.palette
    tan = mix(inks.warm, inks.bright, 0.4)
    return [
        ([(0.14, 0.26), (0.36, 0.06), (0.38, 0.42)], inks.warm),
        ([(0.22, 0.26), (0.34, 0.14), (0.35, 0.34)], inks.dark),
        ([(0.0, 0.3), (0.14, 0.26), (0.0, 0.52)], inks.warm),
        ([(0.14, 0.26), (0.38, 0.42), (0.1, 0.52)], tan),
        ([(0.14, 0.26), (0.1, 0.52), (0.0, 0.52)], mix(inks.warm, inks.dark, 0.2)),
        ([(0.38, 0.42), (0.42, 0.56), (0.1, 0.52)], inks.light),
        ([(0.42, 0.56), (0.2, 0.66), (0.1, 0.52)], mix(inks.light, inks.mid, 0.3)),
        ([(0.1, 0.52), (0.2, 0.66), (0.0, 0.74)], mix(inks.light, inks.mid, 0.1)),
        ([(0.0, 0.52), (0.1, 0.52), (0.0, 0.74)], tan),
        ([(0.08, 0.44), (0.2, 0.4), (0.14, 0.48)], inks.dark),
    ]


def hive_monogram(brief: Brief) -> Picture:
    """A monogram in the middle of a comb of patterned cells."""
    canvas, inks = brief.sheet(760, 600), brief.palette
    canvas.cover(canvas.gradient(inks.dark, mix(inks.dark, inks.warm, 0.3), True))
    size = 0.075
    for row in range(9):
        for column in range(10):
            x = (column + 0.5 * (row % 2)) * size * 1.74
            _cell(brief, canvas, x, row * size * 1.5, size * 0.94)
    canvas.polygon(motifs.regular(0.5, 0.33, 0.27, 6), inks.dark)
    canvas.polygon(motifs.regular(0.5, 0.33, 0.245, 6), inks.bright)
    canvas.polygon(motifs.regular(0.5, 0.33, 0.225, 6), inks.dark)
    canvas.lettering(brief.title[0], (0.4, 0.2, 0.6, 0.44), inks.light, 0.09)
    canvas.box(0.1, 0.64, 0.9, 0.77, inks.dark)
    canvas.lettering(brief.title.upper(), (0.14, 0.665, 0.86, 0.745), inks.bright, 0.05)
    return printed(canvas, brief.rng)


def _cell(brief: Brief, canvas: Canvas, x: float, y: float, size: float) -> None:
    inks, kind = brief.palette, brief.whole(0, 4)
    ink = mix(inks.accents[brief.whole(0, 3)], inks.dark, brief.between(0, 0.5))
    canvas.polygon(motifs.regular(x, y, size, 6), ink)
    tone = mix(ink, inks.light, 0.45)
    if kind == 0:
        canvas.polygon(motifs.regular(x, y, size * 0.6, 6), tone)
        canvas.polygon(motifs.regular(x, y, size * 0.35, 6), ink)
    elif kind == 1:
        for corner in motifs.regular(x, y, size * 0.8, 6):
            canvas.line([(x, y), corner], size * 0.1, tone)
    elif kind == 2:
        for corner in motifs.regular(x, y, size * 0.5, 6):
            canvas.disc(*corner, size * 0.15, tone)
    elif kind == 3:
        canvas.polygon(motifs.star(x, y, size * 0.75, size * 0.3, 6), tone)


def surf_label(brief: Brief) -> Picture:
    """A cut sun over a curling wave in a wide label."""
    canvas, inks = brief.sheet(820, 560), brief.palette
    canvas.cover(canvas.gradient(mix(inks.bright, inks.light, 0.4), inks.light))
    motifs.sunburst(canvas, 0.34, 0.36, 22, mix(inks.bright, inks.light, 0.15))
    canvas.disc(0.34, 0.3, 0.22, canvas.gradient(inks.warm, inks.bright))
    for k in range(6):
        canvas.box(0.1, 0.28 + 0.04 * k, 0.6, 0.286 + 0.044 * k, mix(inks.bright, inks.light, 0.3))
    for k in range(5):
        ink = (inks.dark, inks.light, inks.cool, inks.light, mix(inks.cool, inks.dark, 0.5))[k]
        _curl(canvas, 0.78 - 0.012 * k, 0.36 + 0.018 * k, 0.25 - 0.036 * k, ink)
    for k in range(4):
        motifs.fill_below(
            canvas,
            motifs.hill(brief, 0.46 + 0.022 * k, 0.012),
            (inks.light, inks.cool, inks.light, inks.dark)[k],
        )
    canvas.lettering(brief.title.upper(), (0.06, 0.55, 0.94, 0.65), inks.light, 0.07)
    canvas.caption("BOARDS  *  WAX  *  REPAIR", 0.05, 0.04, 0.03, inks.dark, 0.03)
    return printed(canvas, brief.rng)


def _curl(canvas: Canvas, x: float, y: float, radius: float, ink: Colour) -> None:
    canvas.arc(x, y, radius, radius * 0.3, (150, 400), ink)
    canvas.polygon(
        [
            (x - radius, y),
            (x - radius * 0.7, y),
            (x - radius * 0.4, 0.55),
            (x - radius * 2.6, 0.55),
        ],
        ink,
    )
    canvas.disc(x - radius * 0.72, y + radius * 0.42, radius * 0.15, ink)


def ship_wheel(brief: Brief) -> Picture:
    """A ship's wheel with rope border on a chart's grid."""
    canvas, inks = brief.sheet(620, 760), brief.palette
    canvas.cover(canvas.gradient(mix(inks.cool, inks.dark, 0.35), mix(inks.dark, inks.cool, 0.15)))
    for _ in range(16):
        canvas.arc(
            brief.between(0, 1),
            brief.between(0, 1.2),
            brief.between(0.2, 0.6),
            0.003,
            (brief.between(0, 180), brief.between(200, 360)),
            inks.mid,
        )
    for k in range(56):
        t = k / 56 * 2 * math.pi
        x, y = 0.5 + 0.455 * math.cos(t), 0.5 + 0.455 * math.sin(t)
        canvas.polygon(
            motifs.petal(
                x - 0.03 * math.cos(t + 0.8), y - 0.03 * math.sin(t + 0.8), 0.06, 0.03, t + 0.8
            ),
            inks.light if k % 2 else inks.bright,
        )
    for k in range(8):
        t = k / 8 * 2 * math.pi + 0.2
        tip = (0.5 + 0.4 * math.cos(t), 0.5 + 0.4 * math.sin(t))
        canvas.line([(0.5, 0.5), tip], 0.03, inks.light)
        canvas.disc(*tip, 0.034, inks.warm)
        canvas.polygon(
            motifs.regular(0.5 + 0.2 * math.cos(t), 0.5 + 0.2 * math.sin(t), 0.03, 4, t), inks.warm
        )
    canvas.ring(0.5, 0.5, 0.32, 0.06, inks.light)
    canvas.ring(0.5, 0.5, 0.3, 0.02, inks.warm)
    canvas.disc(0.5, 0.5, 0.12, inks.bright)
    canvas.polygon(motifs.star(0.5, 0.5, 0.11, 0.03, 4), inks.dark)
    canvas.lettering(brief.title.upper(), (0.07, 1.01, 0.93, 1.11), inks.bright, 0.06)
    canvas.centred("SHIP CHANDLERS  -  QUAY 4", 1.15, 0.03, inks.light, 0.02)
    return printed(canvas, brief.rng)


RECIPES = (
    Recipe(summit_badge, ("Highline Co",), ("harbour",)),
    Recipe(brewery_crest, ("Old Barrow",), ("earth",)),
    Recipe(coffee_rosette, ("Kaffihus",), ("earth",)),
    Recipe(paper_fox, ("Foxglove",), ("lagoon",)),
    Recipe(hive_monogram, ("Northcomb",), ("dusk",)),
    Recipe(surf_label, ("Saltwater",), ("coast",)),
    Recipe(ship_wheel, ("Harrow & Sons",), ("night",)),
)
