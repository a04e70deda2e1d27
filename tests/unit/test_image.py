"""Decoding of image files: every usual form gives the same upright RGB pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from indexing.errors import ImageInvalid, ImageTooLarge, ImageTooManyPixels
from indexing.image import MAX_BYTES, decode, scaled

# Lossless where the format is; red to the right, green downwards, so that no two turns are alike.
X, Y = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 32))
PIXELS = np.stack([X, Y, np.full_like(X, 60)], axis=2).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def assert_close(pixels: np.ndarray, expected: np.ndarray, tolerance: int) -> None:
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 12),
        ("JPEG", {"quality": 95}, 12),
        ("JPEG", {"quality": 95, "progressive": True}, 12),
    ],
)
def test_formats(kind: str, options: dict[str, object], tolerance: int) -> None:
    pixels, size = decode(encoded(PICTURE, kind, **options), 640)
    assert pixels.dtype == np.uint8
    assert size == (48, 32)
    assert_close(pixels, PIXELS, tolerance)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(ImageInvalid, match="of another format"):
        decode(encoded(PICTURE, kind), 640)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, PIXELS),
        (2, PIXELS[:, ::-1]),
        (3, PIXELS[::-1, ::-1]),
        (4, PIXELS[::-1]),
        (5, PIXELS.transpose(1, 0, 2)),
        (6, np.rot90(PIXELS, 1)),
        (7, PIXELS[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(PIXELS, -1)),
    ],
)
@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("JPEG", 12), ("WEBP", 12)])
def test_orientations_give_the_same_upright_pixels(
    orientation: int, stored: np.ndarray, kind: str, tolerance: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if kind == "PNG" else {"quality": 95}
    image = Image.fromarray(np.ascontiguousarray(stored))
    pixels, size = decode(encoded(image, kind, exif=exif, **options), 640)
    assert size == (48, 32)
    assert_close(pixels, PIXELS, tolerance)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_that_means_nothing_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, _ = decode(encoded(PICTURE, "PNG", exif=exif), 640)
    assert_close(pixels, PIXELS, 0)


def test_grey_gets_three_equal_channels() -> None:
    grey = PICTURE.convert("L")
    pixels, _ = decode(encoded(grey, "PNG"), 640)
    assert_close(pixels, np.repeat(np.asarray(grey)[..., None], 3, axis=2), 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_mode_of_png_gives_rgb(mode: str) -> None:
    image = PICTURE.convert("I" if mode == "I;16" else mode)
    image = image.convert(mode) if mode == "I;16" else image
    pixels, _ = decode(encoded(image, "PNG"), 640)
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8


def test_sixteen_bits_keep_their_levels() -> None:
    levels = np.asarray(PICTURE.convert("L"), np.uint16) * 257
    pixels, _ = decode(encoded(Image.fromarray(levels), "PNG"), 640)
    assert_close(pixels[..., 0], np.asarray(PICTURE.convert("L")), 0)


def test_cmyk_looks_as_it_is_printed() -> None:
    pixels, _ = decode(encoded(PICTURE.convert("CMYK"), "JPEG", quality=95), 640)
    assert_close(pixels, PIXELS, 16)


def test_transparency_is_laid_on_white() -> None:
    image = PICTURE.copy()
    image.putalpha(Image.fromarray(np.tile(np.repeat([0, 255], 24), (32, 1)).astype(np.uint8)))
    pixels, _ = decode(encoded(image, "PNG"), 640)
    assert (pixels[:, :24] == 255).all()
    assert_close(pixels[:, 24:], PIXELS[:, 24:], 0)


def test_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (4, 0, 8, 8))
    pixels, _ = decode(encoded(image, "PNG", transparency=0), 640)
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == (200, 100, 50)).all()


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    others = [Image.new("RGB", PICTURE.size, "white")]
    options = {"lossless": True} if kind == "WEBP" else {}
    image = encoded(PICTURE, kind, save_all=True, append_images=others, duration=100, **options)
    assert_close(decode(image, 640)[0], PIXELS, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(900, 300), (300, 900)])
def test_large_images_are_scaled_down(kind: str, size: tuple[int, int]) -> None:
    pixels, original = decode(encoded(PICTURE.resize(size), kind), 90)
    assert original == size
    assert sorted(pixels.shape[:2]) == [30, 90]
    assert pixels.flags.c_contiguous


def test_small_images_stay_as_they_are() -> None:
    assert decode(encoded(Image.new("RGB", (1, 1)), "PNG"), 640)[0].shape == (1, 1, 3)


def test_extreme_sides_keep_a_pixel() -> None:
    pixels, size = decode(encoded(Image.new("RGB", (5000, 1)), "PNG"), 640)
    assert pixels.shape == (1, 640, 3)
    assert size == (5000, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageInvalid):
        decode(data[: int(len(data) * share)], 640)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_files_are_refused_or_decoded(kind: str) -> None:
    rng = np.random.default_rng(1)
    data = encoded(PICTURE, kind)
    for _ in range(200):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            pixels, _ = decode(bytes(damaged), 640)
        except (ImageInvalid, ImageTooManyPixels):
            continue
        assert pixels.ndim == 3


def test_empty_file_is_refused() -> None:
    with pytest.raises(ImageInvalid, match="empty"):
        decode(b"", 640)


def test_too_many_bytes_are_refused() -> None:
    image = encoded(PICTURE, "PNG")
    decode(image + bytes(MAX_BYTES - len(image)), 640)
    with pytest.raises(ImageTooLarge):
        decode(image + bytes(MAX_BYTES + 1 - len(image)), 640)


def test_too_many_pixels_are_refused() -> None:
    assert decode(encoded(Image.new("1", (8000, 5000)), "PNG"), 64)[1] == (8000, 5000)
    with pytest.raises(ImageTooManyPixels):
        decode(encoded(Image.new("1", (8000, 5001)), "PNG"), 64)


def test_scaled_shrinks_but_never_enlarges() -> None:
    assert scaled(PIXELS, 24).shape == (16, 24, 3)
    assert scaled(PIXELS, 48) is PIXELS
    assert scaled(PIXELS, 480) is PIXELS
