"""Pairs rendered once, before a training that sees each many times.

Rendering takes as long as learning where there is no GPU: with some pairs of each picture stored, twice
as many are learnt from in the same time.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track
from torch.utils.data import Dataset

from training.datasets import Picture
from training.rendering import Draw, Pair, RenderedPairs, loader

# How hard the first of a subject's pairs is; the last is as hard as can be.
LEAST_HARDNESS = 0.2
# One after the other, the pictures; where each begins, and its height and width; quads.
PIXELS, PLACES, QUADS = "pixels.bin", "places.npy", "quads.npy"


class StoredPairs(Dataset[Pair]):
    """Pairs of a folder that ``store`` wrote: any of a subject's, whatever the draw's hardness."""

    def __init__(self, folder: Path) -> None:
        # Opened where it is first read: the loader sends the dataset to other processes.
        self._pixels: npt.NDArray[np.uint8] | None = None
        self._folder = folder
        self._places = np.load(folder / PLACES)
        self._quads = np.load(folder / QUADS)

    def __getitem__(self, draw: Draw) -> Pair:
        """One of the pairs of a draw's subject."""
        rng = np.random.default_rng(draw.seed)
        pair = draw.subject, int(rng.integers(self._quads.shape[1]))
        reference, photo = (self._picture(*place) for place in self._places[pair].tolist())
        return Pair(reference, photo, self._quads[pair], draw.subject)

    def _picture(self, first: int, height: int, width: int) -> Picture:
        if self._pixels is None:
            self._pixels = np.memmap(self._folder / PIXELS, np.uint8, "r")
        return np.array(self._pixels[first : first + height * width * 3].reshape(height, width, 3))


def store(pairs: RenderedPairs, each: int, seed: int, folder: Path) -> StoredPairs:
    """Renders ``each`` pairs of each subject into a folder, unless they are there.

    They take 3 bytes for each of their pixels.
    """
    if (folder / QUADS).exists():
        return StoredPairs(folder)
    folder.mkdir(parents=True, exist_ok=True)
    places = np.empty((len(pairs), each, 2, 3), np.int64)
    quads = np.empty((len(pairs), each, 4, 2), np.float32)
    hardness = np.linspace(LEAST_HARDNESS, 1, each).tolist()
    draws = [
        [Draw(subject, (seed, subject, number), hard) for number, hard in enumerate(hardness)]
        for subject in range(len(pairs))
    ]
    rendered = loader(pairs, draws, len(os.sched_getaffinity(0)))
    with (folder / PIXELS).open("wb") as pixels:
        for subject, batch in enumerate(track(rendered, "Rendering views", total=len(draws))):
            quads[subject] = batch.quads
            for number, pair in enumerate(zip(batch.references, batch.photos, strict=True)):
                for which, picture in enumerate(pair):
                    places[subject, number, which] = (pixels.tell(), *picture.shape[:2])
                    pixels.write(picture.tobytes())
    np.save(folder / PLACES, places)
    # Written last, and at once: the folder is whole where it is there.
    np.save(folder / f"part-{QUADS}", quads)
    os.replace(folder / f"part-{QUADS}", folder / QUADS)
    return StoredPairs(folder)
