"""Calibration of the decision rule on rendered views: never on a real photo that is reported on.

A part of the pictures becomes the gallery. Views of gallery pictures show what right candidates
look like, views of the others what wrong ones do and how far their log-odds reach. A picture that
shares a part with a gallery picture, such as the frame of a card game, says nothing about chance, and
is not asked for wrong candidates: a fit that has to reject those as well gets everything else wrong
(with them, the expected calibration error on rendered views is 0.036 instead of 0.017).
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import expit

from indexing.appearance import photo_levels
from indexing.bundle import Bundle
from indexing.decision import (
    COMMON_FEATURES,
    FEATURES,
    Calibration,
    Candidate,
    ChannelCalibration,
    Evidence,
)
from indexing.errors import ImageTooPlain
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.keypoints import Channel
from indexing.recognition import Look
from indexing.reference import DEFAULT_FALSE_ACCEPT_BUDGET
from indexing.search import Query
from indexing.segment import IndexedReference
from indexing.shard import Shard
from indexing.views import ViewConditions, clutter, render_view

GALLERY = "calibration"
SUSPECTS = "suspects"
VIEW = ViewConditions(long_side=640)
# A clean picture that covers this much of another, with this many inliers, is the same picture; so is
# one that looks like it all over, where there is too little texture for many inliers.
DUPLICATE_COVERAGE = 0.5
DUPLICATE_INLIERS = 15
DUPLICATE_AGREEMENT = 0.8
# One that matches another at all, or looks somewhat like it, shares a part with it.
RELATED_INLIERS = 9
RELATED_AGREEMENT = 0.5
MIN_TAIL = 5
# A false-accept budget is a promise: it is kept with 90 % confidence. The normal quantile of that.
ONE_SIDED_90 = 1.2816
RIDGE = 0.05
# Shares of the pictures in galleries of several sizes: what is fitted must hold in each. Most views are
# of the largest, whose strangers say how sure a match must be.
GALLERY_SHARES = (0.01, 0.1, 0.89)
VIEW_SHARES = (0.2, 0.2, 0.6)
# This share of the pictures is in no gallery, and each of them is viewed as often as need be.
STRANGERS_SHARE = 0.25

Doubles = npt.NDArray[np.float64]
Found = Mapping[Channel, tuple[Candidate, ...]]


@dataclass(frozen=True, slots=True)
class Trial:
    """What one channel found in one view.

    ``shows`` is the reference in it, None if it is not registered. ``related`` are references
    that share a part with what it shows, such as the banner of a series. ``gallery_size`` is how many
    references there were to find.
    """

    channel: Channel
    gallery_size: int
    shows: str | None
    related: Set[str]
    candidates: tuple[Candidate, ...]


class CalibrationGallery:
    """A gallery of clean pictures, and the near-duplicates among them."""

    def __init__(self, bundle: Bundle, pictures: Sequence[Pixels]) -> None:
        self._extractor = FeatureExtractor(bundle)
        self._shard = Shard(bundle)
        numbered = enumerate(track(pictures, "calibration gallery"))
        references = (self._reference(str(number), picture) for number, picture in numbered)
        self._references = {each.id: each for each in references if each}
        self._shard.replace(GALLERY, 1, list(self._references.values()))

    def _reference(self, name: str, picture: Pixels) -> IndexedReference | None:
        try:
            return IndexedReference(name, "", {}, (self._extractor.reference(picture),))
        except ImageTooPlain:
            return None

    def watch(self, picture: Pixels, name: str | None, rng: np.random.Generator) -> Iterator[Trial]:
        """Renders a view of a picture, registered under ``name`` or not at all, and tries it."""
        view = render_view(picture, clutter([], (640, 480), rng), VIEW, rng)
        found = self._found(view.photo, GALLERY)
        same, related = self._resembling(picture, found)
        for channel, candidates in found.items():
            others = tuple(c for c in candidates if c.reference not in same - {name})
            yield Trial(channel, len(self._references), name, related - {name}, others)

    def _resembling(self, picture: Pixels, found: Found) -> tuple[set[str], set[str]]:
        """The references that are the same picture, and those that share a part with it.

        Searched are all that it or a view of it finds, without the competition of the others.
        """
        searched = self._found(picture, GALLERY)
        names = {c.reference for each in (found, searched) for cs in each.values() for c in cs}
        self._shard.replace(SUSPECTS, 1, [self._references[name] for name in names])
        clean = [c for candidates in self._found(picture, SUSPECTS).values() for c in candidates]
        same = {c.reference for c in clean if _same(c.evidence)}
        return same, {c.reference for c in clean if _related(c.evidence)}

    def _found(self, photo: Pixels, gallery: str) -> Found:
        version, levels = self._extractor.version, photo_levels(photo)
        look = Look()
        local = {channel: look.local(photo, channel, self._extractor) for channel in Channel}
        orb = Query(0, gallery, version, Channel.ORB, local[Channel.ORB], levels)
        sift = replace(
            orb,
            channel=Channel.FINE,
            local=local[Channel.FINE],
            embedding=self._extractor.embed([photo]),
        )
        return {query.channel: self._shard.search(query).candidates for query in (orb, sift)}


def _same(evidence: Evidence) -> bool:
    covers = evidence.geometry.coverage >= DUPLICATE_COVERAGE
    matches = covers and evidence.geometry.inliers >= DUPLICATE_INLIERS
    return matches or evidence.agreement.everywhere >= DUPLICATE_AGREEMENT


def _related(evidence: Evidence) -> bool:
    matches = evidence.geometry.inliers >= RELATED_INLIERS
    return matches or evidence.agreement.everywhere >= RELATED_AGREEMENT


def run_trials(bundle: Bundle, pictures: Sequence[Pixels], views: int, seed: int) -> list[Trial]:
    """Renders ``views`` views of pictures in galleries, and as many of pictures in none.

    Near-duplicates of what a view shows are left out of its candidates: they are not wrong.
    Raises ValueError where there are too few pictures for galleries of several sizes.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pictures))
    outside, inside = np.split(order, [int(STRANGERS_SHARE * len(order))])
    galleries = _shared_out(inside, GALLERY_SHARES)
    if not all(map(len, galleries)):
        raise ValueError(
            f"{len(pictures)} pictures are too few to calibrate on: some thousand are needed."
        )
    viewed = _shared_out(np.resize(outside, views), VIEW_SHARES)
    trials: list[Trial] = []
    for members, strangers in zip(galleries, viewed, strict=True):
        gallery = CalibrationGallery(bundle, [pictures[i] for i in members])
        shown: list[tuple[str | None, int]] = [
            (str(n), int(members[n])) for n in rng.integers(0, len(members), len(strangers))
        ]
        shown += [(None, int(stranger)) for stranger in strangers]
        for name, picture in track(shown, f"views, gallery of {len(members)}"):
            trials += gallery.watch(pictures[picture], name, rng)
    return trials


def _shared_out(
    numbers: npt.NDArray[np.int64], shares: Sequence[float]
) -> list[npt.NDArray[np.int64]]:
    return np.split(numbers, (np.cumsum(shares)[:-1] * len(numbers)).astype(int))


def fit_calibration(trials: Sequence[Trial]) -> Calibration:
    """Fits each channel's regression and tail.

    Binary descriptors give few wrong candidates, none of which many inliers agree on: by themselves
    they cannot teach that inliers are not enough where the two do not look alike. So theirs is fitted
    to the candidates of all channels, without the similarity, which is not known as yet.
    """
    fine = [trial for trial in trials if trial.channel is Channel.FINE]
    regressions = {
        Channel.ORB: _regression(trials, COMMON_FEATURES),
        Channel.FINE: _regression(fine, FEATURES),
    }
    strangers = [trial for trial in trials if trial.shows is None and not trial.related]
    return {
        channel: _with_tail(fitted, [trial for trial in strangers if trial.channel is channel])
        for channel, fitted in regressions.items()
    }


def _regression(trials: Sequence[Trial], features: Sequence[str]) -> ChannelCalibration:
    """Fits these features to all plausible candidates; there is no tail yet."""
    right = [c for t in trials for c in _plausible(t) if c.reference == t.shows]
    apart = [trial for trial in trials if not trial.related]
    wrong = [c for t in apart for c in _plausible(t) if c.reference != t.shows]
    known = [candidate.evidence.features() for candidate in right + wrong]
    inputs = np.array([[each[name] for name in features] for each in known])
    labels = np.r_[np.ones(len(right)), np.zeros(len(wrong))]
    weights, intercept = fit_regression(inputs, labels)
    return ChannelCalibration(dict(zip(features, weights, strict=True)), intercept, 0.0, 0.0)


def _with_tail(fitted: ChannelCalibration, strangers: Sequence[Trial]) -> ChannelCalibration:
    """The tail of the gallery that asks for most: a large one has more to take a stranger for."""
    sizes = {trial.gallery_size for trial in strangers}
    galleries = [[t for t in strangers if t.gallery_size == size] for size in sizes]
    enough = [each for each in galleries if len(_taken(each)) >= MIN_TAIL]
    tails = [_fit_tail(fitted, each) for each in (strangers, *enough)]
    return max(tails, key=lambda tail: tail.threshold(DEFAULT_FALSE_ACCEPT_BUDGET))


def fit_regression(inputs: Doubles, labels: Doubles) -> tuple[tuple[float, ...], float]:
    """Fits weights and intercept of a logistic regression to inputs [n, d] and labels [n], 0 or 1.

    No weight is negative: more evidence never makes a match less likely.
    """
    signs = 2 * labels - 1
    design = np.c_[inputs, np.ones(len(inputs))]

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        margins = signs * (design @ parameters)
        penalty = RIDGE * parameters[:-1] @ parameters[:-1]
        slopes = -signs * expit(-margins) @ design
        slopes[:-1] += 2 * RIDGE * parameters[:-1]
        return float(np.logaddexp(0, -margins).sum() + penalty), slopes

    bounds = [(0, None)] * inputs.shape[1] + [(None, None)]
    start = np.zeros(design.shape[1])
    fitted = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return tuple(fitted[:-1].tolist()), float(fitted[-1])


def _fit_tail(fitted: ChannelCalibration, strangers: Sequence[Trial]) -> ChannelCalibration:
    taken = _taken(strangers)
    if len(taken) < MIN_TAIL:
        raise ValueError(f"only {len(taken)} wrong candidates: calibrate on more views")
    best = [max(fitted.log_odds(c.evidence) for c in candidates) for candidates in taken]
    # Only the far end: the nearer ones, which are most, thin out faster. As is usual for tails, it is as many as
    # the root of the sample's size.
    reach = np.sort(best)[::-1][: max(MIN_TAIL, math.isqrt(len(strangers)))]
    rarity = np.log(len(strangers) / np.arange(1, len(reach) + 1))
    # The farthest are what the budgets ask for.
    weights = 1 / np.arange(1, len(reach) + 1)
    scale, _ = np.polyfit(rarity, reach, 1, w=np.sqrt(weights))
    # Log-odds that mean what they say thin out by a nat for each nat of rarity, or faster.
    scale = float(np.clip(scale, 0.0, 1.0))
    offset = float(np.average(reach - scale * rarity, weights=weights)) + scale * _caution(weights)
    tail = replace(fitted, tail_offset=offset, tail_scale=scale)
    # Where no view was in doubt the tail ends far below even odds, and says nothing of the gap above it.
    short = max(0.0, -tail.threshold(DEFAULT_FALSE_ACCEPT_BUDGET))
    return replace(tail, tail_offset=offset + short)


def _taken(strangers: Sequence[Trial]) -> list[list[Candidate]]:
    """The plausible candidates of each stranger that has some."""
    return [candidates for trial in strangers if (candidates := _plausible(trial))]


def _caution(weights: Doubles) -> float:
    """The logarithm of how much larger than estimated from so few points a rate may well be."""
    points = weights.sum() ** 2 / (weights**2).sum()
    return math.log1p(ONE_SIDED_90 / math.sqrt(points))


def _plausible(trial: Trial) -> list[Candidate]:
    return [c for c in trial.candidates if c.evidence.geometry.plausible]
