import itertools

import cv2
import numpy as np
import pytest

from benchmarks.artwork import (
    KINDS,
    Artwork,
    Kind,
    capacity,
    draw_collection,
    draw_publishers,
    draw_strangers,
)

Drawn = tuple[dict[str, list[Artwork]], list[Artwork]]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw_publishers(seed=7), draw_strangers(seed=7)


@pytest.fixture(scope="module")
def works(drawn: Drawn) -> list[Artwork]:
    publishers, strangers = drawn
    return [work for gallery in publishers.values() for work in gallery] + strangers


def small(work: Artwork) -> np.ndarray:
    return cv2.resize(work.picture, (48, 48), interpolation=cv2.INTER_AREA).astype(float)


def shared_keypoints(first: tuple, second: tuple) -> int:
    """How many keypoints of one picture one turn, scale and shift finds again in the other."""
    (here, ours), (there, theirs) = first, second
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(ours, theirs)
    source = np.float32([here[pair.queryIdx].pt for pair in pairs])
    target = np.float32([there[pair.trainIdx].pt for pair in pairs])
    _, kept = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=4.0, maxIters=500)
    return 0 if kept is None else int(kept.sum())


def test_two_publishers_and_strangers(drawn: Drawn):
    publishers, strangers = drawn
    assert {name: len(gallery) for name, gallery in publishers.items()} == {
        "north-gallery": 12,
        "city-press": 16,
    }
    assert len(strangers) == 10
    assert {work.kind for work in strangers} == set(KINDS)


def test_names_and_titles_are_unique(works: list[Artwork]):
    assert len({work.name for work in works}) == len(works) == sum(map(capacity, KINDS))
    assert len({work.title for work in works}) == len(works)


def test_pictures_are_rgb_of_a_handy_size(works: list[Artwork]):
    for work in works:
        height, width, channels = work.picture.shape
        assert work.picture.dtype == np.uint8
        assert channels == 3
        assert 500 <= min(height, width) <= max(height, width) <= 900


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_draws_the_same_pictures(kind: Kind):
    first, again = (draw_collection(kind, 1, seed=3, start=1)[0] for _ in range(2))
    other = draw_collection(kind, 1, seed=4, start=1)[0]
    np.testing.assert_array_equal(first.picture, again.picture)
    assert not np.array_equal(first.picture, other.picture)


def test_a_picture_does_not_depend_on_how_many_are_drawn():
    three = draw_collection("logo", 3, seed=5)
    alone = draw_collection("logo", 1, seed=5, start=2)
    np.testing.assert_array_equal(three[2].picture, alone[0].picture)


def test_every_picture_has_texture(works: list[Artwork]):
    detector = cv2.ORB_create(500)
    poor = [work.title for work in works if len(detector.detect(work.picture, None)) < 150]
    assert poor == []


def test_pictures_look_different(works: list[Artwork]):
    thumbnails = {work.title: small(work) for work in works}
    for (one, first), (two, second) in itertools.combinations(thumbnails.items(), 2):
        assert np.abs(first - second).mean() > 25, f"{one} looks like {two}"


def test_no_two_pictures_share_geometry(works: list[Artwork]):
    orb = cv2.ORB_create(500)
    features = {work.title: orb.detectAndCompute(work.picture, None) for work in works}
    for (one, first), (two, second) in itertools.combinations(features.items(), 2):
        assert shared_keypoints(first, second) < 25, f"{one} matches {two}"


def test_asking_for_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="different pictures of kind logo"):
        draw_collection("logo", capacity("logo") + 1, seed=0)
