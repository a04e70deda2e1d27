"""Rendered photos, where the truth is known exactly and there are as many as one likes.

Views of registered pictures say how well a quad fits; views of pictures that are not registered
say how often anything is answered that is not there, down to rates that no folder of real photos
can tell.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from benchmarks.galleries import Gallery
from benchmarks.intervals import Interval, Tally, exact_interval, interval, rate
from benchmarks.metrics import Answer, Quad, corner_error
from benchmarks.queries import SEED, sampled
from indexing.errors import ImageLinkError
from indexing.image import Pixels, decode
from indexing.recognition import WORKING_SIDE
from indexing.views import View, ViewConditions, clutter, render_view
from training.datasets import read_picture

CONDITIONS = ViewConditions(long_side=WORKING_SIDE)
SURFACE = (WORKING_SIDE, WORKING_SIDE * 3 // 4)
MOST_AROUND = 3
# A clean picture with this many inliers on a reference shares a part with it: their maker's banner,
# the frame of their series. Such a reference in the answer is no chance hit.
RELATED_INLIERS = 9
LISTED_WORST = 20


@dataclass(frozen=True, slots=True)
class Rendering:
    """A view to render: the picture, those that lie around it, and the seed of all else."""

    picture: Path
    around: tuple[Path, ...]
    seed: tuple[int, ...]

    def view(self) -> View:
        """The view, the same each time."""
        rng = np.random.default_rng(self.seed)
        background = clutter([read_picture(path) for path in self.around], SURFACE, rng)
        return render_view(read_picture(self.picture), background, CONDITIONS, rng)

    def __call__(self) -> Pixels:
        """The view's photo, RGB uint8 [height, width, 3]."""
        return self.view().photo


@dataclass(frozen=True, slots=True)
class Viewed:
    """The answer to a view; ``quad`` is where its picture is, float32 [4, 2] in photo pixels.

    ``size`` is the photo's (width, height).
    """

    rendering: Rendering
    quad: Quad
    size: tuple[int, int]
    answer: Answer

    @property
    def corner_error(self) -> float | None:
        """The mean distance of the found corners from the true, as a share of the picture's side.

        The side is the geometric mean of the true four. None where the picture was not found.
        """
        found = [f.quad for f in self.answer.found if f.reference == self.rendering.picture]
        if not found:
            return None
        return corner_error(found[0] * np.array(self.size) - 0.5, self.quad)


@dataclass(frozen=True, slots=True)
class Strangers:
    """Pictures that are not in a gallery: the ``fair``, and how many had to be left out."""

    fair: tuple[Path, ...]
    related: int
    unreadable: int


class CornerError(TypedDict):
    """The error of the quads' corners in % of the picture's side, over the views found."""

    median: float
    percentile_90: float


class ViewRates(TypedDict):
    """How well views of a dataset's own references were found."""

    views: int
    recall: float
    interval: Interval
    quad_corner_error: CornerError | None


class WrongAnswer(TypedDict):
    """A stranger, the number of its photo, and the reference that came nearest to it.

    None stands for what a server does not tell.
    """

    picture: str
    number: int
    accepted: bool
    reference: str
    probability: float
    inliers: int | None
    matches: int | None
    coverage: float | None


class StrangerRates(TypedDict):
    """False accepts on rendered photos of pictures that are not in the gallery.

    ``strangers`` pictures were rendered. ``related`` were left out for being in the gallery or
    sharing a part with a picture there, ``unreadable`` as damaged. ``worst`` are the photos with the
    most probable wrong candidates.
    """

    photos: int
    strangers: int
    related: int
    unreadable: int
    false_accepts: int
    false_accept_rate: float
    interval: Interval
    worst: list[WrongAnswer]


def scan_views(gallery: Gallery, name: str, references: Sequence[Path], each: int) -> list[Viewed]:
    """Scans ``each`` views of each reference on a bare surface."""
    renderings = [
        Rendering(path, (), (SEED, number, turn))
        for number, path in enumerate(references)
        for turn in range(each)
    ]
    return list(gallery.across(_scan_view, renderings, f"Views of {name}"))


def view_rates(views: Sequence[Viewed]) -> ViewRates | None:
    """The rates of a dataset's views; None without views."""
    tally = _by_reference(views)
    recall, bounds = rate(tally), interval(tally)
    if recall is None or bounds is None:
        return None
    errors = [error for view in views if (error := view.corner_error) is not None]
    return ViewRates(
        views=len(views),
        recall=recall,
        interval=bounds,
        quad_corner_error=_corner_error(errors) if errors else None,
    )


def _by_reference(views: Sequence[Viewed]) -> Tally:
    """The views of each reference and how many were found: they are hit or missed together."""
    found = Counter(v.rendering.picture for v in views if v.corner_error is not None)
    return [(found[path], of) for path, of in Counter(v.rendering.picture for v in views).items()]


def _corner_error(errors: Sequence[float]) -> CornerError:
    median, high = np.percentile(errors, [50, 90]) * 100
    return CornerError(median=float(median), percentile_90=float(high))


def held_out(pictures: Sequence[Path], share: float) -> list[Path]:
    """A seeded share of pictures, at least one, to keep out of a gallery."""
    count = max(1, round(share * len(pictures)))
    return sampled(pictures, count)


def fair_strangers(gallery: Gallery, pictures: Sequence[Path]) -> Strangers:
    """Those pictures that neither are in the gallery nor share a part with one there."""
    related = list(gallery.across(_is_related, pictures, "Strangers against the gallery"))
    fair = [path for path, each in zip(pictures, related, strict=True) if each is False]
    return Strangers(tuple(fair), related.count(True), related.count(None))


def scan_strangers(gallery: Gallery, strangers: Sequence[Path], count: int) -> list[Viewed]:
    """Scans ``count`` views of strangers in turn, other strangers lying around each."""
    rng = np.random.default_rng(SEED)
    renderings = []
    for number in range(count):
        around = rng.integers(len(strangers), size=rng.integers(MOST_AROUND + 1)).tolist()
        picture = strangers[number % len(strangers)]
        beside = tuple(strangers[other] for other in around)
        renderings.append(Rendering(picture, beside, (SEED, number)))
    return list(gallery.across(_scan_view, renderings, "Rendered photos of strangers"))


def stranger_rates(strangers: Strangers, views: Sequence[Viewed]) -> StrangerRates:
    """The rates over one view of a stranger or more."""
    accepted = sum(bool(view.answer.found) for view in views)
    wrong = [each for number, view in enumerate(views) if (each := _wrong_answer(number, view))]
    wrong.sort(key=lambda each: (each["accepted"], each["probability"]), reverse=True)
    return StrangerRates(
        photos=len(views),
        strangers=len(strangers.fair),
        related=strangers.related,
        unreadable=strangers.unreadable,
        false_accepts=accepted,
        false_accept_rate=accepted / len(views),
        interval=exact_interval(accepted, len(views)),
        worst=wrong[:LISTED_WORST],
    )


def _scan_view(gallery: Gallery, rendering: Rendering) -> Viewed:
    view = rendering.view()
    height, width = view.photo.shape[:2]
    return Viewed(rendering, view.quad, (width, height), gallery.recognise(view.photo))


def _is_related(gallery: Gallery, picture: Path) -> bool | None:
    """Whether a picture resembles one of the gallery; None where it cannot be read."""
    try:
        pixels, _ = decode(picture.read_bytes(), WORKING_SIDE)
    except (ImageLinkError, OSError):
        return None
    answer = gallery.recognise(pixels)
    verified = [each for each in answer.verified or () if each.plausible]
    return bool(answer.found) or any(each.inliers >= RELATED_INLIERS for each in verified)


def _wrong_answer(number: int, view: Viewed) -> WrongAnswer | None:
    found = view.answer.found[0] if view.answer.found else None
    best = view.answer.candidate(found.reference) if found else view.answer.best
    nearest = found or best
    if nearest is None:
        return None
    return WrongAnswer(
        picture=str(view.rendering.picture),
        number=number,
        accepted=found is not None,
        reference=str(nearest.reference),
        probability=nearest.probability,
        inliers=best.inliers if best else None,
        matches=best.matches if best else None,
        coverage=best.coverage if best else None,
    )
