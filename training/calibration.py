"""Calibration of the decision rule on rendered views: never on a real photo that is reported on.

A part of the pictures becomes the gallery. Views of gallery pictures show what right candidates
look like, views of the others what wrong ones do and how far their log-odds reach.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.progress import track
from sklearn.linear_model import LogisticRegression

from indexing.bundle import Bundle
from indexing.decision import Calibration, Candidate, ChannelCalibration
from indexing.errors import ImageTooPlain
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.keypoints import Channel
from indexing.shard import IndexedReference, Query, Shard
from indexing.views import ViewConditions, clutter, render_view

GALLERY = "calibration"
VIEW = ViewConditions(long_side=640)
# A clean picture that covers this much of another, with this many inliers, is the same picture.
DUPLICATE_COVERAGE = 0.5
DUPLICATE_INLIERS = 15
MIN_TAIL = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """What one channel found in one view; ``shows`` is the reference in it, None if unregistered."""

    channel: Channel
    shows: str | None
    candidates: tuple[Candidate, ...]


class CalibrationGallery:
    """A gallery of clean pictures, and the near-duplicates among them."""

    def __init__(self, bundle: Bundle, pictures: Sequence[Pixels]) -> None:
        self._extractor = FeatureExtractor(bundle)
        self._shard = Shard(bundle)
        numbered = enumerate(track(pictures, "calibration gallery"))
        references = (self._reference(str(number), picture) for number, picture in numbered)
        self._shard.replace(GALLERY, 1, [reference for reference in references if reference])

    def _reference(self, name: str, picture: Pixels) -> IndexedReference | None:
        try:
            return IndexedReference(name, "", {}, (self._extractor.reference(picture),))
        except ImageTooPlain:
            return None

    def trials(self, photo: Pixels, shows: str | None) -> Iterator[Trial]:
        """What each channel finds in a photo."""
        embedding = self._extractor.embed([photo])
        aspect = photo.shape[1] / photo.shape[0]
        for channel in Channel:
            local = self._extractor.query(photo, channel)
            query = Query(0, GALLERY, embedding, channel, local, aspect)
            yield Trial(channel, shows, self._shard.search(query).candidates)

    def duplicates(self, picture: Pixels) -> frozenset[str]:
        """The references that show the same as a clean picture, itself included."""
        return frozenset(
            candidate.reference
            for trial in self.trials(picture, None)
            for candidate in trial.candidates
            if candidate.evidence.geometry.inliers >= DUPLICATE_INLIERS
            and candidate.evidence.geometry.coverage >= DUPLICATE_COVERAGE
        )


def run_trials(
    bundle: Bundle, pictures: Sequence[Pixels], views: int, seed: int
) -> list[Trial]:
    """Renders ``views`` views of pictures inside and as many of pictures outside of a gallery.

    Near-duplicates of what a view shows are left out of its candidates: they are not wrong.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pictures))
    outside, inside = order[:views], order[views:]
    gallery = CalibrationGallery(bundle, [pictures[i] for i in inside])
    shown = [(str(n), int(inside[n])) for n in rng.permutation(len(inside))[:views]]
    shown += [(None, int(i)) for i in outside]
    trials: list[Trial] = []
    for shows, number in track(shown, "calibration views"):
        background = clutter([pictures[i] for i in rng.choice(outside, 3)], (640, 480), rng)
        view = render_view(pictures[number], background, VIEW, rng)
        same = gallery.duplicates(pictures[number]) - {shows}
        for trial in gallery.trials(view.photo, shows):
            others = tuple(c for c in trial.candidates if c.reference not in same)
            trials.append(Trial(trial.channel, shows, others))
    return trials


def fit_calibration(trials: Sequence[Trial]) -> Calibration:
    """Fits each channel's regression and tail."""
    return {
        channel: _fit_channel([trial for trial in trials if trial.channel is channel])
        for channel in Channel
    }


def _fit_channel(trials: Sequence[Trial]) -> ChannelCalibration:
    labelled = [
        (candidate.evidence.features(), candidate.reference == trial.shows)
        for trial in trials
        for candidate in _plausible(trial)
    ]
    inputs = np.array([features for features, _ in labelled])
    regression = LogisticRegression(C=10.0, max_iter=5000)
    regression.fit(inputs, [right for _, right in labelled])
    weights = tuple(regression.coef_[0].tolist())
    fitted = ChannelCalibration(weights, float(regression.intercept_[0]), 0.0, 0.0)
    offset, scale = _fit_tail(fitted, [trial for trial in trials if trial.shows is None])
    return ChannelCalibration(weights, fitted.intercept, offset, scale)


def _fit_tail(regression: ChannelCalibration, trials: Sequence[Trial]) -> tuple[float, float]:
    best = [
        max(regression.log_odds(candidate.evidence) for candidate in _plausible(trial))
        for trial in trials
        if _plausible(trial)
    ]
    if len(best) < MIN_TAIL:
        raise ValueError(f"only {len(best)} wrong candidates: calibrate on more views")
    reach = np.sort(best)[::-1]
    rarity = np.log(len(trials) / np.arange(1, len(reach) + 1))
    scale, offset = np.polyfit(rarity, reach, 1, w=_tail_weights(len(reach)))
    return float(offset), float(max(scale, 0.0))


def _tail_weights(count: int) -> npt.NDArray[np.float64]:
    # The far end is what the budgets ask for; its few points still say more than the near end.
    return 1 / np.sqrt(np.arange(1, count + 1))


def _plausible(trial: Trial) -> list[Candidate]:
    return [c for c in trial.candidates if c.evidence.geometry.plausible]
