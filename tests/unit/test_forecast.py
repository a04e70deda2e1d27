"""What is forecast of a picture, and the views by which it is."""

import asyncio
import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime

import imagelink
import numpy as np
import pytest
from imagelink._conversions import image_issue_kind, viewing_condition
from imagelink.v1 import gallery_pb2

from benchmarks.artwork import draw_collection
from benchmarks.errors import BenchmarkError
from benchmarks.forecast import Sample, result
from indexing.bundle import Bundle
from indexing.errors import DatabaseUnavailable, ImageLinkError, ImageTooPlain, Overloaded
from indexing.features import FeatureExtractor
from indexing.forecast import Forecast, Issue, Sighting, Subject, forecast
from indexing.gallery_records import Written
from indexing.image import Pixels
from indexing.reference import DEFAULT_FALSE_ACCEPT_BUDGET, Publisher, Reference
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference
from indexing.shard import Shard
from indexing.viewing import SETTINGS, Setting, Viewing, ViewingCondition, planned_views
from server.assessment import MAX_WAITING, Assessor
from tests.e2e.pictures import artworks, encoded, patchwork
from tests.one_model import OneModel

NOW = datetime.now(tz=UTC)
PUBLISHER = Publisher("acme", "", False, DEFAULT_FALSE_ACCEPT_BUDGET, 1, NOW)
POSTERS = {art.name: art.picture for art in draw_collection("poster", 3, seed=3)}
NAME, POSTER = next(iter(POSTERS.items()))
GREY = np.full((512, 512, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def poster(extractor: FeatureExtractor) -> Subject:
    return subject_of(POSTER, extractor)


def subject_of(picture: Pixels, extractor: FeatureExtractor) -> Subject:
    size = picture.shape[1], picture.shape[0]
    return Subject(picture, size, extractor.reference(picture))


def of(condition: ViewingCondition) -> Setting:
    """The first setting of a condition."""
    return next(setting for setting in SETTINGS if setting.condition is condition)


def seen(setting: Setting, recognised: bool, rivals: dict[str, float] | None = None) -> Sighting:
    """The answer to a view that takes the share of the frame which its setting asks for."""
    return Sighting(
        setting, setting.view.area[0], recognised, 5.0 if recognised else -8.0, rivals or {}
    )


def clear_ones(*rates: float) -> list[Sighting]:
    """The answers to four views in each clear setting, the nearest first."""
    clear = [each for each in SETTINGS if each.condition is ViewingCondition.CLEAR]
    return [
        seen(setting, turn < 4 * rate)
        for setting, rate in zip(clear, rates, strict=True)
        for turn in range(4)
    ]


# The views


def test_the_same_file_gets_the_same_views_and_another_file_others() -> None:
    first, again, other = (
        [v.render(POSTER).photo for v in planned_views(hashlib.sha256(name).digest())[::9]]
        for name in (b"a", b"a", b"b")
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_views_take_the_share_of_the_frame_that_they_are_meant_to(poster: Subject) -> None:
    for setting in SETTINGS:
        view = Viewing(setting, 0, 1).render(POSTER)
        x, y = view.quad.T
        area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
        share = area / (view.photo.shape[0] * view.photo.shape[1])
        assert share == pytest.approx(setting.view.area[0], rel=0.01)


def test_dim_views_are_dark_glare_is_bright_and_cover_hides() -> None:
    plain = ViewingCondition.CLEAR
    # The second setting is as near as those of the other conditions.
    clear = Viewing(SETTINGS[1], 1, 1).render(POSTER).photo.astype(int)
    assert SETTINGS[1].condition is plain
    dim, glare, covered = (
        Viewing(of(condition), 1, 1).render(POSTER).photo.astype(int)
        for condition in (ViewingCondition.DIM, ViewingCondition.GLARE, ViewingCondition.COVERED)
    )
    assert dim.mean() < 0.5 * clear.mean()
    assert glare.mean() > clear.mean()
    assert 0.01 < (np.abs(covered - clear) > 40).any(axis=2).mean() < 0.1


# The forecast


def test_rates_are_shares_of_the_views(poster: Subject) -> None:
    made = forecast(poster, [], clear_ones(1.0, 1.0, 0.5, 0.0))
    assert made.views == 16
    assert made.detection_rate == pytest.approx(10 / 16)
    assert made.margin == pytest.approx((10 * 5 - 6 * 8) / 16)
    assert [each.detection_rate for each in made.settings] == [1.0, 1.0, 0.5, 0.0]
    assert [each.frame_share for each in made.settings] == [0.4, 0.2, 0.1, 0.05]


@pytest.mark.parametrize(
    ("rates", "share"),
    [
        ((1.0, 1.0, 1.0, 1.0), 0.05),
        ((1.0, 1.0, 0.75, 0.0), 0.2),
        ((0.75, 0.0, 0.0, 0.0), None),
        # What is missed close up is not recognised from afar but by luck.
        ((0.5, 0.5, 0.5, 1.0), None),
    ],
)
def test_the_least_share_is_recognised_as_are_the_larger_ones(
    poster: Subject, rates: tuple[float, ...], share: float | None
) -> None:
    made = forecast(poster, [], clear_ones(*rates))
    assert made.least_frame_share == share
    assert bool(made.print_sizes) == (share is not None)


def test_a_print_of_the_least_size_takes_the_least_share_of_the_frame(poster: Subject) -> None:
    made = forecast(poster, [], clear_ones(1.0, 1.0, 1.0, 0.0))
    for size in made.print_sizes:
        frame = [200 * size.distance * math.tan(math.radians(angle / 2)) for angle in (66, 50)]
        assert size.width * size.height / (frame[0] * frame[1]) == pytest.approx(0.1)
        assert size.width / size.height == pytest.approx(poster.aspect)
    assert {size.distance for size in made.print_sizes} == {0.5, 1.0, 2.0, 5.0}


def test_a_reference_that_comes_near_once_is_chance_and_twice_a_rival(poster: Subject) -> None:
    clear = SETTINGS[0]
    views = [seen(clear, True, {"once": -1.0, "twice": -1.0, "far": -6.0})]
    views += [seen(clear, True, {"twice": -0.5, "far": -6.0})]
    made = forecast(poster, [], views)
    assert [(each.reference, each.margin) for each in made.rivals] == [("twice", -0.5)]
    assert Issue.CONFUSABLE in made.issues


def test_the_rival_that_was_answered_comes_first(poster: Subject) -> None:
    near = {"near": -0.1, "answered": -0.2}
    views = [seen(SETTINGS[0], True, near)] * 3
    views += [Sighting(SETTINGS[0], 0.4, False, -8.0, {"answered": 2.0}, frozenset({"answered"}))]
    made = forecast(poster, [], views)
    assert [each.reference for each in made.rivals] == ["answered", "near"]
    assert made.rivals[0].wrong_share == 0.25
    assert made.rivals[0].margin == 2.0


def pale() -> Pixels:
    return np.asarray(128 + (patchwork(5, 512).astype(int) - 128) // 8, np.uint8)


def in_a_corner() -> Pixels:
    picture = GREY.copy()
    picture[20:140, 20:140] = patchwork(6, 120)
    return picture


def tiled() -> Pixels:
    return np.tile(patchwork(7, 64), (8, 8, 1))


def with_two_boxes() -> Pixels:
    picture = GREY.copy()
    picture[100:300, 200:400], picture[350:450, 50:480] = 30, 90
    return picture


@pytest.mark.parametrize(
    ("picture", "issue"),
    [
        (pale(), Issue.LOW_CONTRAST),
        (in_a_corner(), Issue.DETAILS_CLUSTERED),
        (tiled(), Issue.REPETITIVE),
        (with_two_boxes(), Issue.TOO_FEW_DETAILS),
    ],
)
def test_what_a_picture_lacks_is_said_where_it_scans_badly(
    extractor: FeatureExtractor, picture: Pixels, issue: Issue
) -> None:
    subject = subject_of(picture, extractor)
    assert issue in forecast(subject, [], clear_ones(0.5, 0.0, 0.0, 0.0)).issues
    assert forecast(subject, [], clear_ones(1.0, 1.0, 1.0, 1.0)).issues == ()


def test_details_are_too_fine_where_only_close_ups_are_recognised(poster: Subject) -> None:
    assert forecast(poster, [], clear_ones(1.0, 0.5, 0.0, 0.0)).issues == (Issue.DETAILS_TOO_FINE,)
    assert forecast(poster, [], clear_ones(1.0, 1.0, 0.75, 0.0)).issues == ()


def test_a_file_of_few_pixels_is_told_however_it_scans(extractor: FeatureExtractor) -> None:
    small = subject_of(patchwork(1, 200), extractor)
    made = forecast(small, [], clear_ones(1.0, 1.0, 1.0, 1.0))
    assert made.issues == (Issue.RESOLUTION_TOO_LOW,)


def test_every_condition_and_issue_has_its_value_in_the_api_and_the_client() -> None:
    conditions = [viewing_condition(value) for value in gallery_pb2.ViewingCondition.values()]
    kinds = [image_issue_kind(value) for value in gallery_pb2.ImageIssueKind.values()]
    assert {each.name for each in conditions[1:]} == {each.name for each in ViewingCondition}
    assert {each.name for each in kinds[1:]} == {each.name for each in Issue}
    assert viewing_condition(999) is imagelink.ViewingCondition.UNKNOWN
    assert image_issue_kind(999) is imagelink.ImageIssueKind.UNKNOWN
    assert all(issue.advice for issue in Issue)


# The flow, on a gallery in this process


class LocalSearch:
    """The search of a gallery in this process, which fails with ``error`` if there is one.

    It waits for ``opened``.
    """

    def __init__(self, bundle: Bundle, pictures: dict[str, Pixels]) -> None:
        extractor = FeatureExtractor(bundle)
        self.error: ImageLinkError | None = None
        self.opened = asyncio.Event()
        self.opened.set()
        self.shard = Shard(bundle)
        references = [
            IndexedReference(name, "", {}, (extractor.reference(picture),))
            for name, picture in pictures.items()
        ]
        self.shard.replace(PUBLISHER.id, 7, references)

    async def __call__(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        await self.opened.wait()
        return [self.error or self.shard.search(query) for query in queries]


@pytest.fixture
def search(bundle: Bundle) -> LocalSearch:
    return LocalSearch(bundle, POSTERS)


async def assessed(assessor: Assessor, picture: Pixels) -> Forecast:
    return (await assessor.assess(PUBLISHER, encoded(picture, "PNG"))).forecast


def written(reference: str, active: bool = True) -> Written:
    return Written(Reference(PUBLISHER.id, reference, "", {}, active, NOW, NOW), 7)


async def test_a_new_picture_is_recognised_beside_the_gallery(
    bundle: Bundle, search: LocalSearch
) -> None:
    made = await assessed(Assessor(OneModel(bundle).serving, search), patchwork(1, 512))
    assert made.detection_rate > 0.8
    assert (made.duplicates, made.rivals) == ((), ())
    assert made.issues == ()


async def test_half_of_a_registered_picture_is_confusable(bundle: Bundle) -> None:
    registered, other = artworks()[0], artworks()[5]
    picture = registered.copy()
    half = picture.shape[0] // 2
    picture[half:] = other[half : len(picture), : picture.shape[1]]
    made = await assessed(
        Assessor(OneModel(bundle).serving, LocalSearch(bundle, {"poster": registered})), picture
    )
    assert [each.reference for each in made.rivals] == ["poster"]
    assert made.duplicates == ()
    assert Issue.CONFUSABLE in made.issues


@pytest.mark.parametrize("active", [True, False])
async def test_a_registered_reference_is_no_duplicate_of_itself(
    bundle: Bundle, search: LocalSearch, active: bool
) -> None:
    if not active:
        search.shard.apply(PUBLISHER.id, 8, [], [NAME])
    image = encoded(POSTER, "PNG")
    made = await Assessor(OneModel(bundle).serving, search).assess_registered(
        PUBLISHER, image, written(NAME, active)
    )
    assert made is not None
    assert made.forecast.detection_rate > 0.6
    assert made.forecast.duplicates == ()
    assert made.gallery_version == (7 if active else 8)


async def test_a_registration_does_not_fail_with_its_assessment(
    bundle: Bundle, search: LocalSearch
) -> None:
    search.error = DatabaseUnavailable()
    assessor = Assessor(OneModel(bundle).serving, search)
    image = encoded(POSTER, "PNG")
    assert await assessor.assess_registered(PUBLISHER, image, written(NAME)) is None
    with pytest.raises(DatabaseUnavailable):
        await assessor.assess(PUBLISHER, image)


async def test_more_than_can_wait_are_sent_away(bundle: Bundle, search: LocalSearch) -> None:
    search.error = DatabaseUnavailable()
    search.opened.clear()
    assessor = Assessor(OneModel(bundle).serving, search)
    image = encoded(patchwork(1, 128), "PNG")
    calls = [
        asyncio.ensure_future(assessor.assess(PUBLISHER, image)) for _ in range(MAX_WAITING + 3)
    ]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    search.opened.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert Overloaded in map(type, errors)
    assert set(map(type, errors)) == {DatabaseUnavailable, Overloaded}


async def test_an_image_that_is_too_plain_is_refused(bundle: Bundle, search: LocalSearch) -> None:
    with pytest.raises(ImageTooPlain):
        await Assessor(OneModel(bundle).serving, search).assess(PUBLISHER, encoded(GREY, "PNG"))


# The benchmark


def sample(number: int, real_margin: float) -> Sample:
    return Sample(str(number), 2, 500, 0.5, float(number), 1.0, 1.0, real_margin, 1.0)


def test_correlations_are_those_of_ranks_and_what_does_not_vary_has_none() -> None:
    found = result([sample(number, math.exp(number)) for number in range(8)])["correlations"]
    assert [(each["predictor"], each["correlation"]) for each in found] == [("mean margin", 1.0)]
    assert found[0]["interval"] == pytest.approx((1.0, 1.0))
    with pytest.raises(BenchmarkError, match="Only 2 references"):
        result([sample(number, 1.0) for number in range(2)])
