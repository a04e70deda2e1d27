"""Colours that go together: every picture takes all of its inks from one palette."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """Six inks by the part they play in a picture."""

    dark: Colour
    light: Colour
    warm: Colour
    cool: Colour
    mid: Colour
    bright: Colour

    @property
    def accents(self) -> tuple[Colour, ...]:
        """The four inks that are neither ground nor outline."""
        return (self.warm, self.cool, self.mid, self.bright)


PALETTES = {
    "harbour": Palette(
        (28, 32, 56),
        (246, 236, 214),
        (226, 88, 62),
        (44, 110, 140),
        (136, 160, 120),
        (250, 190, 70),
    ),
    "dusk": Palette(
        (34, 20, 44), (252, 236, 216), (214, 64, 90), (78, 84, 160), (178, 120, 150), (255, 176, 96)
    ),
    "lagoon": Palette(
        (16, 42, 46),
        (240, 240, 220),
        (230, 120, 50),
        (30, 130, 120),
        (150, 186, 140),
        (246, 210, 100),
    ),
    "earth": Palette(
        (40, 26, 20),
        (250, 232, 200),
        (190, 60, 40),
        (86, 120, 130),
        (190, 150, 100),
        (240, 170, 50),
    ),
    "night": Palette(
        (12, 20, 44),
        (230, 240, 248),
        (240, 100, 80),
        (40, 90, 180),
        (110, 170, 210),
        (255, 214, 90),
    ),
    "meadow": Palette(
        (24, 44, 28), (248, 246, 228), (200, 80, 60), (70, 130, 90), (160, 180, 90), (240, 200, 60)
    ),
    "berry": Palette(
        (48, 16, 32),
        (255, 238, 230),
        (234, 70, 60),
        (100, 60, 120),
        (226, 140, 130),
        (255, 200, 120),
    ),
    "primary": Palette(
        (20, 20, 24), (244, 240, 230), (214, 40, 40), (30, 80, 160), (150, 150, 150), (250, 205, 30)
    ),
    "coast": Palette(
        (30, 50, 70),
        (250, 244, 236),
        (236, 120, 100),
        (60, 140, 170),
        (160, 196, 196),
        (250, 204, 140),
    ),
    "neon": Palette(
        (30, 22, 60),
        (240, 236, 250),
        (240, 80, 140),
        (64, 100, 220),
        (140, 110, 200),
        (110, 230, 200),
    ),
}


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour that lies `share` of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return (red, green, blue)


def ramp(first: Colour, second: Colour, steps: int) -> list[Colour]:
    """Evenly spaced colours from the first to the second, both included."""
    return [mix(first, second, step / max(steps - 1, 1)) for step in range(steps)]
