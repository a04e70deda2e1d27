"""Posters of films."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.artwork import motifs
from benchmarks.artwork.brief import Brief, Recipe
from benchmarks.artwork.canvas import Canvas, Field, Picture, printed
from benchmarks.artwork.palette import mix
from benchmarks.artwork.posters import fitted


def noir(brief: Brief) -> Picture:
    """A figure in a hat under a lamp, in halftone, before a lit town: a crime film."""
    canvas, inks = brief.sheet(600, 880), brief.palette
    lamp_x = 0.5 + brief.between(-0.2, 0.2)

    def light(x: Field, y: Field) -> Field:
        near: Field = 1.05 - np.hypot(x - lamp_x, (y - 0.3) * 0.7) * 1.25
        return near

    canvas.cover(canvas.halftone(light, 0.018, inks.dark, inks.warm))
    canvas.disc(lamp_x, 0.53, 0.25, inks.bright)
    motifs.skyline(brief, canvas, 0.98, 0.46, mix(inks.dark, (0, 0, 0), 0.5), inks.bright)
    street = [(0.2, 0.95), (0.8, 0.95), (1.3, canvas.bottom), (-0.3, canvas.bottom)]
    canvas.polygon(
        street, canvas.stripes(0.045, math.pi / 2, inks.warm, mix(inks.warm, inks.dark, 0.4))
    )
    _figure(canvas, 1 - lamp_x, 1.22, 0.62, (10, 8, 12))
    fitted(canvas, brief.title, 0.05, 0.15, inks.light)
    canvas.box(0, 1.27, 1, canvas.bottom, (10, 8, 12))
    fitted(canvas, "no one leaves the harbour tonight", 1.3, 0.04, inks.bright, weight=0.02)
    fitted(
        canvas,
        "a picture by ada marlowe  with j. quint  l. serra  t. vane",
        1.37,
        0.024,
        inks.light,
        0.12,
        0.0,
    )
    return printed(canvas, brief.rng, 6)


def _figure(
    canvas: Canvas, x: float, foot: float, height: float, ink: tuple[int, int, int]
) -> None:
    h = height
    coat = [
        (-0.07, -0.8),
        (0.07, -0.8),
        (0.19, -0.72),
        (0.22, -0.35),
        (0.15, -0.33),
        (0.21, -0.12),
        (-0.21, -0.12),
        (-0.15, -0.33),
        (-0.22, -0.35),
        (-0.19, -0.72),
    ]
    canvas.polygon([(x + dx * h, foot + dy * h) for dx, dy in coat], ink)
    for side in (-1, 1):
        canvas.box(
            x + side * 0.09 * h - 0.04 * h,
            foot - 0.14 * h,
            x + side * 0.09 * h + 0.04 * h,
            foot,
            ink,
        )
    canvas.ellipse(x, foot - 0.87 * h, 0.065 * h, 0.09 * h, ink)
    canvas.ellipse(x, foot - 0.92 * h, 0.16 * h, 0.026 * h, ink)
    canvas.polygon(
        [
            (x - 0.08 * h, foot - 0.92 * h),
            (x - 0.06 * h, foot - 1.03 * h),
            (x + 0.06 * h, foot - 1.03 * h),
            (x + 0.08 * h, foot - 0.92 * h),
        ],
        ink,
    )


def far_planet(brief: Brief) -> Picture:
    """A ringed planet, small moons and a rocket's trail: a film about space."""
    canvas, inks = brief.sheet(600, 860), brief.palette
    canvas.cover(canvas.gradient((8, 8, 24), mix(inks.cool, inks.dark, 0.4)))
    for _ in range(320):
        canvas.disc(
            brief.between(0, 1),
            brief.between(0, 1.43),
            abs(brief.rng.normal(0, 0.002)) + 0.0008,
            inks.light,
        )
    x, y, radius = brief.between(0.4, 0.65), 0.62, 0.3
    canvas.glow(x, y, 0.6, inks.warm, 0.6)
    _ringed(canvas, x, y, radius, brief)
    ground = motifs.ridge(brief, 1.14, 0.12)
    motifs.fill_below(canvas, ground, inks.warm)
    motifs.fill_below(canvas, motifs.ridge(brief, 1.24, 0.1), mix(inks.warm, inks.dark, 0.75))
    trail = [(0.1 + 0.45 * t, 1.2 - 1.0 * t**0.6) for t in np.linspace(0, 1, 30)]
    for k in range(1, len(trail)):
        canvas.line(trail[k - 1 : k + 1], 0.022 - 0.0006 * k, mix(inks.warm, inks.light, k / 30))
    canvas.polygon(
        motifs.petal(trail[-1][0] - 0.03, trail[-1][1] + 0.04, 0.12, 0.05, -0.75), inks.light
    )
    fitted(canvas, brief.title, 1.26, 0.1, inks.light, 0.08)
    canvas.centred("THE LONGEST ROAD HAS NO GROUND", 0.06, 0.026, inks.bright, 0.02)
    return printed(canvas, brief.rng)


def _ringed(canvas: Canvas, x: float, y: float, radius: float, brief: Brief) -> None:
    inks = brief.palette
    bands = canvas.gradient(inks.bright, inks.warm)
    canvas.disc(x, y, radius, bands)
    for k in range(9):
        level = -0.8 + 0.2 * k
        reach = radius * math.sqrt(1 - level**2)
        canvas.ellipse(
            x,
            y + radius * level,
            reach * 0.98,
            radius * brief.between(0.02, 0.06),
            mix(inks.warm, inks.mid, 0.25 * (k % 4)),
        )
    canvas.disc(x - radius * 0.3, y + radius * 0.3, radius * 0.16, mix(inks.warm, inks.dark, 0.4))
    tilt = -0.35
    for ring in range(5):
        reach = radius * (1.35 + 0.1 * ring)
        sweep = np.linspace(-0.15, math.pi + 0.15, 60)
        path = [
            (
                x
                + reach * math.cos(a) * math.cos(tilt)
                - reach * 0.28 * math.sin(a) * math.sin(tilt),
                y
                + reach * math.cos(a) * math.sin(tilt)
                + reach * 0.28 * math.sin(a) * math.cos(tilt),
            )
            for a in sweep
        ]
        canvas.line(path, 0.012, (inks.light, inks.bright, inks.mid)[ring % 3])


RECIPES = (
    Recipe(noir, ("The Last Ferry",), ("berry",)),
    Recipe(far_planet, ("Beyond Perihelion",), ("dusk",)),
)
