"""Decoding of untrusted image files into pixels."""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from indexing.errors import ImageInvalid, ImageTooLarge, ImageTooManyPixels

MAX_BYTES = 8 * 1024 * 1024
MAX_PIXELS = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP")

Pixels = npt.NDArray[np.uint8]

# The limit below is checked on the header; Pillow's own would only warn about it first.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def decode(data: bytes, long_side: int) -> tuple[Pixels, tuple[int, int]]:
    """Decodes a JPEG, PNG or WebP file, scaled down to at most ``long_side`` pixels.

    Returns RGB pixels, uint8 [height, width, 3], upright by their EXIF orientation, and the
    (width, height) of the upright original. Transparency is laid on white; of an animation the
    first frame is taken.

    Raises ImageInvalid, ImageTooLarge or ImageTooManyPixels, before any pixel is decoded where
    the header tells.
    """
    if len(data) > MAX_BYTES:
        raise ImageTooLarge(size=len(data), limit=MAX_BYTES)
    if not data:
        raise ImageInvalid(problem="It is empty.")
    try:
        return _decode(data, long_side)
    except UnidentifiedImageError:
        raise ImageInvalid(problem="It is of another format.") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError):
        raise ImageInvalid(problem="It is truncated or damaged.") from None


def _decode(data: bytes, long_side: int) -> tuple[Pixels, tuple[int, int]]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageTooManyPixels(width=width, height=height)
        image.draft("RGB", (long_side, long_side))
        orientation = image.getexif().get(0x0112, 1)
        image.load()
        upright = ImageOps.exif_transpose(_to_rgb(image) if orientation == 1 else image)
        rgb = _to_rgb(upright)
    size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    rgb.thumbnail((long_side, long_side), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(rgb), size


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        levels = np.clip(np.asarray(image, np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(levels).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def scaled(pixels: Pixels, long_side: int) -> Pixels:
    """Scales uint8 [height, width, 3] down to at most ``long_side`` pixels on its longer side."""
    import cv2

    height, width = pixels.shape[:2]
    factor = long_side / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
