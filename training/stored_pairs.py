"""Pairs rendered once, before a training that sees each many times.

Rendering takes as long as learning where there is no GPU: with some pairs of each picture stored, twice
as many are learnt from in the same time.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap
from rich.progress import track
from torch.utils.data import Dataset

from training.rendering import Draw, Pair, RenderedPairs, loader

Pictures = npt.NDArray[np.uint8]

# How hard the first of a subject's pairs is; the last is as hard as can be.
LEAST_HARDNESS = 0.2
REFERENCES, PHOTOS, QUADS = "references.npy", "photos.npy", "quads.npy"


class StoredPairs(Dataset[Pair]):
    """Pairs of a folder that ``store`` wrote: any of a subject's, whatever the draw's hardness."""

    def __init__(self, folder: Path) -> None:
        # Opened where it is first read: the loader sends the dataset to other processes.
        self._folder = folder
        self._pictures: tuple[Pictures, Pictures] | None = None
        self._quads = np.load(folder / QUADS)

    def __getitem__(self, draw: Draw) -> Pair:
        """One of the pairs of a draw's subject."""
        if self._pictures is None:
            self._pictures = (
                np.load(self._folder / REFERENCES, mmap_mode="r"),
                np.load(self._folder / PHOTOS, mmap_mode="r"),
            )
        references, photos = self._pictures
        rng = np.random.default_rng(draw.seed)
        place = draw.subject, int(rng.integers(self._quads.shape[1]))
        return Pair(
            np.array(references[place]), np.array(photos[place]), self._quads[place], draw.subject
        )


def store(pairs: RenderedPairs, each: int, seed: int, folder: Path) -> StoredPairs:
    """Renders ``each`` pairs of each subject into a folder, unless they are there.

    They take 3 bytes for each of their pixels.
    """
    if (folder / QUADS).exists():
        return StoredPairs(folder)
    folder.mkdir(parents=True, exist_ok=True)
    references, photos = (
        open_memmap(folder / name, "w+", np.uint8, (len(pairs), each, side, side, 3))
        for name, side in ((REFERENCES, pairs.reference_size), (PHOTOS, pairs.input_size))
    )
    quads = np.empty((len(pairs), each, 4, 2), np.float32)
    hardness = np.linspace(LEAST_HARDNESS, 1, each).tolist()
    draws = [
        [Draw(subject, (seed, subject, number), hard) for number, hard in enumerate(hardness)]
        for subject in range(len(pairs))
    ]
    rendered = loader(pairs, draws, len(os.sched_getaffinity(0)))
    for subject, found in enumerate(track(rendered, "Rendering views", total=len(draws))):
        references[subject], photos[subject], quads[subject] = found[:3]
    references.flush()
    photos.flush()
    # Written last, and at once: the folder is whole where it is there.
    np.save(folder / f"part-{QUADS}", quads)
    os.replace(folder / f"part-{QUADS}", folder / QUADS)
    return StoredPairs(folder)
