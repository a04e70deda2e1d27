from dataclasses import replace

import cv2
import numpy as np
import pytest

from indexing.keypoints import Channel, LocalFeatures
from indexing.verification import consistent, one_to_one, overlap, pose_error, refined, verify
from indexing.voting import PLACE_BITS, nearest, vote

RNG = np.random.default_rng(0)
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


TILTED = np.array([[0.5, 0.1, 0.2], [-0.1, 0.6, 0.25], [0.05, 0.1, 1.0]])
MIRRORED = np.array([[-0.5, 0.0, 0.8], [0.0, 0.5, 0.2], [0.0, 0.0, 1.0]])
SIZE = 0.01


def seen_through(points: np.ndarray, homography: np.ndarray) -> np.ndarray:
    projected = np.c_[points, np.ones(len(points))] @ homography.T
    return (projected[:, :2] / projected[:, 2:]).astype(np.float32)


def keypoints(points: np.ndarray, ends: np.ndarray) -> LocalFeatures:
    """Keypoints of a square image, as long as from ``points`` to ``ends`` and pointing there."""
    arms = ends - points
    return LocalFeatures(
        points.astype(np.float32),
        np.linalg.norm(arms, axis=1).astype(np.float32),
        np.arctan2(arms[:, 1], arms[:, 0]).astype(np.float32),
        np.zeros((len(points), 0), np.uint8),
        1.0,
    )


def drawn(count: int) -> LocalFeatures:
    """Keypoints anywhere, of any direction."""
    points, angles = RNG.random((count, 2)), RNG.random(count) * 2 * np.pi
    return keypoints(points, points + SIZE * np.c_[np.cos(angles), np.sin(angles)])


def photographed(reference: LocalFeatures, homography: np.ndarray) -> LocalFeatures:
    arms = reference.scales[:, None] * np.c_[np.cos(reference.angles), np.sin(reference.angles)]
    ends = seen_through(reference.points + arms, homography)
    return keypoints(seen_through(reference.points, homography), ends)


def joined(first: LocalFeatures, second: LocalFeatures) -> LocalFeatures:
    fields = ("points", "scales", "angles", "descriptors")
    rows = (np.concatenate([getattr(first, name), getattr(second, name)]) for name in fields)
    return LocalFeatures(*rows, 1.0)


@pytest.mark.parametrize("homography", [TILTED, np.diag([0.2, 0.2, 1.0]), np.diag([0.9, 0.5, 1.0])])
def test_homography_is_found_among_wrong_correspondences(homography: np.ndarray) -> None:
    right, wrong = drawn(20), drawn(45)

    geometry = verify(joined(photographed(right, homography), drawn(45)), joined(right, wrong))

    assert geometry is not None
    assert geometry.plausible
    assert 18 <= geometry.inliers <= 24
    assert geometry.matches == 65
    np.testing.assert_allclose(geometry.quad, seen_through(CORNERS, homography), atol=0.02)
    assert geometry.correspondences.inlier[:20].mean() > 0.9


def test_wrong_correspondences_alone_are_no_homography() -> None:
    for _ in range(100):
        geometry = verify(drawn(60), drawn(60))
        assert geometry is None or geometry.inliers < 9


def test_keypoints_that_point_elsewhere_do_not_agree() -> None:
    reference = drawn(30)
    photo = photographed(reference, TILTED)
    astray = replace(photo, angles=RNG.permutation(photo.angles))
    assert len(consistent(photo, reference)) == 30
    assert len(consistent(astray, reference)) < 15


def test_mirrored_reference_is_not_plausible() -> None:
    reference = drawn(50)
    geometry = verify(photographed(reference, MIRRORED), reference)
    assert geometry is None or not geometry.plausible
    assert geometry is None or pose_error(geometry, 1.0, 1.0) == np.inf


def tilted_about(axis: float, degrees: float, distance: float) -> np.ndarray:
    """A homography of a square image tilted in front of a camera so far away, in its sides."""
    turn = np.array([[np.cos(axis), -np.sin(axis)], [np.sin(axis), np.cos(axis)]])
    angle = np.radians(degrees)
    flattened = turn @ np.diag([1, np.cos(angle)]) @ turn.T
    depth = turn @ np.array([0, np.sin(angle) / distance])
    centred = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    seen = np.vstack([np.c_[flattened, np.zeros(2)], np.r_[depth, 1]])
    return np.diag([0.5, 0.5, 1]) @ np.linalg.inv(centred) @ seen @ centred


@pytest.mark.parametrize("degrees", [0, 30, 50])
@pytest.mark.parametrize("distance", [2, 4, 8])
def test_the_pose_of_a_flat_print_is_one_that_a_camera_sees(
    degrees: float, distance: float
) -> None:
    reference = drawn(50)
    for axis in np.radians([0, 40, 90]):
        photo = photographed(reference, tilted_about(axis, degrees, distance))
        geometry = verify(photo, reference)
        assert geometry is not None
        assert pose_error(geometry, 1.0, 1.0) < 0.04


def test_a_quad_that_narrows_without_being_foreshortened_is_far_from_any_pose() -> None:
    narrowing = np.array([[0.1, 0.1], [0.7, 0.2], [0.7, 0.55], [0.1, 0.7]], np.float32)
    reference = drawn(100)
    photo = photographed(reference, cv2.getPerspectiveTransform(CORNERS, narrowing))
    geometry = verify(photo, reference)
    assert geometry is not None
    assert pose_error(geometry, 1.0, 1.0) > 0.05


def test_refinement_spreads_over_the_reference_from_a_few_crowded_inliers() -> None:
    corner, rest = drawn(8), drawn(60)
    corner = replace(corner, points=corner.points * np.float32(0.25))
    seen = photographed(corner, TILTED)
    noise = RNG.normal(0, 0.001, seen.points.shape).astype(np.float32)
    geometry = verify(replace(seen, points=seen.points + noise), corner)
    assert geometry is not None
    assert geometry.plausible

    photo, reference = joined(photographed(rest, TILTED), drawn(150)), joined(rest, drawn(150))
    better = refined(geometry, photo, reference)

    truth = seen_through(CORNERS, TILTED)
    errors = [np.linalg.norm(each.quad - truth, axis=1).max() for each in (geometry, better)]
    assert errors[1] < 0.2 * errors[0]
    assert better.inliers >= 50
    assert better.matches == 210
    assert better.coverage > 2 * geometry.coverage


def test_refinement_that_finds_nothing_better_counts_against_a_geometry() -> None:
    few, rest = drawn(12), drawn(200)
    geometry = verify(photographed(few, TILTED), few)
    assert geometry is not None

    same = refined(geometry, joined(photographed(few, TILTED), drawn(200)), joined(few, rest))

    np.testing.assert_allclose(same.quad, geometry.quad, atol=0.02)
    assert same.matches == 212
    assert same.significance < geometry.significance


def test_the_nearest_descriptor_is_found_by_each_channels_own_distance() -> None:
    # By its bits 7 is as far from 0 as can be of the three, by its value the nearest.
    others = np.array([[7], [8], [16]], np.uint8)
    zero = np.array([[0]], np.uint8)
    assert nearest(zero, others, Channel.FINE).tolist() == [0]
    assert nearest(zero, others, Channel.ORB).tolist() == [1]


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_too_few_correspondences_are_none(count: int) -> None:
    points = drawn(count)
    assert verify(points, points) is None


def test_crowd_at_one_spot_counts_once() -> None:
    spots = drawn(4).take(np.repeat(np.arange(4), 30))
    assert verify(spots, spots) is None


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
