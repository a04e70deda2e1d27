"""Adapters between two embedding spaces, scores merged, and the command, on drawn posters."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.adapter import (
    BOTH,
    FORMER,
    PART,
    PHOTOS,
    SHARES,
    VIEWS,
    VIEWS_EACH,
    Adapter,
    backfilled_at,
    hardest_first,
    merged,
    orthogonal,
    ranks,
    ridge,
)
from benchmarks.artwork import draw_collection
from benchmarks.exact_views import ExactConditions, render_exactly
from indexing.image import scaled

POSTERS, OTHERS = 5, 8


def unit(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    vectors = rng.normal(size=(count, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def rotation(rng: np.random.Generator, dimension: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(dimension, dimension)))[0].astype(np.float32)


# Adapters


def test_a_rotation_is_recovered() -> None:
    rng = np.random.default_rng(1)
    turn, new, unseen = rotation(rng, 6), unit(rng, 40, 6), unit(rng, 10, 6)
    adapter = orthogonal(new, new @ turn)
    assert adapter.weights == pytest.approx(turn, abs=1e-5)
    assert adapter(unseen) == pytest.approx(unseen @ turn, abs=1e-5)


def test_a_rotation_into_a_larger_space_is_recovered() -> None:
    rng = np.random.default_rng(2)
    turn, new = rotation(rng, 9)[:6], unit(rng, 40, 6)
    adapter = orthogonal(new, new @ turn)
    assert adapter.weights == pytest.approx(turn, abs=1e-5)


def test_a_rotation_into_a_smaller_space_is_recovered() -> None:
    rng = np.random.default_rng(3)
    turn, former = rotation(rng, 9)[:6], unit(rng, 40, 6)
    adapter = orthogonal(former @ turn, former)
    assert adapter.weights == pytest.approx(turn.T, abs=1e-5)
    assert adapter(former @ turn) == pytest.approx(former, abs=1e-5)


def test_an_orthogonal_map_never_stretches() -> None:
    rng = np.random.default_rng(4)
    weights = orthogonal(unit(rng, 40, 6), unit(rng, 40, 4)).weights
    assert weights.T @ weights == pytest.approx(np.eye(4), abs=1e-6)


def test_ridge_recovers_an_affine_map() -> None:
    rng = np.random.default_rng(5)
    new, unseen = unit(rng, 200, 6), unit(rng, 10, 6)
    weights, offset = rng.normal(size=(6, 4)), rng.normal(size=4)
    adapter = ridge(new, (new @ weights + offset).astype(np.float32))
    expected = unseen @ weights + offset
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert adapter(unseen) == pytest.approx(expected, abs=1e-3)


def test_ridge_answers_with_the_mean_where_there_is_nothing_in_common() -> None:
    rng = np.random.default_rng(6)
    new, former = unit(rng, 30, 20), unit(rng, 30, 4) + np.float32(1)
    adapter = ridge(new, former)
    unpenalised = np.linalg.lstsq(new - new.mean(axis=0), former - former.mean(axis=0))[0]
    assert np.linalg.norm(adapter.weights) < 0.2 * np.linalg.norm(unpenalised)
    mean = former.mean(axis=0) / np.linalg.norm(former.mean(axis=0))
    assert (adapter(unit(rng, 10, 20)) @ mean).min() > 0.99


@pytest.mark.parametrize("fit", [orthogonal, ridge])
def test_adapted_embeddings_have_length_1(
    fit: Callable[[np.ndarray, np.ndarray], Adapter],
) -> None:
    rng = np.random.default_rng(7)
    adapted = fit(unit(rng, 40, 6), unit(rng, 40, 4))(unit(rng, 10, 6))
    assert adapted.shape == (10, 4)
    assert adapted.dtype == np.float32
    assert np.linalg.norm(adapted, axis=1) == pytest.approx(1)


# Order and scores


def test_the_reference_that_is_adapted_worst_comes_first() -> None:
    former = np.eye(3, dtype=np.float32)
    adapted = np.array([[0.8, 0.6, 0], [0, 1, 0], [1, 0, 0]], np.float32)
    assert hardest_first(adapted, former).tolist() == [2, 0, 1]


def test_the_first_of_the_order_are_backfilled() -> None:
    order = np.array([3, 1, 0, 2])
    assert backfilled_at(0, order).tolist() == [False] * 4
    assert backfilled_at(0.5, order).tolist() == [False, True, False, True]
    assert backfilled_at(1, order).tolist() == [True] * 4


def test_ranks_count_what_scores_higher() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.3, -np.inf, 0.2]], np.float32)
    assert ranks(scores, np.array([[0, 1], [0, 0], [1, 2], [1, 1]])) == [1, 3, 2, None]


def test_scores_of_one_space_alone_rank_as_they_are() -> None:
    rng = np.random.default_rng(8)
    new, other = rng.normal(size=(2, 5, 30)).astype(np.float32)
    shown = np.column_stack([np.arange(5), np.arange(5)])
    assert ranks(merged(new, other, np.ones(30, np.bool_)), shown) == ranks(new, shown)
    assert ranks(merged(new, other, np.zeros(30, np.bool_)), shown) == ranks(other, shown)


def test_merged_scores_do_not_depend_on_the_scale_of_either_space() -> None:
    rng = np.random.default_rng(9)
    new, other = rng.normal(size=(2, 5, 30)).astype(np.float32)
    done = np.arange(30) < 12
    scores = merged(new, other, done)
    assert merged(new, other / 7 + 3, done) == pytest.approx(scores, abs=1e-4)
    for part in (done, ~done):
        assert scores[:, part].mean(axis=1) == pytest.approx(0, abs=1e-5)
        assert scores[:, part].std(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_reference_is_found_in_either_space() -> None:
    rng = np.random.default_rng(10)
    new = rng.normal(0.1, 0.1, size=(2, 40)).astype(np.float32)
    other = rng.normal(0.7, 0.02, size=(2, 40)).astype(np.float32)
    new[0, 3], other[1, 30] = 0.8, 0.9
    scores = merged(new, other, np.arange(40) < 20)
    assert ranks(scores, np.array([[0, 3], [1, 30]])) == [1, 1]


def test_a_part_of_one_reference_has_no_deviation_to_divide_by() -> None:
    scores = merged(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), np.arange(3) < 1)
    assert scores[:, 0].tolist() == [0, 0, 0]


# The command


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, ``posters``, one photo of which shows nothing, and ``others``."""
    root = tmp_path_factory.mktemp("adapter")
    rows = []
    for number, art in enumerate(draw_collection("poster", POSTERS, seed=3)):
        picture = scaled(art.picture, 320)
        photo = render_exactly(picture, ExactConditions(), np.random.default_rng(number)).photo
        names = [f"queries/{number}.png", f"references/{number}.png"]
        for name, pixels in zip(names, (photo, picture), strict=True):
            file = root / "posters" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
        rows.append(names)
    rows[0][1] = ""
    with (root / "posters" / "pairs.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["query", "references"], *rows])
    (root / "others").mkdir()
    for art in draw_collection("painting", OTHERS, seed=3):
        Image.fromarray(scaled(art.picture, 160)).save(root / "others" / f"{art.name}.png")
    return root


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["adapter", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_the_command_compares_ways_to_serve_while_a_gallery_is_backfilled(
    pictures: Path, tmp_path: Path
) -> None:
    output, plot, cache = tmp_path / "new" / "report.json", tmp_path / "plot.png", tmp_path / "kept"
    asked = ["--dataset", pictures / "posters", "--distractors", pictures / "others"]
    arguments = [*asked, "--output", output, "--plot", plot, "--cache", cache]

    assert run(*arguments) == (0, "")

    report = json.loads(output.read_text())
    assert report["gallery_size"] == POSTERS + OTHERS
    assert report["fitted_on"] == OTHERS // 2
    assert report["former"] != report["new"]
    assert report["photos"] == {PHOTOS: POSTERS - 1, VIEWS: POSTERS * VIEWS_EACH}
    for photos in (PHOTOS, VIEWS):
        # The gallery is smaller than the larger rank, so whatever is listed is within it.
        assert report["recall"][photos]["50"][FORMER] == [1] * len(SHARES)
        ways = report["recall"][photos]["1"]
        assert {len(recall) for recall in ways.values()} == {len(SHARES)}
        assert ways[PART][0] == 0
        assert ways[BOTH][0] == ways[FORMER][0]
        # When all is backfilled the new model answers, whatever served until then.
        assert len({recall[-1] for recall in ways.values()}) == 1
        for kind in ("orthogonal", "ridge"):
            gain = report["gains"][photos][kind]["1"]["gain"]
            adapted = ways[f"{kind} adapter, at random"][0]
            assert adapted == ways[f"{kind} adapter, hardest first"][0]
            assert adapted == pytest.approx(ways[FORMER][0] + gain)
    with Image.open(plot) as image:
        assert image.format == "PNG"

    kept = {file: file.stat().st_mtime_ns for file in (cache / "embeddings").iterdir()}
    assert len(kept) == 2
    assert run(*arguments) == (0, "")
    assert json.loads(output.read_text()) == report
    assert {file: file.stat().st_mtime_ns for file in (cache / "embeddings").iterdir()} == kept


def test_an_adapter_needs_pictures_to_be_fitted_on(pictures: Path, tmp_path: Path) -> None:
    code, problem = run("--dataset", pictures / "posters", "--output", tmp_path / "report.json")
    assert (code, problem) == (1, "error: There are too few distractors to fit an adapter on.\n")


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, problem = run("--dataset", tmp_path / "away", "--output", tmp_path / "report.json")
    assert code == 1
    assert problem.startswith("error: ")
    assert "away" in problem
    assert len(problem.strip().splitlines()) == 1
