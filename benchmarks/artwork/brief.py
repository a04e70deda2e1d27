"""What a picture is drawn from, and the recipes that turn it into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.artwork.canvas import Canvas, Picture
from benchmarks.artwork.palette import Palette


@dataclass(frozen=True)
class Brief:
    """The order for one picture: its dice, its inks and the words on it."""

    rng: np.random.Generator
    palette: Palette
    title: str

    def between(self, low: float, high: float) -> float:
        """A number thrown evenly between two bounds."""
        return float(self.rng.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """A whole number thrown evenly from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def heads(self) -> bool:
        """The toss of a coin."""
        return bool(self.rng.integers(2))

    def sheet(self, width: int, height: int) -> Canvas:
        """An empty sheet in the palette's lightest colour."""
        return Canvas(width, height, self.palette.light)


@dataclass(frozen=True)
class Recipe:
    """A composition: how it is drawn, the titles it may bear, the palettes that suit it."""

    draw: Callable[[Brief], Picture]
    titles: tuple[str, ...]
    palettes: tuple[str, ...]
