"""How well a clean picture will scan: a forecast from phone views that are rendered of it.

The real pipeline is asked what the views show. Here is what its answers tell: of rates, of the size
to print in, of references that the picture may be confused with, and of what to change.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean

import cv2
import numpy as np
import numpy.typing as npt

from indexing.explanation import Judgement, Verdict
from indexing.features import ReferenceFeatures
from indexing.image import Pixels
from indexing.viewing import FAR_OFF, Setting, Viewing, ViewingCondition
from indexing.views import View

# A main camera sees about 66 x 50 degrees: a frame of so many metres squared at a distance of one.
FRAME_AREA = 4 * math.tan(math.radians(66 / 2)) * math.tan(math.radians(50 / 2))
DISTANCES = (0.5, 1.0, 2.0, 5.0)
RELIABLE_RATE = 0.9
# What a view counts for in which the picture was no candidate: about what no evidence at all gives.
MISSED_MARGIN = -8.0
# A clean picture that looks like another all over, and not only in a part, is the same picture.
DUPLICATE_AGREEMENT = 0.8
# Rivals come as near as a budget ten times larger would accept: once may be chance, twice is not.
RIVAL_MARGIN = -math.log(10)
RIVAL_VIEWS = 2
LISTED_REFERENCES = 5
# What ordinary pictures are far from: a quarter of the keypoints that are kept, 6 of 4 x 4 cells that
# hold a fiftieth of them each, a quarter of the grey levels, an autocorrelation above 0.6.
FEW_KEYPOINTS = 60
FEW_CELLS = 6
CELL_SHARE = 0.02
LOW_CONTRAST_LEVELS = 64
REPEATED = 0.6
# In pixels of the picture scaled to a square: its side, and how coarse a shape is no detail.
REPEAT_SIDE = 256
REPEAT_BLUR = 8
# A photo from close up shows more than a file with fewer pixels on its longer side.
LOW_RESOLUTION = 320


class Issue(StrEnum):
    """What may keep a picture from being recognised, or from being told from others."""

    TOO_FEW_DETAILS = "too_few_details"
    LOW_CONTRAST = "low_contrast"
    DETAILS_CLUSTERED = "details_clustered"
    DETAILS_TOO_FINE = "details_too_fine"
    REPETITIVE = "repetitive"
    RESOLUTION_TOO_LOW = "resolution_too_low"
    ALREADY_REGISTERED = "already_registered"
    CONFUSABLE = "confusable"

    @property
    def advice(self) -> str:
        """What to change, in plain words."""
        return _ADVICE[self]


_ADVICE = {
    Issue.TOO_FEW_DETAILS: "It has few details: add texture, text or a pattern that is not regular.",
    Issue.LOW_CONTRAST: "It is pale: use colours of more different brightness.",
    Issue.DETAILS_CLUSTERED: "Its details are in a few places: spread them over the whole picture, "
    "or register only the part that has them.",
    Issue.DETAILS_TOO_FINE: "Its details are lost from afar: add larger shapes, or print it larger.",
    Issue.REPETITIVE: "It repeats itself: vary the pattern, or add something that occurs once.",
    Issue.RESOLUTION_TOO_LOW: "The file has few pixels, so that the print shows more than it does: "
    "send one of at least 640 pixels on the longer side.",
    Issue.ALREADY_REGISTERED: "The same picture, or one that differs little, is registered already: a "
    "photo is answered with only one of the two, so keep one.",
    Issue.CONFUSABLE: "It shares a part with a registered picture: make them differ more, or cut off "
    "what they share.",
}


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a view was answered.

    ``frame_share`` is the share of the frame that the picture took, ``recognised`` whether it was
    answered, ``margin`` its log-odds above the threshold (at least -8, for no candidate at all).
    ``rivals`` are the margins of other references that can be accepted; ``wrong`` those that were.
    """

    setting: Setting
    frame_share: float
    recognised: bool
    margin: float
    rivals: Mapping[str, float] = field(default_factory=dict)
    wrong: frozenset[str] = frozenset()


def sighted(
    viewing: Viewing, view: View, judgements: Sequence[Judgement], own: frozenset[str]
) -> Sighting:
    """A view's answer, from what was decided of each reference; ``own`` name the picture itself."""
    mine = [each for each in judgements if each.reference in own]
    others = [each for each in judgements if each.reference not in own]
    height, width = view.photo.shape[:2]
    return Sighting(
        viewing.setting,
        cv2.contourArea(view.quad) / (width * height),
        any(each.verdict is Verdict.ACCEPTED for each in mine),
        max((each.margin for each in mine if _acceptable(each)), default=MISSED_MARGIN),
        {each.reference: each.margin for each in others if _acceptable(each)},
        frozenset(each.reference for each in others if each.verdict is Verdict.ACCEPTED),
    )


def _acceptable(judgement: Judgement) -> bool:
    """Whether a camera could see the reference so, and there is more evidence than none."""
    return judgement.verdict is not Verdict.IMPLAUSIBLE_QUAD and judgement.margin > MISSED_MARGIN


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A registered reference with the same picture; ``coverage`` is the share that they share."""

    reference: str
    probability: float
    coverage: float


def duplicates(judgements: Iterable[Judgement]) -> tuple[Duplicate, ...]:
    """The references that the clean picture would be answered with, and which look like it all over."""
    found = []
    for judgement in judgements:
        if judgement.comparison and judgement.verdict in ANSWERED_ALONE:
            match = judgement.comparison.match
            evidence = match.candidate.evidence
            if evidence.agreement.everywhere >= DUPLICATE_AGREEMENT:
                coverage = evidence.geometry.coverage
                found.append(Duplicate(judgement.reference, match.probability, coverage))
    return tuple(found)


# What is accepted, or would be if nothing better were at its place.
ANSWERED_ALONE = frozenset({Verdict.ACCEPTED, Verdict.SAME_PLACE_AS_BETTER})


@dataclass(frozen=True, slots=True)
class Rival:
    """Another reference that views were taken for, or nearly.

    ``wrong_share`` of the views were answered with it; ``margin`` is the greatest of its log-odds
    above the threshold, in the views and the clean picture.
    """

    reference: str
    wrong_share: float
    margin: float


@dataclass(frozen=True, slots=True)
class SettingForecast:
    """How well a picture is recognised in one setting, over ``views`` views.

    ``frame_share`` is the mean share of the frame that the picture takes, ``margin`` the mean of
    its log-odds above the threshold.
    """

    condition: ViewingCondition
    frame_share: float
    views: int
    detection_rate: float
    margin: float


@dataclass(frozen=True, slots=True)
class PrintSize:
    """The least size, in centimetres, at which a print is recognised from ``distance`` metres."""

    distance: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """How well a picture will scan.

    ``detection_rate`` is the share of all ``views`` in which it was recognised. ``margin`` is the
    mean of its log-odds above the threshold: it still tells good pictures apart when nearly all
    views are recognised. ``least_frame_share`` is None where not even the nearest views are
    recognised reliably.
    """

    detection_rate: float
    margin: float
    views: int
    settings: tuple[SettingForecast, ...]
    least_frame_share: float | None
    print_sizes: tuple[PrintSize, ...]
    duplicates: tuple[Duplicate, ...]
    rivals: tuple[Rival, ...]
    issues: tuple[Issue, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A clean picture: RGB uint8 [height, width, 3], its features, and its file's (width, height)."""

    picture: Pixels
    size: tuple[int, int]
    features: ReferenceFeatures

    @property
    def aspect(self) -> float:
        """Width over height."""
        width, height = self.size
        return width / height


def forecast(
    subject: Subject, clean: Sequence[Judgement], sightings: Sequence[Sighting]
) -> Forecast:
    """The forecast of a picture from what was decided of it, clean, and from its views' answers.

    ``clean`` comes from a gallery without the picture itself; its ``duplicates`` are no rivals.
    """
    settings = tuple(_of_settings(sightings))
    share = _least_frame_share(settings)
    same = duplicates(clean)
    rivals = tuple(_rivals(clean, sightings, {each.reference for each in same}))
    rate = fmean(sighting.recognised for sighting in sightings)
    found = list(_issues(subject, settings)) if rate < RELIABLE_RATE else []
    resolution = [Issue.RESOLUTION_TOO_LOW] if max(subject.size) < LOW_RESOLUTION else []
    known = [Issue.ALREADY_REGISTERED] if same else []
    return Forecast(
        rate,
        fmean(sighting.margin for sighting in sightings),
        len(sightings),
        settings,
        share,
        () if share is None else tuple(print_sizes(share, subject.aspect)),
        same[:LISTED_REFERENCES],
        rivals[:LISTED_REFERENCES],
        tuple(known + ([Issue.CONFUSABLE] if rivals else []) + resolution + found),
    )


def print_sizes(frame_share: float, aspect: float) -> Iterator[PrintSize]:
    """The sizes at which a print takes this share of the frame; ``aspect`` is width over height.

    The frame is that of a main camera, of about 66 x 50 degrees, held without zoom.
    """
    for distance in DISTANCES:
        area = frame_share * FRAME_AREA * distance**2
        width = 100 * math.sqrt(area * aspect)
        yield PrintSize(distance, width, width / aspect)


def _of_settings(sightings: Sequence[Sighting]) -> Iterator[SettingForecast]:
    by_setting: dict[Setting, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        by_setting[sighting.setting].append(sighting)
    for setting, own in by_setting.items():
        yield SettingForecast(
            setting.condition,
            fmean(sighting.frame_share for sighting in own),
            len(own),
            fmean(sighting.recognised for sighting in own),
            fmean(sighting.margin for sighting in own),
        )


def _least_frame_share(settings: Iterable[SettingForecast]) -> float | None:
    """The least share that is recognised reliably, as are it and the larger ones together."""
    clear = [each for each in settings if each.condition is ViewingCondition.CLEAR]
    clear.sort(key=lambda each: -each.frame_share)
    reliable = [
        each.frame_share
        for number, each in enumerate(clear, start=1)
        if each.detection_rate >= RELIABLE_RATE
        and fmean(larger.detection_rate for larger in clear[:number]) >= RELIABLE_RATE
    ]
    return reliable[-1] if reliable else None


def _rivals(
    clean: Sequence[Judgement], sightings: Sequence[Sighting], same: set[str]
) -> Iterator[Rival]:
    """The rivals, those that views were answered with first."""
    wrong: dict[str, int] = defaultdict(int)
    margins: dict[str, list[float]] = defaultdict(list)
    for sighting in sightings:
        for reference in sighting.wrong:
            wrong[reference] += 1
        for reference, margin in sighting.rivals.items():
            margins[reference].append(margin)
    for judgement in clean:
        if _acceptable(judgement):
            margins[judgement.reference].append(judgement.margin)
    found = []
    for reference in margins.keys() - same:
        near = sum(margin >= RIVAL_MARGIN for margin in margins[reference])
        greatest = max(margins[reference])
        if wrong[reference] or greatest >= 0 or near >= RIVAL_VIEWS:
            found.append(Rival(reference, wrong[reference] / len(sightings), greatest))
    yield from sorted(found, key=lambda each: (-each.wrong_share, -each.margin, each.reference))


def _issues(subject: Subject, settings: Sequence[SettingForecast]) -> Iterator[Issue]:
    """What the picture itself may lack, where it scans badly."""
    lacking = list(_lacks(subject))
    yield from lacking
    clear = [each for each in settings if each.condition is ViewingCondition.CLEAR]
    near = max(clear, key=lambda each: each.frame_share).detection_rate
    far = [each.detection_rate for each in clear if each.frame_share <= 1.1 * FAR_OFF]
    # Lost from afar; or never found for all its details, as a page of small print is.
    if max(far, default=1.0) < 0.5 and (near > 0.5 or not lacking):
        yield Issue.DETAILS_TOO_FINE


def _lacks(subject: Subject) -> Iterator[Issue]:
    local = subject.features.local.values()
    grey = cv2.cvtColor(subject.picture, cv2.COLOR_RGB2GRAY)
    dark, bright = np.percentile(grey, [2, 98])
    if max(len(features) for features in local) < FEW_KEYPOINTS:
        yield Issue.TOO_FEW_DETAILS
    if bright - dark < LOW_CONTRAST_LEVELS:
        yield Issue.LOW_CONTRAST
    if _occupied_cells(np.concatenate([features.points for features in local])) < FEW_CELLS:
        yield Issue.DETAILS_CLUSTERED
    if _repetition(grey) > REPEATED:
        yield Issue.REPETITIVE


def _occupied_cells(points: npt.NDArray[np.float32]) -> int:
    """How many of 4 x 4 cells hold more than a stray keypoint; float32 [n, 2] in shares."""
    columns, rows = np.floor(points.clip(0, 0.999) * 4).astype(int).T
    return int((np.bincount(4 * rows + columns) >= CELL_SHARE * len(points)).sum())


def _repetition(grey: npt.NDArray[np.integer | np.floating]) -> float:
    """The greatest autocorrelation of a grey picture's details beside that with itself, up to 1."""
    small = cv2.resize(grey, (REPEAT_SIDE, REPEAT_SIDE), interpolation=cv2.INTER_AREA)
    details = small - cv2.GaussianBlur(small.astype(np.float32), (0, 0), REPEAT_BLUR)
    alike = np.fft.irfft2(np.abs(np.fft.rfft2(details)) ** 2)
    shift = np.minimum(np.arange(REPEAT_SIDE), REPEAT_SIDE - np.arange(REPEAT_SIDE))
    apart = np.hypot(shift, shift[:, None]) > 2 * REPEAT_BLUR
    return float(alike[apart].max() / max(alike[0, 0], 1e-6))
