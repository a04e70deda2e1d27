"""Which files a command takes, and the ids made from their names."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_LONGEST_ID = 63


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The given files, and the images in the given folders and theirs; each once."""
    return list(dict.fromkeys(file for path in paths for file in _files_of(path)))


def _files_of(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file():
            yield file


def slug(stem: str) -> str:
    """A reference id, ``[a-z0-9-]{1,63}``, from a file name without its suffix.

    A name without a single Latin letter or digit gets an id from its hash.
    """
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    dashed = re.sub(r"[^a-z0-9]+", "-", ascii_stem.lower()).strip("-")
    return (
        dashed[:_LONGEST_ID].rstrip("-")
        or f"image-{hashlib.sha256(stem.encode()).hexdigest()[:12]}"
    )
