"""Pictures on disk: folders to train on, and datasets with queries, references and answers."""

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, Sampler

from indexing.errors import ImageLinkError
from indexing.image import decode
from indexing.network import squashed
from indexing.views import ViewConditions, clutter, render_view, retouched

Picture = npt.NDArray[np.uint8]

LONG_SIDE = 640
TRAINING_LONG_SIDE = 256
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
    try:
        return decode(path.read_bytes(), long_side)[0]
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
        return tuple(_pair(root, row) for row in reader)


def _pair(root: Path, row: dict[str, str]) -> Pair:
    return Pair(
        root / row["query"], tuple(root / name for name in (row["references"] or "").split())
    )


@dataclass(frozen=True, slots=True)
class Draw:
    """What to render a pair from: a picture by its number, a seed, how hard the views may be."""

    picture: int
    seed: tuple[int, ...]
    hardness: float


class RenderedPairs(Dataset[Picture]):
    """Two images of one picture each, uint8 [2, input_size, input_size, 3], rendered on demand.

    The first is the clean picture, slightly retouched, in ``clean_share`` of the pairs and a view
    in the others; the second is always a view.
    """

    def __init__(self, paths: Sequence[Path], input_size: int, clean_share: float) -> None:
        self._paths = paths
        self._input_size = input_size
        self._clean_share = clean_share
        self._conditions = ViewConditions(long_side=round(1.2 * input_size))

    def __getitem__(self, draw: Draw) -> Picture:
        """Render the pair of a draw."""
        rng = np.random.default_rng(draw.seed)
        picture = self._read(draw.picture)
        conditions = self._conditions.eased(draw.hardness)
        clean = rng.random() < self._clean_share
        first = retouched(picture, rng) if clean else self._view(picture, conditions, rng)
        second = self._view(picture, conditions, rng)
        return np.stack([squashed(image, self._input_size) for image in (first, second)])

    def _read(self, number: int) -> Picture:
        return read_picture(self._paths[number], TRAINING_LONG_SIDE)

    def _view(
        self, picture: Picture, conditions: ViewConditions, rng: np.random.Generator
    ) -> Picture:
        around = rng.integers(len(self._paths), size=rng.integers(4))
        size = conditions.long_side, conditions.long_side * 3 // 4
        background = clutter([self._read(int(number)) for number in around], size, rng)
        return render_view(picture, background, conditions, rng).photo


class PairBatches(Sampler[list[Draw]]):
    """Endless batches of distinct pictures, the same for the same seed and step.

    ``first`` is the step to begin with, ``hardness`` maps a step to how hard its views may be.
    """

    def __init__(
        self, pictures: int, pairs: int, seed: int, first: int, hardness: Callable[[int], float]
    ) -> None:
        self._pictures = pictures
        self._pairs = min(pairs, pictures)
        self._seed = seed
        self._first = first
        self._hardness = hardness

    def __iter__(self) -> Iterator[list[Draw]]:
        step = self._first
        while True:
            yield self._batch(step)
            step += 1

    def _batch(self, step: int) -> list[Draw]:
        epoch, turn = divmod(step, self._pictures // self._pairs)
        order = np.random.default_rng((self._seed, epoch)).permutation(self._pictures)
        chosen = order[turn * self._pairs : (turn + 1) * self._pairs].tolist()
        hardness = self._hardness(step)
        return [Draw(picture, (self._seed, step, picture), hardness) for picture in chosen]
