"""What a network is trained on: batches of references, each with a photo of it.

The photo is a rendered view, or a real one where the reference has some. With it goes where the
reference is in it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from indexing.framing import Framing
from indexing.network import UNIT_SQUARE
from indexing.views import View, ViewConditions, clutter, corners, render_view, retouched
from training.datasets import Picture, read_picture
from training.mining import HardNegative, Verdict

LONG_SIDE = 256
# Of the pairs of a reference with photos, this share has a photo in it.
PHOTO_SHARE = 0.5
# Phones turn photos upright, and no one prints a picture to be scanned as a stamp: views are less turned
# and larger than those that local features, which bear any turn, are tried on.
TURNED = 0.4
AREA = (0.1, 0.95)
# What is behind glass or in a case reflects and has a rim: an embedding that learns from harsher light, more
# blur and more rims than local features are tried on finds more of what was really photographed.
LIGHTING = 1.6
BLUR = 1.3
MOUNTED = 0.6

Quad = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Subject:
    """A reference to learn, and the real photos of it, if there are any."""

    reference: Path
    photos: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo, RGB uint8 [h, w, 3], and where the reference is in it, float32 [4, 2].

    ``UNIT_SQUARE`` is all of it. The first corner is the one nearest to the picture's top left, as no
    one can know how a picture was meant to hang. NaN is a place that is not known.
    """

    picture: Picture
    quad: Quad


class Pair(NamedTuple):
    """A subject's number, its reference and a photo of it, both framed, uint8 [h, w, 3], and where.

    ``quad``, float32 [4, 2], is as in ``Photo``.
    """

    reference: Picture
    photo: Picture
    quad: Quad
    subject: int


class PairBatch(NamedTuple):
    """n pairs: their pictures, of several shapes, quads float32 [n, 4, 2], subjects int64 [n]."""

    references: Sequence[Picture]
    photos: Sequence[Picture]
    quads: Tensor
    subjects: Tensor


@dataclass(frozen=True, slots=True)
class Draw:
    """What to render a pair from: a subject by its number, a seed, how hard the views may be."""

    subject: int
    seed: tuple[int, ...]
    hardness: float


class Views(StrEnum):
    """What views are rendered with: each has all of the one before, but for the last.

    ``RECTIFIED`` are full views whose picture is cut out and straightened again, as in the talk that
    ImageLink comes from: nothing of the camera is left but what it has destroyed.
    """

    PERSPECTIVE = "perspective"
    CLUTTER = "clutter"
    LIGHT = "light"
    BLUR = "blur"
    FULL = "full"
    RECTIFIED = "rectified"


class Renderer:
    """Renders views of pictures."""

    def __init__(self, views: Views, long_side: int) -> None:
        order = list(Views)
        lights, blurs, occludes = (
            order.index(views) >= order.index(least)
            for least in (Views.LIGHT, Views.BLUR, Views.FULL)
        )
        usual = ViewConditions()
        self._conditions = ViewConditions(
            long_side=long_side,
            area=AREA,
            turned=TURNED,
            mounted=MOUNTED,
            lighting=LIGHTING if lights else 0.0,
            blur=BLUR if blurs else 0.0,
            noise=usual.noise if blurs else 0.0,
            jpeg_quality=usual.jpeg_quality if blurs else (95, 95),
            occlusion=usual.occlusion if occludes else 0.0,
        )
        self._cluttered = views is not Views.PERSPECTIVE
        self._rectified = views is Views.RECTIFIED

    def view(
        self,
        picture: Picture,
        others: Sequence[Picture],
        hardness: float,
        rng: np.random.Generator,
    ) -> Photo:
        """A photo of a picture with others about; ``hardness`` is 0 to 1."""
        conditions = self._conditions.eased(hardness)
        size = conditions.long_side, conditions.long_side * 3 // 4
        around = others if self._cluttered else ()
        view = render_view(picture, clutter(around, size, rng), conditions, rng)
        if self._rectified:
            return Photo(rectified(view), np.array(UNIT_SQUARE, np.float32))
        height, width = view.photo.shape[:2]
        share = (view.quad + 0.5) / np.array([width, height])
        return Photo(view.photo, upright(share.astype(np.float32)))


def upright(quad: Quad) -> Quad:
    """The same quad with its first corner at the top left, whatever the picture's is."""
    return np.asarray(turned_to(torch.from_numpy(quad)[None], torch.tensor(UNIT_SQUARE))[0])


def turned_to(quads: Tensor, others: Tensor) -> Tensor:
    """Quads [n, 4, 2] with the first corner that makes them most like others, [n, 4, 2] or [4, 2].

    A picture turned by 45 degrees has two corners that are as much at the top left as each other:
    whichever is found is right, where the mean of both would be wrong.
    """
    turns = torch.stack([quads.roll(turn, dims=1) for turn in range(4)])
    nearest = (turns - others).abs().sum(dim=(2, 3)).argmin(dim=0)
    return turns[nearest, torch.arange(len(quads), device=quads.device)]


def rectified(view: View) -> Picture:
    """What a view shows of its picture, straight again: the largest part that is all in the photo."""
    height, width = view.photo.shape[:2]
    edges = np.linalg.norm(view.quad - np.roll(view.quad, -1, axis=0), axis=1)
    size = max(8, int(edges[[0, 2]].max())), max(8, int(edges[[1, 3]].max()))
    straight = cv2.getPerspectiveTransform(view.quad, corners(size))
    flat = cv2.warpPerspective(view.photo, straight, size)
    seen = cv2.warpPerspective(np.ones((height, width), np.uint8), straight, size)
    top, left, bottom, right = 0, 0, size[1], size[0]
    while bottom - top > 4 and right - left > 4 and not seen[top:bottom, left:right].all():
        # The side along which most is missing gives way.
        missing = {
            "top": 1 - seen[top, left:right].mean(),
            "bottom": 1 - seen[bottom - 1, left:right].mean(),
            "left": 1 - seen[top:bottom, left].mean(),
            "right": 1 - seen[top:bottom, right - 1].mean(),
        }
        worst = max(missing, key=lambda side: missing[side])
        top, left = top + (worst == "top"), left + (worst == "left")
        bottom, right = bottom - (worst == "bottom"), right - (worst == "right")
    return np.ascontiguousarray(flat[top:bottom, left:right], np.uint8)


class RenderedPairs(Dataset[Pair]):
    """Pairs rendered on demand: the clean reference, slightly retouched, and a photo or a view."""

    def __init__(self, subjects: Sequence[Subject], framing: Framing, renderer: Renderer) -> None:
        self._subjects = subjects
        self._framing = framing
        self._renderer = renderer

    def __len__(self) -> int:
        """The number of subjects."""
        return len(self._subjects)

    def __getitem__(self, draw: Draw) -> Pair:
        """Render the pair of a draw."""
        rng = np.random.default_rng(draw.seed)
        subject = self._subjects[draw.subject]
        picture = read_picture(subject.reference, LONG_SIDE)
        reference = retouched(picture, rng)
        if subject.photos and rng.random() < PHOTO_SHARE:
            path = subject.photos[int(rng.integers(len(subject.photos)))]
            nowhere = np.full((4, 2), np.nan, np.float32)
            photo = Photo(retouched(read_picture(path, LONG_SIDE), rng), nowhere)
        else:
            photo = self._view(picture, draw.hardness, rng)
        return Pair(
            self._framing.reference(reference),
            self._framing.photo(photo.picture),
            photo.quad,
            draw.subject,
        )

    def _view(self, picture: Picture, hardness: float, rng: np.random.Generator) -> Photo:
        around = rng.integers(len(self._subjects), size=rng.integers(4))
        others = [read_picture(self._subjects[int(n)].reference, LONG_SIDE) for n in around]
        return self._renderer.view(picture, others, hardness, rng)


class PairBatches(Sampler[list[Draw]]):
    """Endless batches of distinct subjects, the same for the same seed and step.

    ``first`` is the step to begin with, ``hardness`` maps a step to how hard its views may be.
    ``negatives`` are the numbers of each subject's hard negatives: of a batch, half the subjects are
    drawn, and each brings one that it has; ``same`` are pairs that must not be in one batch.
    """

    def __init__(
        self,
        subjects: int,
        pairs: int,
        seed: int,
        first: int,
        hardness: Callable[[int], float],
        negatives: Mapping[int, Sequence[int]] | None = None,
        same: Collection[frozenset[int]] = (),
    ) -> None:
        self._subjects = subjects
        self._pairs = min(pairs, subjects)
        self._seed = seed
        self._first = first
        self._hardness = hardness
        self._negatives = negatives or {}
        self._same: defaultdict[int, set[int]] = defaultdict(set)
        for one, other in (sorted(pair) for pair in same if len(pair) > 1):
            self._same[one].add(other)
            self._same[other].add(one)

    def __iter__(self) -> Iterator[list[Draw]]:
        step = self._first
        while True:
            yield self._batch(step)
            step += 1

    def _batch(self, step: int) -> list[Draw]:
        epoch, turn = divmod(step, self._subjects // self._pairs)
        order = np.random.default_rng((self._seed, epoch)).permutation(self._subjects)
        own = np.roll(order, -turn * self._pairs).tolist()
        hardness = self._hardness(step)
        return [
            Draw(subject, (self._seed, step, subject), hardness)
            for subject in self._chosen(own, step)
        ]

    def _chosen(self, order: Sequence[int], step: int) -> list[int]:
        """The first subjects of an order, each followed by a hard negative of its own."""
        rng = np.random.default_rng((self._seed, step))
        chosen: dict[int, None] = {}
        for subject in order:
            if len(chosen) == self._pairs:
                break
            negatives = self._negatives.get(subject, ())
            drawn = [negatives[int(rng.integers(len(negatives)))]] if negatives else []
            for each in (subject, *drawn):
                if len(chosen) < self._pairs and self._same[each].isdisjoint(chosen):
                    chosen[each] = None
        return list(chosen)


def loader(
    pairs: Dataset[Pair], batches: Iterable[list[Draw]], workers: int
) -> Iterable[PairBatch]:
    """The pairs of batches in their order, made in so many other processes."""
    return DataLoader(
        pairs,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=as_pair_batch,
        # A fork of a process whose libraries have threads may hang.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_single_threaded,
        # Draws carry their own seeds: the loader must not take from the network's.
        generator=torch.Generator(),
    )


def as_pair_batch(pairs: Sequence[Pair]) -> PairBatch:
    """The pairs as a batch. Their pictures stay arrays: a tensor that is sent takes an open file."""
    references, photos, quads, subjects = zip(*pairs, strict=True)
    return PairBatch(references, photos, torch.from_numpy(np.stack(quads)), torch.tensor(subjects))


def _single_threaded(_: int) -> None:
    cv2.setNumThreads(1)


def numbered(
    negatives: Iterable[HardNegative], subjects: Sequence[Subject]
) -> tuple[dict[int, list[int]], set[frozenset[int]]]:
    """Hard negatives by their subjects' numbers: of each subject, and the pairs of the same thing."""
    numbers = {each.reference.resolve(): number for number, each in enumerate(subjects)}
    different: defaultdict[int, list[int]] = defaultdict(list)
    same = set()
    for each in negatives:
        pair = [numbers.get(path.resolve()) for path in (each.picture, each.negative)]
        one, other = pair
        if one is None or other is None:
            continue
        if each.verdict is Verdict.SAME:
            same.add(frozenset((one, other)))
        else:
            different[one].append(other)
    return dict(different), same
