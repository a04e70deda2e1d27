"""The patches about corners."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.artwork import draw_collection
from indexing.corners import Corners
from indexing.patches import cut_patches


@pytest.fixture(scope="module")
def grey() -> npt.NDArray[np.uint8]:
    (art,) = draw_collection("poster", 1, seed=4)
    return np.asarray(cv2.cvtColor(art.picture, cv2.COLOR_RGB2GRAY), np.uint8)


def test_a_patch_turns_and_grows_with_its_corner(grey: npt.NDArray[np.uint8]) -> None:
    height, width = grey.shape
    spot = np.array([[width / 2, height / 2]], np.float32)
    corner = Corners(spot, np.array([16.0], np.float32), np.array([0.4], np.float32))
    (patch,) = cut_patches(grey, corner).astype(int)
    larger = cv2.resize(grey, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    for picture, moved in (
        # A quarter turn clockwise takes (x, y) to (height - 1 - y, x).
        (
            np.ascontiguousarray(np.rot90(grey, -1)),
            Corners(
                np.array([[height - 1 - spot[0, 1], spot[0, 0]]], np.float32),
                corner.diameters,
                corner.angles + np.float32(np.pi / 2),
            ),
        ),
        (
            np.asarray(larger, np.uint8),
            Corners(2 * spot + np.float32(0.5), 2 * corner.diameters, corner.angles),
        ),
    ):
        (same,) = cut_patches(picture, moved).astype(int)
        assert np.abs(same - patch).mean() < 0.1 * patch.std()
