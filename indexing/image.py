"""Decoding of untrusted image files into pixels."""

import io
import re
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from indexing.errors import ImageInvalid, ImageTooLarge, ImageTooManyPixels

MAX_BYTES = 8 * 1024 * 1024
MAX_PIXELS = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP")
# A scan costs a pass over all pixels and takes few bytes: 8 MiB have room for an hour of them.
# Encoders write a dozen.
MAX_SCANS = 50
# What is more than this is copied in strips only, and no two of more than this are decoded at a time
# but these: a file of five kilobytes may unfold into hundreds of megabytes.
LARGE_PIXELS = 8_000_000
LARGE_AT_A_TIME = 2
STRIP_ROWS = 64

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_BARE_MARKERS = (b"\x01", b"\xd8")
_large = threading.BoundedSemaphore(LARGE_AT_A_TIME)

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
        if image.format == "JPEG" and _scans(data) > MAX_SCANS:
            raise ImageInvalid(problem=f"It has more than {MAX_SCANS} scans.")
        image.draft("RGB", (long_side, long_side))
        orientation = image.getexif().get(_ORIENTATION, 1)
        with _turn(image):
            image.load()
            rgb = _reduced(image, long_side) if _is_large(image) else _to_rgb(image)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    rgb.thumbnail((long_side, long_side), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(rgb), size


def _scans(data: bytes) -> int:
    """How many scans a JPEG has, as far as one counts: up to its end, or MAX_SCANS and one."""
    scans, place = 0, 2
    while scans <= MAX_SCANS and (found := _MARKER.search(data, place)):
        place, marker = found.end(), found[1]
        if marker == b"\xd9":
            break
        scans += marker == b"\xda"
        if marker not in _BARE_MARKERS:
            # Its segment, which may have a picture of its own.
            place += int.from_bytes(data[place : place + 2], "big")
    return scans


def _is_large(image: Image.Image) -> bool:
    return image.width * image.height > LARGE_PIXELS


def _turn(image: Image.Image) -> AbstractContextManager[object]:
    """Waits where the image is large and others are being decoded."""
    return _large if _is_large(image) else nullcontext()


def _reduced(image: Image.Image, long_side: int) -> Image.Image:
    """RGB of a large image, shrunk to at least twice ``long_side``, without a copy of the whole."""
    factor = max(1, max(image.size) // (2 * long_side))
    width, height = image.size
    reduced = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top in range(0, height, factor * STRIP_ROWS):
        strip = image.crop((0, top, width, min(height, top + factor * STRIP_ROWS)))
        reduced.paste(_to_rgb(strip).reduce(factor), (0, top // factor))
    return reduced


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        levels = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(levels).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def scaled(pixels: Pixels, long_side: int) -> Pixels:
    """Scales uint8 [height, width, ...] down to at most ``long_side`` pixels on its longer side."""
    import cv2

    height, width = pixels.shape[:2]
    factor = long_side / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
