"""Decoding of image files: every usual form gives the same upright RGB pixels."""

import io
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from indexing import image as image_module
from indexing.errors import ImageInvalid, ImageTooLarge, ImageTooManyPixels
from indexing.image import MAX_BYTES, MAX_SCANS, decode, scaled

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


def progressive(scans: int) -> bytes:
    """A JPEG of so many scans: its last one over and over."""
    data = encoded(PICTURE, "JPEG", progressive=True)
    tables = data.rindex(b"\xff\xc4")
    missing = scans - data.count(b"\xff\xda")
    return data[:-2] + data[tables:-2] * missing + data[-2:]


def test_a_jpeg_may_have_so_many_scans() -> None:
    assert decode(progressive(MAX_SCANS), 640)[1] == PICTURE.size
    with pytest.raises(ImageInvalid, match="scans"):
        decode(progressive(MAX_SCANS + 1), 640)


def test_scans_of_a_picture_within_a_segment_do_not_count() -> None:
    inner = progressive(MAX_SCANS)
    decode(encoded(PICTURE, "JPEG", comment=inner[:60_000]), 640)
    decode(encoded(PICTURE, "JPEG", exif=b"Exif\0\0" + inner[:60_000]), 640)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16", "L"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_image_is_decoded_in_strips_as_a_small_one(
    monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = PICTURE.resize((1201, 799), Image.Resampling.BICUBIC)
    image = picture.convert("I" if mode == "I;16" else mode).convert(mode)
    data = encoded(image, "PNG", exif=exif)
    expected, size = decode(data, 64)
    monkeypatch.setattr(image_module, "LARGE_PIXELS", 1000)
    pixels, same = decode(data, 64)
    assert same == size
    assert_close(pixels, expected, 4)


def test_an_endless_line_is_decoded() -> None:
    pixels, size = decode(encoded(Image.new("1", (30_000_000, 1), 1), "PNG"), 640)
    assert size == (30_000_000, 1)
    assert pixels.shape == (1, 640, 3)
    assert (pixels == 255).all()


BOMBS = """
import io, resource, sys
from PIL import Image
from indexing.image import decode

def made(kind, mode, **options):
    file = io.BytesIO()
    Image.new(mode, (8000, 5000)).save(file, kind, **options)
    return file.getvalue()

turned = Image.Exif()
turned[0x0112] = 6
files = [
    made("PNG", "P", transparency=0),
    made("PNG", "RGBA", exif=turned, compress_level=1),
    made("PNG", "I;16", compress_level=1),
    made("WEBP", "RGBA", lossless=True, method=0),
]
open("/proc/self/clear_refs", "w").write("5")
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
for file in files:
    decode(file, 640)
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(len(files[0]), int(peak[0].split()[1]) * 1024 - before)
"""


def test_bombs_take_bounded_memory() -> None:
    done = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True, check=True)
    smallest, peak = map(int, done.stdout.split())
    assert smallest < 6000
    # The decoder of WebP has the pixels twice, and Pillow again; copies of the whole would be more.
    assert peak < 550_000_000, f"{peak / 1e6:.0f} MB"


def test_large_images_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "LARGE_PIXELS", 1000)
    now, most, lock = 0, 0, threading.Lock()
    reduce = image_module._reduced

    def counted(image: Image.Image, long_side: int) -> Image.Image:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return reduce(image, long_side)

    monkeypatch.setattr(image_module, "_reduced", counted)
    data = encoded(PICTURE, "PNG")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: decode(data, 640), range(16)))
    assert most == image_module.LARGE_AT_A_TIME


def test_scaled_shrinks_but_never_enlarges() -> None:
    assert scaled(PIXELS, 24).shape == (16, 24, 3)
    assert scaled(PIXELS, 48) is PIXELS
    assert scaled(PIXELS, 480) is PIXELS
