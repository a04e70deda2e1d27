"""Surfaces that a rendered thing lies on, RGB uint8 [height, width, 3] of a (width, height)."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Size = tuple[int, int]

WOOD = np.array([150, 105, 65])
# Letters by about how often a text has them.
LETTERS = "eeeeeetttttaaaaooooiiiinnnnssshhhrrrdddlluuccmmwwffggyyppbbvk"
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)


def _gradient(size: Size, rng: np.random.Generator) -> Picture:
    return _cloud(size, (2, 2), rng)


def _blotches(size: Size, rng: np.random.Generator) -> Picture:
    grid = int(rng.integers(3, 10)), int(rng.integers(3, 10))
    coarse, fine = _cloud(size, grid, rng), _cloud(size, (40, 30), rng)
    return np.asarray(cv2.addWeighted(coarse, 0.6, fine, 0.4, 0), np.uint8)


def _wood(size: Size, rng: np.random.Generator) -> Picture:
    long, short = max(size), min(size)
    grain = rng.normal(1, rng.uniform(0.03, 0.2), (short, 4, 1))
    tone = WOOD * rng.uniform(0.4, 1.5) * rng.uniform(0.85, 1.15, 3)
    planks = cv2.resize(to_bytes(grain * tone), (long, short), interpolation=cv2.INTER_CUBIC)
    lying = planks if rng.random() < 0.5 else planks[:, ::-1].transpose(1, 0, 2)
    return np.asarray(cv2.resize(lying, size), np.uint8)


def _plain(size: Size, rng: np.random.Generator) -> Picture:
    grain = rng.normal(0, rng.uniform(0, 12), (size[1], size[0], 1))
    return to_bytes(grain + rng.uniform(20, 245) + rng.uniform(-20, 20, 3))


def _cloud(size: Size, grid: Size, rng: np.random.Generator) -> Picture:
    middle, spread = rng.uniform(50, 205) + rng.uniform(-45, 45, 3), rng.uniform(5, 60)
    shades = rng.normal(0, spread, (grid[1], grid[0], int(rng.choice([1, 3]))))
    coarse = to_bytes(middle + shades)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _page(size: Size, rng: np.random.Generator) -> Picture:
    """Paper with lines of print: letters resemble letters, and many things bear some."""
    paper, ink = rng.uniform(190, 250) + rng.uniform(-15, 15, 3), rng.uniform(10, 90)
    lying = rng.random() < 0.5
    width, height = size[::-1] if lying else size
    page = to_bytes(np.broadcast_to(paper, (height, width, 3)))
    font, scale = FONTS[int(rng.integers(len(FONTS)))], float(np.exp(rng.uniform(-1.2, 0.3)))
    step = max(8, round(34 * scale))
    for line in range(step, height + step, step):
        words = ("".join(rng.choice(list(LETTERS), rng.integers(1, 10))) for _ in range(16))
        text = " ".join(words).capitalize() if rng.random() < 0.2 else " ".join(words)
        start = round(rng.uniform(0.02, 0.06) * width)
        cv2.putText(page, text, (start, line), font, scale, (ink, ink, ink), 1, cv2.LINE_AA)
    return np.ascontiguousarray(page.transpose(1, 0, 2)[:, ::-1]) if lying else page


def to_bytes(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Levels of any shape, rounded and clipped to uint8."""
    return values.round().clip(0, 255).astype(np.uint8)


SURFACES: tuple[Callable[[Size, np.random.Generator], Picture], ...] = (
    _gradient,
    _blotches,
    _wood,
    _plain,
    _page,
)
