"""How pictures are scaled for a network."""

from dataclasses import dataclass

import cv2
import numpy as np

from indexing.image import Pixels

# Sides are multiples of it where a picture keeps its aspect, so that few shapes make a batch each.
SIDE_STEP = 8
# A picture that is longer is squashed to it: a network sees little in a strip.
GREATEST_ASPECT = 2.5


@dataclass(frozen=True, slots=True)
class Framing:
    """How pictures, RGB uint8 [h, w, 3], are scaled for a network.

    Photos get as many pixels as a square of ``input_size`` has, references, which fill their frame,
    those of ``reference_size``: things have about as many pixels in both (Touvron et al., 2019). They
    keep their aspect, or become those squares.
    """

    input_size: int
    reference_size: int
    keep_aspect: bool = False

    def photo(self, picture: Pixels) -> Pixels:
        """A photo as the network takes it."""
        return self._scaled(picture, self.input_size)

    def reference(self, picture: Pixels) -> Pixels:
        """A clean picture that fills its frame, as the network takes it."""
        return self._scaled(picture, self.reference_size)

    def _scaled(self, picture: Pixels, side: int) -> Pixels:
        size = _scaled_size(picture, side) if self.keep_aspect else (side, side)
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _scaled_size(picture: Pixels, side: int) -> tuple[int, int]:
    """The width and height of about side² pixels that have a picture's aspect."""
    height, width = picture.shape[:2]
    aspect = min(GREATEST_ASPECT, max(1 / GREATEST_ASPECT, width / height))
    steps = side / SIDE_STEP
    return SIDE_STEP * round(steps * aspect**0.5), SIDE_STEP * round(steps / aspect**0.5)
