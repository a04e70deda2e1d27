import numpy as np
import pytest

from indexing.verification import one_to_one, overlap, verify
from indexing.voting import PLACE_BITS, vote

RNG = np.random.default_rng(0)
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def seen_through(points: np.ndarray, homography: np.ndarray) -> np.ndarray:
    projected = np.c_[points, np.ones(len(points))] @ homography.T
    return (projected[:, :2] / projected[:, 2:]).astype(np.float32)


TILTED = np.array([[0.5, 0.1, 0.2], [-0.1, 0.6, 0.25], [0.05, 0.1, 1.0]])
MIRRORED = np.array([[-0.5, 0.0, 0.8], [0.0, 0.5, 0.2], [0.0, 0.0, 1.0]])


def test_homography_is_found_among_wrong_correspondences() -> None:
    reference = RNG.random((60, 2)).astype(np.float32)
    photo = seen_through(reference, TILTED)
    photo[:25] = RNG.random((25, 2))

    geometry = verify(photo, reference, 4 / 3)

    assert geometry is not None
    assert geometry.plausible
    assert 33 <= geometry.inliers <= 40
    assert geometry.matches == 60
    np.testing.assert_allclose(geometry.quad, seen_through(CORNERS, TILTED), atol=0.01)


def test_wrong_correspondences_alone_are_no_homography() -> None:
    for _ in range(20):
        geometry = verify(
            RNG.random((40, 2)).astype(np.float32), RNG.random((40, 2)).astype(np.float32), 1.0
        )
        assert geometry is None or geometry.inliers < 12


def test_mirrored_reference_is_not_plausible() -> None:
    reference = RNG.random((50, 2)).astype(np.float32)
    geometry = verify(seen_through(reference, MIRRORED), reference, 1.0)
    assert geometry is None or not geometry.plausible


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_too_few_correspondences_are_none(count: int) -> None:
    points = RNG.random((count, 2)).astype(np.float32)
    assert verify(points, points, 1.0) is None


def test_crowd_at_one_spot_counts_once() -> None:
    spots = np.repeat(RNG.random((4, 2)).astype(np.float32), 30, axis=0)
    assert verify(spots, spots, 1.0) is None


def test_one_to_one_keeps_the_best_of_each_end() -> None:
    query = np.array([0, 0, 1, 2])
    place = np.array([5, 6, 5, 7])
    weights = np.array([3.0, 1.0, 2.0, 1.0], np.float32)
    assert sorted(one_to_one(query, place, weights).tolist()) == [0, 3]


def test_overlap_is_of_the_smaller_quad() -> None:
    assert overlap(CORNERS, CORNERS * 0.5) == pytest.approx(1.0, abs=1e-4)
    assert overlap(CORNERS, CORNERS + 2) == 0.0


def test_an_image_gets_one_vote_per_descriptor_weighted_by_its_lead() -> None:
    ids = np.array([[1 << PLACE_BITS | 3, 1 << PLACE_BITS | 4, 2 << PLACE_BITS, -1]])
    distances = np.array([[1.0, 2.0, 5.0, 9.0]], np.float32)

    votes = vote(distances, ids)

    assert votes.images.tolist() == [1, 2]
    assert votes.place.tolist() == [3, 0]
    assert votes.weights.tolist() == [4.0, 0.0]
    assert votes.ranking(5) == [(1, 1.0), (2, 0.0)]


def test_no_neighbours_are_no_votes() -> None:
    votes = vote(np.zeros((4, 8), np.float32), np.full((4, 8), -1))
    assert votes.ranking(5) == []
    assert [len(part) for part in votes.of(0)] == [0, 0, 0]
