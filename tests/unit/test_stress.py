"""Views under exact conditions, and the command that scans them, on drawn posters."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks import stress
from benchmarks.__main__ import app
from benchmarks.artwork import draw_collection
from benchmarks.baselines import PIPELINE
from benchmarks.exact_views import ExactConditions, as_jpeg, render_exactly
from benchmarks.exhaustive import LOCAL_METHODS
from benchmarks.metrics import corner_error
from indexing.image import Pixels, decode, scaled
from indexing.views import View, corners

PICTURES = 4
# Nothing but the geometry.
CLEAR = ExactConditions(share=0.3, tilt=0, focus=0, noise=0, long_side=480)
SIZE = (240, 300)


@pytest.fixture(scope="module")
def picture() -> Pixels:
    coarse = np.random.default_rng(7).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)


def rendered(picture: Pixels, conditions: ExactConditions, seed: int = 0) -> View:
    return render_exactly(picture, conditions, np.random.default_rng(seed))


def warped_back(view: View) -> Pixels:
    transform = cv2.getPerspectiveTransform(view.quad, corners(SIZE))
    return np.asarray(cv2.warpPerspective(view.photo, transform, SIZE), np.uint8)


def inside(view: View) -> np.ndarray:
    mask = np.zeros(view.photo.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, view.quad.round().astype(np.int32), 1)
    return mask.astype(bool)


@pytest.mark.parametrize("share", [0.03, 0.3, 0.8])
def test_the_picture_covers_the_share_of_the_frame(picture: Pixels, share: float) -> None:
    view = rendered(picture, replace(CLEAR, share=share))
    height, width = view.photo.shape[:2]
    assert cv2.contourArea(view.quad) == pytest.approx(share * width * height, rel=1e-3)
    assert view.quad.mean(axis=0) == pytest.approx([width / 2 - 0.5, height / 2 - 0.5], abs=0.1)


@pytest.mark.parametrize("tilt", [0, 30, 60, 70])
def test_tilting_foreshortens_by_its_cosine(picture: Pixels, tilt: float) -> None:
    view = rendered(picture, replace(CLEAR, tilt=tilt))
    homography = cv2.getPerspectiveTransform(corners(SIZE), view.quad)
    middle = (np.array(SIZE) - 1) / 2
    near = middle + np.array([[0, 0], [0.1, 0], [0, 0.1]])
    here, right, down = cv2.perspectiveTransform(near[None], homography)[0]
    greater, smaller = np.linalg.svd(np.array([right - here, down - here]))[1]
    assert smaller / greater == pytest.approx(np.cos(np.radians(tilt)), rel=0.01)


def test_tilting_does_not_bring_the_picture_nearer(picture: Pixels) -> None:
    areas = [
        cv2.contourArea(rendered(picture, replace(CLEAR, tilt=tilt)).quad) for tilt in (0, 30, 60)
    ]
    assert areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("turned", [0, 45, 180])
def test_the_picture_is_turned_in_its_plane(picture: Pixels, turned: float) -> None:
    top_left, top_right = rendered(picture, replace(CLEAR, turned=turned)).quad[:2]
    across, down = top_right - top_left
    assert abs(np.degrees(np.arctan2(down, across))) == pytest.approx(turned, abs=0.1)


@pytest.mark.parametrize("long_side", [240, 1600])
def test_photos_have_the_long_side_and_stand_like_the_picture(
    picture: Pixels, long_side: int
) -> None:
    conditions = replace(CLEAR, long_side=long_side)
    lying = np.ascontiguousarray(picture.transpose(1, 0, 2))
    assert rendered(picture, conditions).photo.shape == (long_side, long_side * 3 // 4, 3)
    assert rendered(lying, conditions).photo.shape == (long_side * 3 // 4, long_side, 3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("covered", [0.1, 0.5])
def test_the_share_of_the_picture_is_covered(picture: Pixels, covered: float, seed: int) -> None:
    whole = warped_back(rendered(picture, CLEAR, seed))
    hidden = warped_back(rendered(picture, replace(CLEAR, covered=covered), seed))
    changed = (np.abs(whole.astype(int) - hidden) > 8).any(axis=2)
    assert changed.mean() == pytest.approx(covered, abs=0.04)


def test_only_the_picture_is_covered(picture: Pixels) -> None:
    whole = rendered(picture, CLEAR)
    hidden = rendered(picture, replace(CLEAR, covered=0.6))
    assert np.array_equal(whole.quad, hidden.quad)
    changed = (whole.photo != hidden.photo).any(axis=2)
    assert not changed[
        ~cv2.dilate(inside(whole).astype(np.uint8), np.ones((5, 5))).astype(bool)
    ].any()


def test_noise_has_the_standard_deviation() -> None:
    grey = np.full((300, 240, 3), 128, np.uint8)
    clear = rendered(grey, CLEAR)
    noisy = rendered(grey, replace(CLEAR, noise=12))
    difference = noisy.photo[inside(clear)].astype(float) - clear.photo[inside(clear)]
    assert difference.std() == pytest.approx(12, rel=0.03)


@pytest.mark.parametrize("kind", ["focus", "motion"])
def test_blur_is_a_share_of_the_long_side(picture: Pixels, kind: str) -> None:
    def sharpness(percent: float, long_side: int) -> float:
        view = rendered(picture, replace(CLEAR, **{kind: percent}, long_side=long_side))
        same = cv2.resize(view.photo, (180, 240), interpolation=cv2.INTER_AREA)
        return float(np.abs(np.diff(same.astype(float), axis=1)).max(axis=2).std())

    clear, some, much = (sharpness(percent, 480) for percent in (0, 1, 3))
    assert much < 0.95 * some < 0.9 * clear
    assert sharpness(3, 960) == pytest.approx(much, rel=0.05)


def test_glare_is_brightest_in_the_middle_and_darkens_nothing(picture: Pixels) -> None:
    dull, shining = (rendered(picture, replace(CLEAR, glare=level)).photo for level in (0, 400))
    added = shining.astype(int) - dull
    assert added.min() >= 0
    height, width = added.shape[:2]
    middle = shining[height * 2 // 5 : height * 3 // 5, width * 2 // 5 : width * 3 // 5]
    assert (middle == 255).mean() > 0.5
    assert added[: height // 20].max() < 40


def test_lower_quality_makes_smaller_files_of_the_same_photo(picture: Pixels) -> None:
    photo = rendered(picture, replace(CLEAR, noise=3)).photo
    coarse, fine = (as_jpeg(photo, quality) for quality in (10, 90))
    assert len(coarse) < len(fine)
    pixels, _ = decode(fine, max(photo.shape))
    assert np.abs(pixels.astype(int) - photo).mean() < 4


def test_the_corner_error_is_a_share_of_the_side() -> None:
    square = np.array([[0, 0], [100, 0], [100, 100], [0, 100]], np.float32)
    assert corner_error(square, square) == 0
    assert corner_error(square + np.float32([3, 4]), square) == pytest.approx(0.05)
    assert corner_error(2 * square + np.float32([6, 8]), 2 * square) == pytest.approx(0.05)


def test_rates_have_the_interval_of_wilson() -> None:
    none, some = stress.method_point(0, 10), stress.method_point(30, 40)
    assert (none["rate"], some["rate"]) == (0, 0.75)
    assert none["interval"] == pytest.approx((0, 0.2775), abs=1e-4)
    assert some["interval"] == pytest.approx((0.5981, 0.8581), abs=1e-4)


def test_mild_conditions_are_among_the_values_of_each() -> None:
    for name, (_, _, values) in stress.FACTORS.items():
        assert stress.changed(name, getattr(stress.BASE, name)) == stress.BASE
        assert getattr(stress.BASE, name) in values


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posters")
    for art in draw_collection("poster", PICTURES, seed=5):
        Image.fromarray(scaled(art.picture, 640)).save(folder / f"{art.name}.png")
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["stress", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_the_command_writes_curves(
    posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"tilt": (0, 15, 80), "long_side": (240, 960)}
    factors = {name: (*stress.FACTORS[name][:2], values) for name, values in few.items()}
    monkeypatch.setattr(stress, "FACTORS", factors)
    output, plot = tmp_path / "new" / "report.json", tmp_path / "plots" / "plot.png"

    arguments = ["--pictures", posters, "--output", output, "--plot", plot]
    code, problem = run(*arguments, "--pictures-count", 2, "--gallery", 3)

    assert (code, problem) == (0, "")
    report = json.loads(output.read_text())
    assert report["gallery_size"] == 3
    assert {
        name: [each["value"] for each in points] for name, points in report["factors"].items()
    } == {name: list(values) for name, values in few.items()}
    straight, mild, flat = report["factors"]["tilt"]
    for method in (PIPELINE, *(each.name for each in LOCAL_METHODS)):
        assert straight["methods"][method]["rate"] == 1
        low, high = mild["methods"][method]["interval"]
        assert low <= mild["methods"][method]["rate"] <= high
        assert flat["methods"][method]["rate"] == 0
    assert mild["photos"] == 2
    assert 0 < straight["corner_error_percent"] < 2
    assert flat["corner_error_percent"] is None
    # The mild point is one and the same in each curve.
    assert mild["methods"] == report["factors"]["long_side"][1]["methods"]
    with Image.open(plot) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("case", ["no gallery for all", "empty folder", "missing folder"])
def test_what_cannot_be_measured_is_one_sentence(posters: Path, tmp_path: Path, case: str) -> None:
    folder = {"empty folder": tmp_path, "missing folder": tmp_path / "nowhere"}.get(case, posters)
    count = 9 if case == "no gallery for all" else 2
    output = tmp_path / "report.json"
    code, problem = run(
        "--pictures", folder, "--output", output, "--pictures-count", count, "--gallery", 3
    )
    assert code == 1
    assert problem.startswith("error: ")
    assert not output.exists()
