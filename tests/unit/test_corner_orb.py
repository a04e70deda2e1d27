"""ORB descriptors of corners."""

import numpy as np
import pytest

from benchmarks.artwork import draw_collection
from indexing.corner_orb import CornerOrbExtractor
from indexing.corners import find_corners
from indexing.image import Pixels, scaled
from indexing.keypoints import LocalFeatures, OrbExtractor, scaled_grey


@pytest.fixture(scope="module")
def picture() -> Pixels:
    (art,) = draw_collection("poster", 1, seed=9)
    return scaled(art.picture, 480)


@pytest.fixture(scope="module")
def features(picture: Pixels) -> LocalFeatures:
    return CornerOrbExtractor().extract(picture, 200)


def test_every_corner_has_its_descriptor(picture: Pixels, features: LocalFeatures) -> None:
    corners = find_corners(scaled_grey(picture, 480), 200)
    assert features.descriptors.shape == (len(corners), 32)
    assert np.allclose(features.pixels(480), corners.points, atol=1e-3)
    # The strongest are the same ones among fewer, and described alike, wherever ORB sorted them.
    fewer = CornerOrbExtractor().extract(picture, 120)
    described = {
        tuple(p): bytes(d) for p, d in zip(features.points, features.descriptors, strict=True)
    }
    both = [
        (described[tuple(p)], bytes(d))
        for p, d in zip(fewer.points, fewer.descriptors, strict=True)
        if tuple(p) in described
    ]
    assert len(both) > 100
    assert all(one == other for one, other in both)


@pytest.mark.parametrize(("turns", "share"), [(0, 1.0), (1, 1.0), (2, 0.7), (3, 0.7)])
def test_corners_of_a_turned_and_shrunk_picture_are_told_apart(
    picture: Pixels, features: LocalFeatures, turns: int, share: float
) -> None:
    turned = np.ascontiguousarray(np.rot90(picture, turns))
    other = CornerOrbExtractor().extract(scaled(turned, round(480 * share)), 400)
    bits = np.unpackbits(features.descriptors, axis=1).astype(int)
    others = np.unpackbits(other.descriptors, axis=1).astype(int)
    nearest = (bits[:, None] != others[None]).sum(axis=2).argmin(axis=1)
    expected = features.points
    for _ in range(turns):
        expected = np.stack([expected[:, 1], 1 - expected[:, 0]], axis=1)
    right = np.linalg.norm(other.points[nearest] - expected, axis=1) < 0.01
    assert right.mean() > 0.4


@pytest.mark.parametrize("shape", [(48, 64), (1, 400), (20, 30)])
def test_a_plain_or_tiny_picture_has_no_keypoints(shape: tuple[int, int]) -> None:
    local = CornerOrbExtractor().extract(np.full((*shape, 3), 90, np.uint8), 100)
    assert local.descriptors.shape == (0, 32)
    assert local.aspect == pytest.approx(shape[1] / shape[0])


def test_it_finds_something_else_than_orb_does() -> None:
    assert CornerOrbExtractor().same_as(CornerOrbExtractor())
    assert not CornerOrbExtractor().same_as(OrbExtractor())
    assert not OrbExtractor().same_as(CornerOrbExtractor())
