"""Pairs of patches that show the same spot: of a picture, and of a rendered view of it.

Both are cut about corners that were found there, so that descriptors learn from the places, scales and
directions that a scan really has, and from no others.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from indexing.corners import Corners, find_corners
from indexing.keypoints import scaled_grey
from indexing.patches import cut_patches
from indexing.views import View, ViewConditions, clutter, corners, render_view
from training.datasets import Picture, read_picture
from training.runs import replace_file

LONG_SIDE = 256
FRAME = (384, 288)
VIEW = ViewConditions(long_side=FRAME[0], area=(0.12, 0.95))
MOST_OTHERS = 2
REFERENCE_CORNERS, VIEW_CORNERS = 300, 600
# Two corners show one spot where they are this near in diameters, octaves and radians.
NEAR, SAME_SCALE, SAME_DIRECTION = 0.12, 0.5, 0.45
LEAST_PAIRS, MOST_PAIRS = 6, 64
FILE = "pairs.npz"


@dataclass(frozen=True, slots=True)
class PatchPairs:
    """n pairs of patches, uint8 [n, 24, 24] each, those of one view one after the other.

    ``views`` int64 [n] numbers the views, ``pictures`` int64 [n] the pictures; ``spots``, float32
    [n, 2], are where the patches are in their picture, in diameters of their corners.
    """

    references: Picture
    photos: Picture
    views: npt.NDArray[np.int64]
    pictures: npt.NDArray[np.int64]
    spots: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.views)

    def take(self, rows: npt.NDArray[np.intp]) -> "PatchPairs":
        """Some of the pairs, in the order of ``rows``."""
        return PatchPairs(
            self.references[rows],
            self.photos[rows],
            self.views[rows],
            self.pictures[rows],
            self.spots[rows],
        )


def store_pairs(paths: Sequence[Path], each: int, seed: int, folder: Path) -> PatchPairs:
    """Renders ``each`` views of pictures into a folder, unless they are there, for their pairs.

    Raises DatasetError for a picture that cannot be read, ValueError where no view has any pairs.
    """
    file = folder / FILE
    if not file.exists():
        pairs = _rendered(paths, each, seed)
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(file, partial(_write, pairs))
    stored = np.load(file)
    return PatchPairs(**{name: stored[name] for name in stored.files})


def _write(pairs: dict[str, Any], file: Path) -> None:
    with file.open("wb") as opened:
        np.savez(opened, **pairs)


def _rendered(paths: Sequence[Path], each: int, seed: int) -> dict[str, Any]:
    views = len(paths) * each
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, get_context("spawn"), cv2.setNumThreads, (1,)) as processes:
        rendered = processes.map(partial(_of_view, paths, seed), range(views), chunksize=16)
        found = [pairs for pairs in track(rendered, "Rendering views", views) if pairs]
    if not found:
        raise ValueError(
            "No view shows a corner of its picture: train on pictures with more detail."
        )
    return {
        name: np.concatenate([getattr(pairs, name) for pairs in found])
        for name in PatchPairs.__dataclass_fields__
    }


def _of_view(paths: Sequence[Path], seed: int, number: int) -> PatchPairs | None:
    """The pairs of a view; None where there are too few to learn what tells them apart."""
    rng = np.random.default_rng((seed, number))
    own = number % len(paths)
    picture = read_picture(paths[own], LONG_SIDE)
    around = rng.integers(len(paths), size=rng.integers(MOST_OTHERS + 1))
    others = [read_picture(paths[int(other)], LONG_SIDE) for other in around]
    view = render_view(picture, clutter(others, FRAME, rng), VIEW, rng)
    grey, seen = (scaled_grey(each, FRAME[0]) for each in (picture, view.photo))
    known, found = find_corners(grey, REFERENCE_CORNERS), find_corners(seen, VIEW_CORNERS)
    rows, places = _same_spots(known, found, picture, view)
    if len(rows) < LEAST_PAIRS:
        return None
    kept = rng.permutation(len(rows))[:MOST_PAIRS]
    known, found = known.take(rows[kept]), found.take(places[kept])
    return PatchPairs(
        cut_patches(grey, known),
        cut_patches(seen, found),
        np.full(len(kept), number),
        np.full(len(kept), own),
        known.points / known.diameters[:, None],
    )


def _same_spots(
    known: Corners, found: Corners, picture: Picture, view: View
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of a picture's corners and of its view's that show one spot, each at most once."""
    if not len(known) or not len(found):
        none = np.zeros(0, np.intp)
        return none, none
    expected = _photographed(known, picture, view)
    apart = np.linalg.norm(expected.points[:, None] - found.points, axis=2) / found.diameters
    octaves = np.abs(np.log2(expected.diameters[:, None] / found.diameters))
    turned = np.abs(np.angle(np.exp(1j * (expected.angles[:, None] - found.angles))))
    cost = apart / NEAR + octaves / SAME_SCALE + turned / SAME_DIRECTION
    cost[(apart > NEAR) | (octaves > SAME_SCALE) | (turned > SAME_DIRECTION)] = np.inf
    best = cost.argmin(axis=1)
    every = np.arange(len(known))
    mutual = cost.argmin(axis=0)[best] == every
    rows = np.flatnonzero(mutual & np.isfinite(cost[every, best]))
    return rows, best[rows]


def _photographed(known: Corners, picture: Picture, view: View) -> Corners:
    """Where a picture's corners are to be in a view, how large, and which way they are turned."""
    size = picture.shape[1], picture.shape[0]
    homography = cv2.getPerspectiveTransform(corners(size), view.quad)
    ahead = np.stack([np.cos(known.angles), np.sin(known.angles)], axis=1)
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    points, forward, sideways = (
        cv2.perspectiveTransform(moved[None].astype(np.float64), homography)[0]
        for moved in (known.points, known.points + ahead, known.points + aside)
    )
    forward, sideways = forward - points, sideways - points
    area = np.abs(forward[:, 0] * sideways[:, 1] - forward[:, 1] * sideways[:, 0])
    angles = np.arctan2(forward[:, 1], forward[:, 0])
    return Corners(points, np.sqrt(area) * known.diameters, angles)


def batches(
    pairs: PatchPairs, views: int, each: int, seed: int, first: int = 0
) -> Iterator[npt.NDArray[np.intp]]:
    """Endless rows of batches: at most ``each`` pairs of so many views, the same for the same seed.

    Some from one view, as what is to be told apart most of all is what a picture has at other spots.
    ``first`` is the step to begin with.
    """
    starts = np.flatnonzero(np.diff(pairs.views, prepend=-1))
    ends = np.append(starts[1:], len(pairs))
    step = first
    while True:
        rng = np.random.default_rng((seed, step))
        chosen = rng.choice(len(starts), min(views, len(starts)), replace=False)
        yield np.concatenate(
            [
                rng.permutation(np.arange(starts[view], ends[view]))[:each]
                for view in chosen.tolist()
            ]
        )
        step += 1
