"""Pictures on disk: folders to train on, and datasets with queries, references and answers."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexing.errors import ImageLinkError
from indexing.image import decode

Picture = npt.NDArray[np.uint8]

LONG_SIDE = 640
# Enough for those who ask only how large a picture is.
SMALL_SIDE = 32
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


class DatasetError(ValueError):
    """A dataset cannot be used; the message names every problem, one a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("The dataset cannot be used:\n" + "\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Pair:
    """A query photo and the references it shows: none where the right answer is "no match"."""

    query: Path
    references: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class AnsweredQueries:
    """A folder with ``references/``, ``queries/`` and ``pairs.csv``; paths are absolute."""

    root: Path
    references: tuple[Path, ...]
    pairs: tuple[Pair, ...]


def find_pictures(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Every JPEG, PNG and WebP file beneath the folders, sorted; links are followed."""
    roots = list(folders)
    if absent := [f"{root}: no such folder" for root in roots if not root.is_dir()]:
        raise DatasetError(absent)
    walks = (walk for root in roots for walk in os.walk(root, followlinks=True))
    files = (Path(folder, name) for folder, _, names in walks for name in names)
    return tuple(sorted({file for file in files if file.suffix.lower() in SUFFIXES}))


def read_picture(path: Path, long_side: int = LONG_SIDE) -> Picture:
    """Decode a picture to RGB uint8 [h, w, 3], upright, its sides at most ``long_side`` pixels."""
    return _decoded(path, long_side)[0]


def image_size(path: Path) -> tuple[int, int]:
    """The width and height of a picture in pixels, upright. Raises DatasetError."""
    return _decoded(path, SMALL_SIDE)[1]


def _decoded(path: Path, long_side: int) -> tuple[Picture, tuple[int, int]]:
    try:
        return decode(path.read_bytes(), long_side)
    except OSError as error:
        raise DatasetError([f"{path}: {error.strerror}"]) from error
    except ImageLinkError as error:
        raise DatasetError([f"{path}: {error}"]) from error


def check_pictures(paths: Iterable[Path]) -> None:
    """Decode every picture once and name all that are missing or broken in one error."""
    if problems := [problem for path in paths if (problem := _problem(path))]:
        raise DatasetError(problems)


def fingerprint(paths: Iterable[Path]) -> str:
    """A SHA-256, in hexadecimal, of the pictures' contents whatever their names and order."""
    contents = sorted(hashlib.sha256(path.read_bytes()).digest() for path in paths)
    return hashlib.sha256(b"".join(contents)).hexdigest()


def _problem(path: Path) -> str | None:
    try:
        read_picture(path)
    except DatasetError as error:
        return error.problems[0]
    return None


def read_dataset(root: Path) -> AnsweredQueries:
    """Read ``root/pairs.csv`` and list ``root/references``; every file it names must be readable."""
    root = root.resolve()
    pairs = _read_pairs(root)
    references = find_pictures([root / "references"])
    named = {path for pair in pairs for path in (pair.query, *pair.references)}
    check_pictures(sorted(named | set(references)))
    return AnsweredQueries(root, references, pairs)


def _read_pairs(root: Path) -> tuple[Pair, ...]:
    table = root / "pairs.csv"
    if not table.is_file():
        raise DatasetError([f"{table}: no such file"])
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != ["query", "references"]:
            raise DatasetError([f"{table}: its first line must be 'query,references'"])
        pairs = tuple(_pair(root, row) for row in reader)
    often = [path for path, times in Counter(pair.query for pair in pairs).items() if times > 1]
    if often:
        raise DatasetError(
            [f"{path}: {table.name} has more than one line for it" for path in often]
        )
    return pairs


def _pair(root: Path, row: dict[str, str]) -> Pair:
    return Pair(
        root / row["query"], tuple(root / name for name in (row["references"] or "").split())
    )


def own_references(queries: Mapping[str, AnsweredQueries]) -> list[Path]:
    """The references of all datasets, with those that only ``pairs.csv`` names."""
    listed = (path for each in queries.values() for path in each.references)
    named = (path for each in queries.values() for pair in each.pairs for path in pair.references)
    return list(dict.fromkeys([*listed, *named]))
