"""Hard negatives: the pictures that a network takes for each other, from a gallery of them all.

A file lists them for a person, whose verdicts later runs obey: ``same`` are two pictures of one thing,
and are neither mined again nor ever learnt as different.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import cv2
import faiss
import numpy as np
from rich.progress import track

from indexing.embedding import Embedder
from indexing.image import Pixels
from training.datasets import DatasetError, read_picture
from training.ranking import Floats, Ints

COLUMNS = ["picture", "negative", "similarity", "verdict"]
# Pictures that are read and embedded at once: with the embeddings, all that is in memory.
PART = 64
LONG_SIDE = 256
# Two pictures are taken for one where their embeddings and their thumbnails are so alike.
DUPLICATE_SIMILARITY = 0.95
DUPLICATE_CORRELATION = 0.95
THUMBNAIL = 16


class Verdict(StrEnum):
    """What a person says of two pictures."""

    UNKNOWN = ""
    SAME = "same"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class HardNegative:
    """A picture and one that the network takes for it, by the cosine of their embeddings."""

    picture: Path
    negative: Path
    similarity: float
    verdict: Verdict = Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class Pool:
    """Pictures to mine: their embeddings, float32 [n, dimension], and grey thumbnails, uint8 [n, 256]."""

    paths: tuple[Path, ...]
    embeddings: Floats
    thumbnails: Pixels


def embed_pool(embedder: Embedder, paths: Sequence[Path]) -> Pool:
    """Embeds pictures, 64 at a time. Raises DatasetError."""
    embeddings, thumbnails = [], []
    for first in track(range(0, len(paths), PART), "Embedding"):
        pictures = [read_picture(path, LONG_SIDE) for path in paths[first : first + PART]]
        embeddings.append(embedder.embed_references(pictures).vectors)
        thumbnails.append(np.stack([_thumbnail(picture) for picture in pictures]))
    return Pool(tuple(paths), np.concatenate(embeddings), np.concatenate(thumbnails))


def mine(
    pool: Pool, references: int, each: int, judged: Iterable[HardNegative] = ()
) -> list[HardNegative]:
    """The nearest ``each`` pictures of the pool for each of its first ``references``, without itself.

    Near-duplicates are left out, and pairs of the same thing by ``judged``, whose verdicts are kept.
    """
    verdicts = {_pair(one.picture, one.negative): one.verdict for one in judged}
    index = faiss.IndexFlatIP(pool.embeddings.shape[1])
    index.add(pool.embeddings)
    found = []
    for first in range(0, references, PART):
        rows = np.arange(first, min(first + PART, references))
        # More than asked, as some are duplicates.
        nearest = index.search(pool.embeddings[rows], min(4 * each + 1, len(pool.paths)))
        for row, similarity, others in zip(rows, *nearest, strict=True):
            kept = _kept(pool, int(row), similarity, others, verdicts)
            found += [one for _, one in zip(range(each), kept, strict=False)]
    return found


def _kept(
    pool: Pool,
    row: int,
    similarity: Floats,
    others: Ints,
    verdicts: dict[frozenset[Path], Verdict],
) -> Iterator[HardNegative]:
    for value, other in zip(similarity.tolist(), others.tolist(), strict=True):
        verdict = verdicts.get(_pair(pool.paths[row], pool.paths[other]), Verdict.UNKNOWN)
        alike = verdict is Verdict.SAME
        if verdict is Verdict.UNKNOWN and value > DUPLICATE_SIMILARITY:
            alike = (
                _correlation(pool.thumbnails[row], pool.thumbnails[other]) > DUPLICATE_CORRELATION
            )
        if other != row and not alike:
            yield HardNegative(pool.paths[row], pool.paths[other], value, verdict)


def read_negatives(file: Path) -> list[HardNegative]:
    """Reads a file of hard negatives. Raises DatasetError, naming every bad line."""
    try:
        with file.open(newline="") as opened:
            reader = csv.DictReader(opened)
            if reader.fieldnames != COLUMNS:
                raise DatasetError([f"{file}: its first line must be '{','.join(COLUMNS)}'"])
            rows = list(reader)
    except OSError as error:
        raise DatasetError([f"{file}: {error.strerror}"]) from error
    found, problems = [], []
    for number, row in enumerate(rows, start=2):
        try:
            found.append(
                HardNegative(
                    Path(row["picture"]),
                    Path(row["negative"]),
                    float(row["similarity"]),
                    Verdict((row["verdict"] or "").strip()),
                )
            )
        except (TypeError, ValueError) as error:
            problems.append(f"{file}, line {number}: {error}")
    if problems:
        raise DatasetError(problems)
    return found


def write_negatives(negatives: Iterable[HardNegative], file: Path) -> None:
    """Writes a file of hard negatives, the most similar first, for a person to judge."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        for each in sorted(negatives, key=lambda one: -one.similarity):
            row = (each.picture, each.negative, f"{each.similarity:.4f}", each.verdict.value)
            writer.writerow(row)


def _pair(one: Path, other: Path) -> frozenset[Path]:
    return frozenset((one, other))


def _thumbnail(picture: Pixels) -> Pixels:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8).reshape(-1)


def _correlation(one: Pixels, other: Pixels) -> float:
    values = np.stack([one, other]).astype(np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1).prod()
    # Two plain pictures are alike.
    return float(centred[0] @ centred[1] / lengths) if lengths > 0 else 1.0
