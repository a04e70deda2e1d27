"""Photos with a part of what they show hidden, as by a finger, a label or a price tag."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.metrics import Outcome, Quad
from indexing.image import Pixels
from indexing.recognition import WORKING_SIDE
from indexing.views import cover
from training.datasets import read_picture

SEED = 2024
# The least and the greatest share of the visible part of each quad that is hidden.
HIDDEN = (0.1, 1 / 3)
ATTEMPTS = 100
# Where what a photo shows was not found: the middle of the photo, half of its area.
MIDDLE = np.array([[0.15, 0.15], [0.85, 0.15], [0.85, 0.85], [0.15, 0.85]], np.float32)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CoveredPhoto:
    """A photo in which each of some quads, float32 [4, 2] in shares of its sides, is partly hidden.

    The same seed hides the same. Calling it reads and draws it.
    """

    photo: Path
    quads: tuple[Quad, ...]
    seed: tuple[int, ...]

    def __call__(self) -> Pixels:
        """The photo, RGB uint8 [height, width, 3], at most 640 on the longer side."""
        pixels = read_picture(self.photo, WORKING_SIDE)
        rng = np.random.default_rng(self.seed)
        for quad in self.quads:
            pixels = partly_hidden(pixels, quad, rng)
        return pixels


def covered_photos(outcomes: Sequence[Outcome]) -> list[CoveredPhoto | None]:
    """Each photo with something hidden; None for those that show nothing registered.

    What was answered rightly is hidden where it was found, in other photos the middle.
    """
    return [
        CoveredPhoto(each.photo, _places(each), (SEED, number)) if each.expected else None
        for number, each in enumerate(outcomes)
    ]


def partly_hidden(photo: Pixels, quad: Quad, rng: np.random.Generator) -> Pixels:
    """A copy of a photo, RGB uint8 [h, w, 3], with a tenth to a third of a quad hidden.

    ``quad`` is float32 [4, 2] in shares of the photo's sides; only what of it is in the photo counts.
    """
    height, width = photo.shape[:2]
    corners = (quad * np.array([width, height]) - 0.5).astype(np.float32)
    inside = _inside(corners, (height, width))
    least, greatest = HIDDEN
    for _ in range(ATTEMPTS):
        drawn = photo.copy()
        cover(drawn, corners, float(rng.uniform(least, greatest)), rng)
        # Fingers reach in from the edge and labels over the quad's: look at what is hidden of it.
        hidden = (drawn != photo).any(axis=2)[inside].mean() if inside.any() else least
        if least <= hidden <= greatest:
            break
    return drawn


def _inside(corners: Quad, shape: tuple[int, int]) -> Mask:
    mask = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(mask, corners.round().astype(np.int32), 1)
    return mask.astype(bool)


def _places(outcome: Outcome) -> tuple[Quad, ...]:
    found = [each.quad for each in outcome.answer.found if each.reference in outcome.expected]
    return tuple(found) or (MIDDLE,)
