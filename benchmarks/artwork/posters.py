"""Posters of concerts, exhibitions and journeys."""

from __future__ import annotations

import itertools

from benchmarks.artwork import motifs
from benchmarks.artwork.brief import Brief, Recipe
from benchmarks.artwork.canvas import Canvas, Picture, printed, type_width
from benchmarks.artwork.palette import mix, ramp

SHOWS = {
    "Weimar 23": "form colour workshop  |  hall four  |  open daily",
    "Form & Play": "wooden toys by ten makers  -  until december",
}
TOWNS = ("LISBON", "OSLO", "GHENT", "TURIN", "PORTO", "LYON", "GRAZ", "KRAKOW")


def fitted(
    canvas: Canvas,
    text: str,
    y: float,
    size: float,
    fill: tuple[int, int, int],
    margin: float = 0.07,
    weight: float = 0.05,
) -> None:
    """Sets a headline from margin to margin, however long it is."""
    canvas.lettering(text.upper(), (margin, y, 1 - margin, y + size), fill, weight)


def jazz_night(brief: Brief) -> Picture:
    """A record in a sunburst under stacked headlines."""
    canvas, inks = brief.sheet(600, 840), brief.palette
    canvas.cover(canvas.gradient(inks.warm, mix(inks.warm, inks.dark, 0.35)))
    x, y = brief.between(0.35, 0.65), 0.78
    motifs.sunburst(canvas, x, y, brief.whole(14, 20), inks.bright)
    canvas.disc(x, y, 0.47, inks.light)
    motifs.record(canvas, x, y, 0.43, (inks.dark, inks.cool))
    canvas.ring_lettering("LONG PLAY STEREO * SIDE A *", x, y, 0.12, 0.034, (-90, 270), inks.light)
    arm = [(x + 0.4, y - 0.42), (x + 0.34, y - 0.05), (x + 0.2, y + 0.14)]
    canvas.line(arm, 0.022, inks.dark)
    canvas.line(arm, 0.01, inks.mid)
    canvas.disc(x + 0.4, y - 0.42, 0.05, inks.dark)
    _headlines(canvas, brief)
    return printed(canvas, brief.rng)


def _headlines(canvas: Canvas, brief: Brief) -> None:
    inks = brief.palette
    canvas.box(0, 0, 1, 0.34, inks.dark)
    fitted(canvas, brief.title, 0.05, 0.15, inks.light)
    fitted(canvas, "three nights of brass and strings", 0.24, 0.045, inks.bright, weight=0.02)
    canvas.box(0, 1.22, 1, canvas.bottom, inks.dark)
    for k in range(3):
        date = f"{brief.whole(1, 28)} {('MAY', 'JUNE', 'JULY')[k]}"
        canvas.centred(date, 1.26, 0.05, inks.bright, 0.04, 0.2 + 0.3 * k)
        canvas.centred(TOWNS[brief.whole(0, 7)], 1.335, 0.028, inks.light, 0.02, 0.2 + 0.3 * k)


def alpine_rail(brief: Brief) -> Picture:
    """Flat layered mountains with a viaduct and a train: a railway poster."""
    canvas, inks = brief.sheet(620, 860), brief.palette
    canvas.cover(canvas.gradient(mix(inks.cool, inks.light, 0.25), inks.bright))
    sun = brief.between(0.25, 0.75)
    motifs.sunburst(canvas, sun, 0.4, 18, mix(inks.bright, mix(inks.cool, inks.light, 0.5), 0.55))
    canvas.disc(sun, 0.4, 0.17, inks.light)
    for depth, ink in enumerate(
        ramp(mix(inks.cool, inks.light, 0.45), mix(inks.dark, inks.cool, 0.3), 4)
    ):
        line = motifs.ridge(brief, 0.58 + 0.11 * depth, 0.26 - 0.05 * depth)
        motifs.fill_below(canvas, line, ink)
        if depth < 2:
            _snow(canvas, line, 0.58 + 0.11 * depth, inks.light)
    _viaduct(canvas, 0.98, brief)
    motifs.fill_below(canvas, motifs.hill(brief, 1.12, 0.03), inks.dark)
    for k in range(16):
        motifs.fir(
            canvas,
            k / 15 + brief.between(-0.02, 0.02),
            1.17,
            brief.between(0.08, 0.18),
            mix(inks.dark, inks.mid, 0.1 * (k % 3)),
        )
    canvas.box(0, 1.15, 1, canvas.bottom, inks.dark)
    fitted(canvas, brief.title, 1.18, 0.12, inks.bright)
    canvas.centred("BY MOUNTAIN RAILWAY, ALL THE YEAR", 1.328, 0.026, inks.light, 0.02)
    return printed(canvas, brief.rng)


def _snow(
    canvas: Canvas, line: list[tuple[float, float]], level: float, ink: tuple[int, int, int]
) -> None:
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        depth = max(0.0, (level - 0.05 - (y0 + y1) / 2)) * 0.5
        canvas.polygon([(x0, y0), (x1, y1), (x1, y1 + depth), (x0, y0 + depth * 0.7)], ink)


def _viaduct(canvas: Canvas, rail: float, brief: Brief) -> None:
    inks, stone = brief.palette, mix(brief.palette.light, brief.palette.mid, 0.5)
    canvas.box(0, rail, 1, rail + 0.035, stone)
    for k in range(9):
        x = k / 8
        canvas.box(x - 0.016, rail, x + 0.016, canvas.bottom, stone)
        canvas.arc(x + 0.0625, rail + 0.075, 0.062, 0.014, (180, 360), stone)
        canvas.box(x + 0.004, rail + 0.02, x + 0.016, canvas.bottom, mix(stone, inks.dark, 0.3))
    start = brief.between(0.0, 0.3)
    for car in range(5):
        left = start + car * 0.13
        canvas.box(left, rail - 0.05, left + 0.12, rail - 0.006, inks.warm)
        canvas.box(left, rail - 0.058, left + 0.12, rail - 0.05, inks.dark)
        for pane in range(5):
            canvas.box(
                left + 0.012 + pane * 0.021,
                rail - 0.042,
                left + 0.026 + pane * 0.021,
                rail - 0.025,
                inks.light,
            )


def workshop(brief: Brief) -> Picture:
    """A grid of quarter circles, bars and dots: an exhibition of the geometric school."""
    canvas, inks = brief.sheet(600, 800), brief.palette
    side = 1 / 5
    for cell in range(25):
        left, top = (cell % 5) * side, (cell // 5) * side
        ground, ink = brief.rng.permutation(5)[:2]
        colours = (*inks.accents, inks.light)
        canvas.box(left, top, left + side, top + side, colours[ground])
        _tile(brief, canvas, (left, top, side), (colours[ink], inks.dark))
    canvas.box(0, 1, 1, canvas.bottom, inks.dark)
    fitted(canvas, brief.title, 1.045, 0.14, inks.light, 0.07)
    fitted(
        canvas,
        SHOWS[brief.title],
        1.23,
        0.035,
        inks.bright,
        weight=0.01,
    )
    return printed(canvas, brief.rng)


def _tile(
    brief: Brief,
    canvas: Canvas,
    place: tuple[float, float, float],
    colours: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> None:
    left, top, side = place
    x, y, first, second = left + side / 2, top + side / 2, *colours
    corner = brief.whole(0, 3)
    pin = (left + side * (corner in (1, 2)), top + side * (corner in (2, 3)))
    kind = brief.whole(0, 6)
    if kind < 2:
        for k, share in enumerate((1.0, 0.66, 0.33) if kind else (1.0, 0.5)):
            canvas.wedge(
                *pin, side * share * 0.995, (90 * corner, 90 * corner + 90), (first, second)[k % 2]
            )
    elif kind == 2:
        canvas.disc(x, y, side * 0.42, first)
        canvas.wedge(x, y, side * 0.42, (90 * corner, 90 * corner + 180), second)
    elif kind == 3:
        for k in range(4):
            canvas.box(
                left + side * k / 4,
                top,
                left + side * (k + 0.5) / 4,
                top + side,
                first if k % 2 else second,
            )
    elif kind == 4:
        canvas.polygon([(left, top), (left + side, top), pin, (left, top + side)], first)
        canvas.disc(x, y, side * 0.2, second)
    elif kind == 5:
        for k in range(9):
            canvas.disc(
                left + side * (0.2 + 0.3 * (k % 3)),
                top + side * (0.2 + 0.3 * (k // 3)),
                side * 0.1,
                (first, second)[k % 2],
            )
    else:
        canvas.polygon(motifs.star(x, y, side * 0.48, side * 0.2, 8), first)
        canvas.disc(x, y, side * 0.13, second)


def night_city(brief: Brief) -> Picture:
    """A city by the water at night, with its lights in it: a journey by air."""
    canvas, inks = brief.sheet(600, 820), brief.palette
    canvas.cover(canvas.gradient(inks.dark, mix(inks.warm, inks.bright, 0.4)))
    for _ in range(120):
        canvas.disc(
            brief.between(0, 1), brief.between(0, 0.5), brief.between(0.001, 0.004), inks.light
        )
    canvas.disc(brief.between(0.15, 0.85), 0.5, 0.16, inks.light)
    motifs.skyline(brief, canvas, 0.95, 0.5, mix(inks.cool, inks.dark, 0.3), inks.bright)
    motifs.skyline(brief, canvas, 0.95, 0.28, inks.dark, inks.warm)
    canvas.box(0, 0.95, 1, canvas.bottom, mix(inks.dark, inks.cool, 0.35))
    for _ in range(190):
        x, y = brief.between(0, 1), brief.between(0.96, 1.35)
        ink = mix(
            inks.cool,
            (inks.bright, inks.warm, inks.light)[brief.whole(0, 2)],
            brief.between(0.2, 0.9),
        )
        canvas.line([(x, y), (x + brief.between(0.02, 0.09), y)], 0.006, ink)
    canvas.box(0.07, 1.05, 0.93, 1.3, inks.light)
    canvas.box(0.08, 1.06, 0.92, 1.29, inks.warm)
    fitted(canvas, brief.title, 1.085, 0.12, inks.light, 0.12)
    fitted(canvas, "three hours away  -  every evening", 1.235, 0.03, inks.dark, 0.12, 0.02)
    return printed(canvas, brief.rng)


def sound_rings(brief: Brief) -> Picture:
    """Broken rings that spread from a corner, lettered in a narrow column: a new music season."""
    canvas, inks = brief.sheet(640, 900), brief.palette
    canvas.cover(canvas.gradient(mix(inks.light, inks.mid, 0.15), inks.light))
    x, y = brief.between(0.5, 0.9), brief.between(0.9, 1.0)
    for k in range(19):
        radius = 0.94 - 0.049 * k
        headroom = radius < y - 0.28
        for _ in range(brief.whole(2, 5)):
            start = brief.between(0, 360 if headroom else 90)
            sweep = brief.between(30, 140 if headroom else 90)
            canvas.arc(
                x,
                y,
                radius,
                0.04,
                (start, start + sweep),
                (*inks.accents, inks.dark)[brief.whole(0, 4)],
            )
    canvas.disc(x, y, 0.045, inks.dark)
    fitted(canvas, brief.title, 0.06, 0.19, inks.dark, 0.06, 0.06)
    for k, town in enumerate(TOWNS[:6]):
        top = 0.33 + 0.055 * k
        plate = 0.12 + type_width(town, 0.03, 0.02)
        canvas.box(0.05, top - 0.012, 0.09 + plate, top + 0.042, inks.light)
        canvas.caption(f"{brief.whole(1, 30):02d}", 0.06, top, 0.03, inks.warm, 0.04)
        canvas.caption(town, 0.14, top, 0.03, inks.dark, 0.02)
    return printed(canvas, brief.rng)


def lighthouse(brief: Brief) -> Picture:
    """A striped lighthouse on a rock over patterned waves: a seaside poster."""
    canvas, inks = brief.sheet(700, 860), brief.palette
    canvas.cover(canvas.gradient(mix(inks.cool, inks.light, 0.2), inks.light))
    x = brief.between(0.55, 0.75)
    motifs.sunburst(canvas, x, 0.36, 11, mix(inks.bright, inks.light, 0.35))
    for k in range(7):
        sides = [x - 0.075 - 0.008 * k, x + 0.075 + 0.008 * k]
        canvas.box(
            sides[0], 0.42 + 0.07 * k, sides[1], 0.49 + 0.07 * k, inks.warm if k % 2 else inks.light
        )
        canvas.box(
            sides[1] - 0.035,
            0.42 + 0.07 * k,
            sides[1],
            0.49 + 0.07 * k,
            mix(inks.warm if k % 2 else inks.light, inks.dark, 0.25),
        )
    canvas.box(x - 0.1, 0.4, x + 0.1, 0.425, inks.dark)
    canvas.box(x - 0.055, 0.31, x + 0.055, 0.4, inks.bright)
    canvas.wedge(x, 0.31, 0.07, (180, 360), inks.dark)
    rock = [
        (x - 0.4, 1.0),
        (x - 0.22, 0.86),
        (x - 0.1, 0.89),
        (x + 0.12, 0.83),
        (x + 0.25, 0.92),
        (x + 0.5, 1.0),
    ]
    canvas.polygon(rock, inks.dark)
    for row in range(7):
        _scales(canvas, 0.95 + 0.055 * row, row, brief)
    fitted(canvas, brief.title, 0.06, 0.13, inks.dark, 0.07)
    canvas.caption("SUMMER BY THE SEA", 0.07, 0.222, 0.033, inks.dark, 0.03)
    return printed(canvas, brief.rng)


def _scales(canvas: Canvas, y: float, row: int, brief: Brief) -> None:
    inks = brief.palette
    for k in range(-1, 9):
        x = (k + 0.5 * (row % 2)) / 8
        for ring, ink in enumerate(
            (inks.cool, inks.light, mix(inks.cool, inks.dark, 0.4), inks.mid)
        ):
            canvas.disc(x, y + 0.07, 0.075 - 0.018 * ring, ink)


RECIPES = (
    Recipe(jazz_night, ("Blue Lantern Jazz",), ("harbour",)),
    Recipe(alpine_rail, ("Valdora",), ("lagoon",)),
    Recipe(workshop, ("Weimar 23", "Form & Play"), ("primary", "coast")),
    Recipe(night_city, ("Marenza",), ("neon",)),
    Recipe(sound_rings, ("Resonance",), ("primary",)),
    Recipe(lighthouse, ("Cape Solace",), ("coast",)),
)
