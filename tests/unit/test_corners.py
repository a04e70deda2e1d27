"""Corners of pictures."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.artwork import draw_collection
from indexing.corners import DIAMETER, REACHES, SIZES, Corners, find_corners

Grey = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def grey() -> Grey:
    (art,) = draw_collection("poster", 1, seed=4)
    return np.asarray(cv2.cvtColor(art.picture, cv2.COLOR_RGB2GRAY), np.uint8)


@pytest.fixture(scope="module")
def corners(grey: Grey) -> Corners:
    return find_corners(grey, 200)


def refound(
    moved: Grey, transform: npt.NDArray[np.float64], corners: Corners
) -> tuple[Corners, Corners]:
    """Corners where a similarity, [2, 3], takes them, and of its picture those nearest to each."""
    turn = np.arctan2(transform[1, 0], transform[0, 0])
    scale = np.hypot(*transform[:, 0])
    expected = Corners(
        (corners.points @ transform[:, :2].T + transform[:, 2]).astype(np.float32),
        (corners.diameters * scale).astype(np.float32),
        (corners.angles + turn).astype(np.float32),
    )
    found = find_corners(moved, 2 * len(corners))
    apart = np.linalg.norm(expected.points[:, None] - found.points, axis=2)
    octaves = np.abs(np.log2(expected.diameters[:, None] / found.diameters))
    return expected, found.take((apart + 100 * (octaves > 0.5)).argmin(axis=1))


def test_corners_are_of_all_sizes_the_first_few_as_well(corners: Corners) -> None:
    assert 150 < len(corners) <= 200
    assert len(np.unique(corners.diameters)) == SIZES
    assert len(np.unique(corners.diameters[:40])) == SIZES
    assert corners.diameters.min() == DIAMETER


def test_corners_of_one_size_are_apart(corners: Corners) -> None:
    for diameter in np.unique(corners.diameters):
        points = corners.points[corners.diameters == diameter]
        apart = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(len(points))
        # Each is a maximum among its neighbours, and moves from there by half a pixel at most.
        assert apart.min() >= (REACHES[0] // 2) * diameter / DIAMETER


def test_a_picture_in_the_shade_has_corners_beside_a_bright_one(grey: Grey) -> None:
    dark = (0.2 * grey + 10).astype(np.uint8)
    found = find_corners(np.hstack([grey, dark]), 300)
    assert (found.points[:, 0] > grey.shape[1]).mean() > 0.1


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.0), (33, 1.0), (-70, 0.8), (180, 0.6)])
def test_a_corner_is_found_again_to_a_fraction_of_a_pixel(
    grey: Grey, corners: Corners, degrees: float, scale: float
) -> None:
    height, width = grey.shape
    side = int(1.5 * max(grey.shape))
    transform = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, scale)
    transform[:, 2] += side / 2 - np.array([width, height]) / 2 + 0.4
    moved = cv2.warpAffine(grey, transform, (side, side), borderValue=128, flags=cv2.INTER_AREA)
    expected, found = refound(np.asarray(moved, np.uint8), transform, corners)
    # In pixels of the size that a corner is of.
    off = np.linalg.norm(expected.points - found.points, axis=1) * DIAMETER / corners.diameters
    again = off < 2
    assert again.mean() > 0.6
    assert np.median(off[again]) < 0.5
    turned = np.abs(np.angle(np.exp(1j * (expected.angles - found.angles))))
    assert np.median(np.degrees(turned[again])) < 5


def test_noise_moves_no_corner(grey: Grey, corners: Corners) -> None:
    noise = np.random.default_rng(3).normal(0, 6, grey.shape)
    noisy = np.clip(grey + noise, 0, 255).astype(np.uint8)
    expected, found = refound(noisy, np.eye(2, 3), corners)
    assert (np.linalg.norm(expected.points - found.points, axis=1) < 1).mean() > 0.7


@pytest.mark.parametrize("shape", [(200, 200), (20, 300), (1, 400), (3, 3)])
def test_a_plain_or_tiny_picture_has_no_corners(shape: tuple[int, int]) -> None:
    assert len(find_corners(np.full(shape, 90, np.uint8), 50)) == 0


def test_a_picture_of_few_corners_gives_them_all() -> None:
    square = np.full((120, 120), 200, np.uint8)
    square[40:80, 40:80] = 50
    found = find_corners(square, 100)
    finest = found.points[found.diameters == DIAMETER]
    wanted = np.array([[39.5, 39.5], [79.5, 39.5], [39.5, 79.5], [79.5, 79.5]])
    nearest = np.linalg.norm(finest[:, None] - wanted, axis=2)
    assert len(finest) == 4
    assert nearest.min(axis=0).max() < 2
