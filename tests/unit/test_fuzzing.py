"""Damaged and hostile bytes where bytes come from outside: only domain errors, and no leak.

``pytest tests/unit/test_fuzzing.py --fuzz-inputs 50000`` tries more than by default.
"""

import random
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from indexing.bundle import DEFAULT_BUNDLE, MANIFEST, TENSORS, load_bundle
from indexing.errors import (
    ArchiveDamaged,
    ArchiveInvalid,
    BundleInvalid,
    FieldInvalid,
    ImageInvalid,
    ImageTooManyPixels,
    PageTokenInvalid,
)
from indexing.image import decode
from server import conversions as convert
from server.filters import parsed_filter
from tests.mutation import mutated
from tests.unit.test_archive import archived, read
from tests.unit.test_image import PICTURE, encoded

MEGABYTE = 1_000_000
LEAK_MB = 40
SECONDS = 5.0


def pictures() -> list[bytes]:
    """Small files of every form that decoders have code of their own for."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    turned[0x010E] = "described"
    frames = [PICTURE.rotate(90), PICTURE.rotate(180)]
    palette = PICTURE.convert("P", palette=Image.Palette.ADAPTIVE)
    grey = PICTURE.convert("L")
    return [
        encoded(noise, "JPEG", quality=90),
        encoded(PICTURE, "JPEG", progressive=True, exif=turned, comment=b"c"),
        encoded(PICTURE.convert("CMYK"), "JPEG"),
        encoded(grey, "JPEG", restart_marker_blocks=1),
        encoded(PICTURE, "PNG", exif=turned, dpi=(72, 72)),
        encoded(palette, "PNG", transparency=0),
        encoded(grey.convert("LA"), "PNG"),
        encoded(Image.fromarray(np.asarray(grey, np.uint16) * 257), "PNG"),
        encoded(PICTURE, "PNG", save_all=True, append_images=frames),
        encoded(noise, "WEBP", quality=50),
        encoded(PICTURE.convert("RGBA"), "WEBP", lossless=True, exif=turned),
        encoded(PICTURE, "WEBP", save_all=True, append_images=frames),
    ]


def test_decoding(fuzz_inputs: int) -> None:
    sound = pictures()
    for image in sound:
        decode(image, 640)
    decoded = 0
    memory = 0
    for number in range(fuzz_inputs):
        if number == fuzz_inputs // 4:
            memory = psutil.Process().memory_info().rss
        start = time.thread_time()
        try:
            pixels, _ = decode(mutated(sound, number), 640)
        except (ImageInvalid, ImageTooManyPixels):
            continue
        finally:
            assert time.thread_time() - start < SECONDS, f"input {number}"
        assert pixels.dtype == np.uint8, f"input {number}"
        assert pixels.ndim == 3, f"input {number}"
        assert max(pixels.shape[:2]) <= 640, f"input {number}"
        decoded += 1
    grown = psutil.Process().memory_info().rss - memory
    assert grown < LEAK_MB * MEGABYTE, f"{grown / MEGABYTE:.0f} MB"
    # Neither so hard that nothing gets past the headers, nor so gentle that nothing is wrong.
    assert 0.1 < decoded / fuzz_inputs < 0.9


async def test_archives(fuzz_inputs: int) -> None:
    sound = [archived(), archived([])]
    refused = 0
    for number in range(fuzz_inputs // 2):
        try:
            await read(mutated(sound, number), 4096)
        except (ArchiveInvalid, ArchiveDamaged):
            refused += 1
    assert refused > fuzz_inputs // 4


def test_bundles(fuzz_inputs: int, tmp_path: Path) -> None:
    shutil.copytree(DEFAULT_BUNDLE, tmp_path, dirs_exist_ok=True)
    manifest = (tmp_path / MANIFEST).read_bytes()
    tensors = (tmp_path / TENSORS).read_bytes()
    (tmp_path / TENSORS).write_bytes(tensors[:100_000])
    for number in range(fuzz_inputs // 5):
        (tmp_path / MANIFEST).write_bytes(mutated([manifest], number))
        with pytest.raises(BundleInvalid):
            load_bundle(tmp_path)


WORDS = [
    "acme", "publishers", "/", "references", "..", "%2e", "\0", "\n", "é", "\u202e", "🖼", " ",
    "active", "=", "true", "AND", "id", '"', "*", "metadata", ".", ":", "\\", "'", ";--", "(",
    "https://", "javascript:", "data:", "[", "::1", "a" * 3000, "-1", "9" * 400, "=" * 50,
]  # fmt: skip


CHECKS: dict[str, Callable[[str], object]] = {
    "name": lambda text: convert.parsed_name("name", text, "publishers", "references"),
    "id": lambda text: convert.checked_id("id", text),
    "link": lambda text: convert.checked_link("link", text),
    "metadata": lambda text: convert.checked_metadata("metadata", {text[:70]: text}),
    "display name": lambda text: convert.checked_display_name("name", text),
    "UUID": lambda text: convert.checked_uuid("id", text),
    "mask": lambda text: convert.checked_mask([text], frozenset({"link"})),
    "page token": lambda text: convert.parsed_page_token("references", text),
    "filter": lambda text: parsed_filter("filter", text),
}


@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_fields(fuzz_inputs: int, check: str) -> None:
    for number in range(fuzz_inputs):
        rng = random.Random(number)
        text = "".join(rng.choice(WORDS) for _ in range(rng.randrange(12)))
        start = time.thread_time()
        with suppress(FieldInvalid, PageTokenInvalid):
            CHECKS[check](text)
        assert time.thread_time() - start < 0.5, f"input {number} takes too long"
