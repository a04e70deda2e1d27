from dataclasses import replace

import cv2
import numpy as np
import pytest

from indexing.views import ViewConditions, clutter, corners, photo_without, render_view, retouched

CLEAR = ViewConditions(
    area=(0.3, 0.9), cut_off=0, occlusion=0, lighting=0, blur=0, noise=0, jpeg_quality=(95, 95)
)


@pytest.fixture
def picture():
    coarse = np.random.default_rng(7).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (210, 270), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def background():
    return np.full((90, 120, 3), 90, np.uint8)


def warped_back(view, size):
    transform = cv2.getPerspectiveTransform(view.quad, corners(size))
    return cv2.warpPerspective(view.photo, transform, size)


@pytest.mark.parametrize("seed", range(8))
def test_the_quad_maps_the_picture_into_the_photo(picture, background, seed):
    view = render_view(picture, background, CLEAR, np.random.default_rng(seed))
    found = warped_back(view, (210, 270))
    assert np.corrcoef(found.ravel(), picture.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("seed", range(8))
def test_a_harsh_view_still_shows_the_picture(picture, background, seed):
    harsh = replace(ViewConditions(), area=(0.3, 0.9), occlusion=0.0, cut_off=0.0)
    view = render_view(picture, background, harsh, np.random.default_rng(seed))
    found = warped_back(view, (210, 270))
    assert np.corrcoef(found.ravel(), picture.ravel())[0, 1] > 0.4


def test_quads_are_convex_right_handed_and_of_the_area_asked_for(picture, background):
    rng = np.random.default_rng(0)
    whole = replace(ViewConditions(), cut_off=0.0, long_side=160)
    for _ in range(50):
        view = render_view(picture, background, whole, rng)
        share = cv2.contourArea(view.quad, oriented=True) / (160 * 120)
        assert 0.05 * 0.999 <= share <= 0.95
        assert cv2.isContourConvex(view.quad)
        assert view.quad.dtype == np.float32
        height, width = view.photo.shape[:2]
        assert (view.quad >= -0.51).all()
        assert (view.quad <= np.array([width, height]) - 0.49).all()


def test_some_pictures_reach_out_of_the_frame_where_that_is_asked_for(picture, background):
    rng = np.random.default_rng(0)
    cut = replace(CLEAR, cut_off=1.0, long_side=160)
    quads = [render_view(picture, background, cut, rng).quad for _ in range(20)]
    assert any(quad.min() < -1 for quad in quads)


@pytest.mark.parametrize(("mounted", "rims"), [(0.0, 0), (1.0, 20)])
def test_a_mounted_picture_has_a_rim(picture, mounted, rims):
    rng = np.random.default_rng(0)
    still = replace(CLEAR, tilt=0.0, area=(0.2, 0.3), mounted=mounted)
    white = np.full_like(picture, 255)
    seen = 0
    for _ in range(20):
        photo = render_view(white, white, still, rng).photo
        seen += bool((photo < 250).any(axis=2).mean() > 0.02)
    assert seen == rims


def test_photos_have_the_long_side_asked_for_and_are_four_by_three(picture, background):
    rng = np.random.default_rng(0)
    shapes = {
        render_view(picture, background, replace(CLEAR, long_side=200), rng).photo.shape
        for _ in range(20)
    }
    assert shapes == {(150, 200, 3), (200, 150, 3)}


def test_the_same_seed_renders_the_same_photo(picture, background):
    first, second = (
        render_view(picture, background, None, np.random.default_rng(5)) for _ in range(2)
    )
    assert np.array_equal(first.photo, second.photo)
    assert max(first.photo.shape) == 640


def test_eased_conditions_are_big_and_upright(picture, background):
    rng = np.random.default_rng(0)
    easy = ViewConditions(long_side=160).eased(0.0)
    assert easy.tilt == easy.turned == easy.occlusion == 0
    assert ViewConditions().eased(1.0) == ViewConditions()
    for _ in range(20):
        top_left, top_right = render_view(picture, background, easy, rng).quad[:2]
        across, down = top_right - top_left
        assert abs(np.degrees(np.arctan2(down, across))) < 21


def test_clutter_shows_the_pictures_on_a_surface_of_the_size(picture):
    bare, full = (
        clutter(pictures, (120, 90), np.random.default_rng(2)) for pictures in ([], [picture] * 5)
    )
    assert bare.shape == full.shape == (90, 120, 3)
    assert (bare != full).any()


def test_a_photo_without_a_picture_is_of_the_background(background):
    photo = photo_without(background, replace(CLEAR, long_side=80), np.random.default_rng(0))
    assert photo.shape in {(80, 60, 3), (60, 80, 3)}
    assert abs(photo.astype(int) - 90).max() < 5


def test_a_retouched_picture_is_nearly_the_same(picture):
    other = retouched(picture, np.random.default_rng(1))
    size = (picture.shape[1], picture.shape[0])
    again = cv2.resize(other, size)
    assert np.corrcoef(again.ravel(), picture.ravel())[0, 1] > 0.8
    assert (again != picture).any()
