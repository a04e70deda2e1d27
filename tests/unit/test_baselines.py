"""Classical descriptors, exhaustive matching, and the command that compares them, on drawn posters."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.artwork import draw_collection
from benchmarks.baselines import PIPELINE, TOP_K, Method, ask, top_k_share
from benchmarks.descriptors import (
    DESCRIPTORS,
    EDGES,
    Descriptor,
    colour_layout,
    edge_histogram,
    layout_distances,
    mean_colour,
)
from benchmarks.exact_views import ExactConditions, render_exactly
from benchmarks.exhaustive import (
    LOCAL_METHODS,
    ExhaustiveGallery,
    Fit,
    LocalMethod,
    acceptable,
    fit,
)
from indexing.image import Pixels, scaled
from training.datasets import Pair

POSTERS, OTHERS = 6, 3
FRAME = (400, 300)
QUAD = np.array([[100, 80], [300, 90], [290, 220], [110, 210]], np.float32)


def named(each: Descriptor | LocalMethod) -> str:
    return each.name


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    return [scaled(art.picture, 640) for art in draw_collection("poster", POSTERS, seed=3)]


@pytest.fixture(scope="module")
def posters(pictures: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("posters")
    return [save(folder / f"{number}.png", each) for number, each in enumerate(pictures)]


def save(file: Path, picture: Pixels) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)
    return file


def view(picture: Pixels, seed: int = 0) -> Pixels:
    return render_exactly(picture, ExactConditions(), np.random.default_rng(seed)).photo


# Global descriptors


def test_the_mean_colour_is_that_of_each_channel() -> None:
    halves = np.zeros((10, 20, 3), np.uint8)
    halves[:, :10, 0] = 200
    halves[:, 10:, 2] = 100
    assert mean_colour(halves).tolist() == [100, 0, 50]


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=named)
def test_a_blurred_copy_is_nearer_than_any_other_picture(
    descriptor: Descriptor, pictures: list[Pixels]
) -> None:
    gallery = np.stack([descriptor.describe(picture) for picture in pictures])
    for number, picture in enumerate(pictures):
        blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8)
        distances = descriptor.distances(descriptor.describe(blurred), gallery)
        assert distances.shape == (len(pictures),)
        assert distances.argmin() == number
        assert distances[number] > 0


def test_a_grey_picture_has_a_layout_of_brightness_alone() -> None:
    ramp = np.tile(np.linspace(0, 255, 80), (80, 1))
    layout = colour_layout(np.repeat(ramp[:, :, None], 3, axis=2).astype(np.uint8))
    mean, across, *others = layout
    # An orthonormal transform: the first of 8 x 8 coefficients is eight times the mean.
    assert mean == pytest.approx(8 * ramp.mean(), rel=0.01)
    assert across < -400
    assert np.abs(others[:4]).max() < 5
    assert layout[[6, 9]] == pytest.approx(8 * 128)
    assert np.abs(layout[[7, 8, 10, 11]]).max() < 0.01


def test_colours_and_brightness_are_apart_in_the_layout_distance() -> None:
    nothing = np.zeros(12, np.float32)
    moved = np.zeros((3, 12), np.float32)
    moved[0, 0] = moved[1, 6] = 3
    moved[2, [0, 6]] = 3
    luma, blue, both = layout_distances(nothing, moved)
    assert luma > 0
    assert blue > 0
    assert both == pytest.approx(luma + blue)


def stripes(turned: bool) -> Pixels:
    across = np.broadcast_to((np.arange(320) // 13 % 2 * 200).astype(np.uint8), (320, 320))
    return np.repeat((across.T if turned else across)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("turned", [False, True])
def test_stripes_have_edges_of_their_direction_in_every_part(turned: bool) -> None:
    bins = edge_histogram(stripes(turned)).reshape(16, len(EDGES))
    there, absent = ("horizontal", "vertical") if turned else ("vertical", "horizontal")
    assert (bins[:, EDGES.index(there)] > 0.2).all()
    assert (bins[:, EDGES.index(absent)] == 0).all()
    assert (bins.sum(axis=1) <= 1).all()


def test_edges_are_counted_in_the_part_where_they_are() -> None:
    picture = np.full((320, 320, 3), 200, np.uint8)
    picture[90:150, 170:230] = stripes(turned=False)[90:150, 170:230]
    bins = edge_histogram(picture).reshape(4, 4, len(EDGES)).sum(axis=2)
    assert bins[1, 2] > 0
    assert bins.sum() == bins[1, 2]


def test_a_picture_of_one_pixel_can_be_described() -> None:
    pixel = np.zeros((1, 1, 3), np.uint8)
    assert all(np.isfinite(descriptor.describe(pixel)).all() for descriptor in DESCRIPTORS)


# Exhaustive matching


@pytest.mark.parametrize("method", LOCAL_METHODS, ids=named)
def test_a_photographed_picture_is_found_among_others(
    method: LocalMethod, pictures: list[Pixels], posters: list[Path]
) -> None:
    gallery = ExhaustiveGallery(method, posters)
    for number, picture in enumerate(pictures):
        photo = view(picture)
        assert gallery.search(method.extract(photo))[0] == number
        assert gallery.recognise(photo) == posters[number]


@pytest.mark.parametrize("method", LOCAL_METHODS, ids=named)
def test_the_search_ranks_every_reference(method: LocalMethod, posters: list[Path]) -> None:
    found = ExhaustiveGallery(method, posters).search(method.extract(view(stripes(turned=True))))
    assert sorted(found) == list(range(len(posters)))


@pytest.mark.parametrize("method", LOCAL_METHODS, ids=named)
@pytest.mark.parametrize("make", [np.zeros, lambda size, kind: stripes(turned=False)])
def test_nothing_is_recognised_where_nothing_is(
    method: LocalMethod, make: Callable[..., Pixels], posters: list[Path]
) -> None:
    photo = make((240, 320, 3), np.uint8)
    assert ExhaustiveGallery(method, posters).recognise(photo) is None


@pytest.mark.parametrize("method", LOCAL_METHODS, ids=named)
def test_a_fit_says_where_the_picture_is(method: LocalMethod, pictures: list[Pixels]) -> None:
    seen = render_exactly(pictures[0], ExactConditions(), np.random.default_rng(1))
    found = fit(method, method.extract(seen.photo), method.extract(pictures[0]))
    assert found.quad is not None
    assert np.abs(found.quad - seen.quad).max() < 10


@pytest.mark.parametrize(
    ("quad", "inliers", "accepted"),
    [
        (QUAD, 8, True),
        (QUAD, 7, False),
        (QUAD[::-1], 50, False),
        (QUAD[[0, 2, 1, 3]], 50, False),
        ((QUAD - QUAD[0]) * 0.05, 50, False),
        (np.array([[100, 80], [300, 80], [300, 220], [270, 220]], np.float32), 50, False),
        (None, 50, False),
    ],
    ids=["good", "few inliers", "mirrored", "twisted", "tiny", "wedge", "no homography"],
)
def test_only_a_quad_that_a_camera_could_see_is_accepted(
    quad: np.ndarray | None, inliers: int, accepted: bool
) -> None:
    assert acceptable(Fit(inliers, quad), FRAME) is accepted


# The command


def test_the_top_k_curve_counts_ranks_up_to_k() -> None:
    ranks = [1, 1, 3, 10, None]
    assert [top_k_share(ranks, size) for size in (1, 2, 3, 9, 10, 1000)] == [
        0.4,
        0.4,
        0.6,
        0.6,
        0.8,
        0.8,
    ]


def test_each_reference_that_a_photo_shows_has_its_rank(posters: list[Path]) -> None:
    gallery = tuple(posters[:3])
    method = Method("last first", gallery, lambda pixels: pixels.shape, lambda shape: [2, 0])
    shown = (posters[0], posters[1], posters[2], posters[0])
    assert ask(method, Pair(posters[5], shown)).ranks == (2, None, 1)


@pytest.fixture(scope="module")
def dataset(pictures: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of all posters, one of them unregistered, and one of two."""
    folder = tmp_path_factory.mktemp("baselines") / "posters"
    rows = []
    for number, picture in enumerate(pictures):
        save(folder / "queries" / f"{number}.png", view(picture, number))
        name = f"references/{number}.png"
        save(folder / name, picture)
        rows.append([f"queries/{number}.png", name])
    rows[0][1] = ""
    rows[1][1] += " references/2.png"
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["query", "references"], *rows])
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["baselines", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_the_command_compares_all_methods(dataset: Path, tmp_path: Path) -> None:
    for art in draw_collection("painting", OTHERS, seed=3):
        save(tmp_path / "others" / f"{art.name}.png", scaled(art.picture, 320))
    output, plot = tmp_path / "new" / "report.json", tmp_path / "plots" / "plot.png"
    arguments = ["--dataset", dataset, "--distractors", tmp_path / "others", "--output", output]

    code, problem = run(*arguments, "--plot", plot, "--exhaustive-gallery", 1)

    assert (code, problem) == (0, "")
    report = json.loads(output.read_text())
    assert report["gallery_size"] == POSTERS + OTHERS
    assert report["exhaustive_gallery_size"] == POSTERS + 1
    assert report["photos"] == {"posters": POSTERS - 1}
    methods = report["datasets"]["posters"]
    assert set(methods) > {PIPELINE, *(each.name for each in (*DESCRIPTORS, *LOCAL_METHODS))}
    for name, method in methods.items():
        exhaustive = name in {each.name for each in LOCAL_METHODS}
        assert method["gallery_size"] == POSTERS + (1 if exhaustive else OTHERS)
        assert len(method["ranks"]) == POSTERS
        assert method["top_k"].keys() == {str(size) for size in TOP_K}
        assert method["recall"]["1"] == sum(rank == 1 for rank in method["ranks"]) / POSTERS
        assert 0 < method["search_milliseconds"] < method["milliseconds"]
        assert (method["accepted_and_right"] is None) == (name != PIPELINE)
    # The photo of two shows one of them only.
    assert methods[PIPELINE]["accepted_and_right"] == (POSTERS - 1) / POSTERS
    with Image.open(plot) as image:
        assert image.format == "PNG"


def test_the_number_of_photos_can_be_bounded(dataset: Path, tmp_path: Path) -> None:
    arguments = ["--dataset", dataset, "--queries", 2, "--output", tmp_path / "report.json"]
    code, _ = run(*arguments)
    assert code == 0
    assert json.loads((tmp_path / "report.json").read_text())["photos"] == {"posters": 2}


def test_photos_without_answers_cannot_be_compared(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unanswered"
    (folder / "references").mkdir(parents=True)
    save(folder / "queries" / "one.png", np.zeros((40, 40, 3), np.uint8))
    (folder / "pairs.csv").write_text("query,references\nqueries/one.png,\n")

    code, problem = run("--dataset", dataset, "--dataset", folder, "--output", tmp_path / "x.json")

    assert code == 1
    assert problem.startswith("error: ")
    assert "unanswered" in problem
    assert len(problem.strip().splitlines()) == 1
