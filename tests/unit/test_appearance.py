import cv2
import numpy as np
import pytest

from benchmarks.artwork import draw_collection
from indexing.appearance import agreement, photo_levels, thumbnail
from indexing.image import Pixels

PICTURES = [art.picture for art in draw_collection("poster", 4, seed=5)]
QUAD = np.array([[0.2, 0.15], [0.75, 0.25], [0.7, 0.9], [0.25, 0.8]], np.float32)


def photo_of(picture: Pixels, gain: float = 1.0, covered: float = 0.0) -> Pixels:
    """The picture in QUAD of a grey photo, its right ``covered`` share hidden."""
    shown = picture.copy()
    shown[:, int(shown.shape[1] * (1 - covered)) :] = 90
    height, width = shown.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    transform = cv2.getPerspectiveTransform(corners, QUAD * np.array([640, 480], np.float32))
    photo = cv2.warpPerspective(shown, transform, (640, 480), borderValue=(120, 120, 120))
    return np.asarray((photo * gain).clip(0, 255), np.uint8)


def alike(photo: Pixels, picture: Pixels, quad: np.ndarray = QUAD) -> float:
    return agreement(photo_levels(photo), quad, thumbnail(picture)).better_half


@pytest.mark.parametrize("picture", PICTURES)
def test_a_rectified_photo_agrees_with_its_reference_in_any_light(picture: Pixels) -> None:
    assert alike(photo_of(picture), picture) > 0.8
    assert alike(photo_of(picture, gain=0.4), picture) > 0.7


@pytest.mark.parametrize("picture", PICTURES)
def test_a_covered_third_leaves_the_agreement_high(picture: Pixels) -> None:
    assert alike(photo_of(picture, covered=0.33), picture) > 0.7


def test_a_shared_half_does_not_agree_everywhere() -> None:
    first, second = (cv2.resize(picture, (300, 400)) for picture in PICTURES[:2])
    mixed = np.vstack([first[:200], second[200:]])
    found = agreement(photo_levels(photo_of(mixed)), QUAD, thumbnail(first))
    assert found.better_half > 0.8
    assert found.everywhere < 0.75


def test_other_references_agree_less_than_the_right_one() -> None:
    for picture in PICTURES:
        others = [alike(photo_of(picture), other) for other in PICTURES if other is not picture]
        assert max(others) < alike(photo_of(picture), picture) - 0.3


def test_a_quad_in_the_wrong_place_does_not_agree() -> None:
    turned = np.roll(QUAD, 2, axis=0)
    assert alike(photo_of(PICTURES[0]), PICTURES[0], turned) < 0.5


def test_a_reference_mostly_outside_the_photo_says_nothing() -> None:
    assert alike(photo_of(PICTURES[0]), PICTURES[0], QUAD + np.float32(0.7)) == 0.0
