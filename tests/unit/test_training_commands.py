"""Each command of the training job, on a small dataset of drawn pictures and rendered photos."""

import json
import shutil

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.artwork import draw_collection
from indexing.bundle import DEFAULT_BUNDLE, load_bundle
from indexing.keypoints import Channel
from indexing.views import ViewConditions, clutter, render_view
from tests.unit.sightings import candidate
from training import publish
from training.__main__ import app
from training.calibration import Trial, fit_calibration
from training.evaluation import of_run
from training.labelling import read_tasks, rectangle
from training.mining import read_negatives
from training.voc import read_voc

EASY = ViewConditions(
    area=(0.4, 0.7), tilt=20, turned=0, cut_off=0, occlusion=0, blur=0.2, noise=0.2, lighting=0.3
)
# The shape of a run that takes seconds.
SMALL = ["--input-size", "32", "--reference-size", "32", "--threads", "1"]


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(picture[:, :, ::-1]))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Eight posters, a photo of each but the last, and one of nothing: the first is known twice."""
    root, rng = tmp_path_factory.mktemp("data") / "posters", np.random.default_rng(5)
    lines = ["query,references"]
    for number, art in enumerate(draw_collection("poster", 8, seed=2)):
        save(root / "references" / f"{number}.jpg", art.picture)
        if number < 7:
            background = clutter((), (640, 480), rng)
            photo = render_view(art.picture, background, EASY, rng).photo
            save(root / "queries" / "phone" / f"{number}.jpg", photo)
            lines.append(f"queries/phone/{number}.jpg,references/{number}.jpg")
    save(root / "queries" / "none.jpg", clutter((), (640, 480), rng))
    lines.append("queries/none.jpg,")
    (root / "pairs.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    """A run of few steps on the posters."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    invoked(
        *("train", "--pictures", dataset / "references", "--run", folder, "--steps", 6),
        *("--pairs", 4, "--dimension", 16, "--held-out", 0.25, *SMALL),
    )
    return folder


def invoked(*command):
    result = CliRunner().invoke(app, [str(each) for each in command])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return result.output


def refused(*command):
    result = CliRunner().invoke(app, [str(each) for each in command])
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    return str(result.exception)


def test_describe_counts_and_draws(dataset, tmp_path):
    output = invoked("describe", "--dataset", dataset, "--plot", tmp_path / "plot.png")
    for told in ("queries/phone", "references shown in a photo", "photos of a reference", "640"):
        assert told in output
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_evaluate_writes_figures_and_a_report(dataset, tmp_path):
    figures = tmp_path / "figures.json"
    report = tmp_path / "report.html"
    output = invoked("evaluate", "--dataset", dataset, "--output", figures, "--report", report)
    found = json.loads(figures.read_text())
    posters = found["datasets"]["posters"]
    assert found["gallery"] == 8
    assert (posters["queries"], posters["unanswered"]) == (7, 1)
    assert set(posters["recall"]) == set(posters["votes_recall"]) == {"1", "5", "20", "50"}
    assert posters["votes_recall"]["1"] == 1.0
    assert posters["recall"]["20"] == 1.0
    assert 0 <= posters["recall_at_p90"] <= 1
    assert posters["micro_ap"] > 0
    assert set(posters["by_folder"]) == {"phone"}
    assert set(posters["votes_by_channel"]) == {"ORB of corners", "learnt descriptors"}
    # In a narrow terminal the names take several lines, the figures never less than all.
    assert all(part in output for part in ("votes of", "learnt", "descriptors", "1.000"))
    page = report.read_text()
    assert "posters" in page
    assert page.count("data:image") >= 2


def test_baseline_measures_a_network_without_training(dataset, tmp_path):
    figures = tmp_path / "figures.json"
    options = ("--architecture", "resnet18", "--input-size", 64, "--reference-size", 64)
    output = invoked("baseline", "--dataset", dataset, "--output", figures, *options)
    assert "random weights" in output
    assert json.loads(figures.read_text())["datasets"]["posters"]["votes_recall"] is None


def test_weights_that_cannot_be_downloaded_are_to_be_named_as_a_file(dataset, tmp_path):
    options = ("--weights", "IMAGENET1K_V1", "--architecture", "resnet18")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    runner = CliRunner(env={"TORCH_HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9"})
    command = ["baseline", "--dataset", dataset, "--output", tmp_path / "f.json", *options]
    result = runner.invoke(app, [str(each) for each in command])
    assert "--weights FILE" in str(result.exception)


def test_label_proposes_the_right_references_where_they_are(dataset, tmp_path):
    folders = ("--queries", dataset / "queries", "--references", dataset / "references")
    invoked("label", *folders, "--output", tmp_path)
    lines = (tmp_path / "pairs.csv").read_text().splitlines()
    assert sorted(lines) == sorted((dataset / "pairs.csv").read_text().splitlines())
    boxes = read_voc(tmp_path / "voc" / "phone" / "0.xml").boxes
    assert [box.name for box in boxes] == ["0.jpg"]
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == 8
    for task in tasks:
        confirmed = {"result": task["predictions"][0]["result"]}
        task["annotations"] = [confirmed]
    (tmp_path / "exported.json").write_text(json.dumps(tasks))
    chosen = read_tasks(tmp_path / "exported.json")
    photo = next(path for path in chosen if path.name == "3.jpg")
    assert chosen[photo].name == "3.jpg"
    assert "<Choices" in (tmp_path / "label-studio.xml").read_text()


def test_a_planar_thing_is_found_without_a_reference():
    photo = np.full((240, 320, 3), 200, np.uint8)
    quad = np.array([[60, 40], [250, 60], [240, 200], [50, 190]], np.int32)
    cv2.fillConvexPoly(photo, quad, (30, 60, 120))
    found = rectangle(photo)
    assert np.abs(found * (320, 240) - quad).max() < 6
    assert rectangle(np.full((240, 320, 3), 200, np.uint8)) is None


def test_mine_lists_hard_negatives_and_keeps_verdicts(dataset, run, tmp_path):
    file = tmp_path / "negatives.csv"
    command = ("mine", "--pictures", dataset / "references", "--run", run, "--output", file)
    invoked(*command, "--each", 2)
    first = read_negatives(file)
    assert len(first) == 16
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], f"{lines[1]}same"]) + "\n")
    invoked(*command, "--each", 2, "--extra", dataset / "queries")
    again = read_negatives(file)
    pairs = [{each.picture, each.negative} for each in again]
    assert {first[0].picture, first[0].negative} not in pairs
    assert any("queries" in str(each.negative) for each in again)
    invoked(
        *("train", "--pictures", dataset / "references", "--run", tmp_path / "run"),
        *("--negatives", file, "--steps", 2, "--pairs", 4, *SMALL),
    )


def test_tune_searches_goes_on_and_draws(dataset, tmp_path):
    command = ("tune", "--pictures", dataset / "references", "--run", tmp_path, "--steps", 4)
    invoked(*command, "--trials", 2, *SMALL)
    output = invoked(*command, "--trials", 3, "--search", "random", *SMALL)
    assert "The best of 3 trials" in output
    assert len(list(tmp_path.glob("trial-*"))) == 3
    assert (tmp_path / "trials.png").stat().st_size > 1000


def test_cross_validate_says_how_far_figures_spread(dataset, tmp_path):
    command = ("cross-validate", "--pictures", dataset / "references", "--run", tmp_path)
    output = invoked(*command, "--folds", 2, "--steps", 2, "--pairs", 4, *SMALL)
    found = json.loads((tmp_path / "cross-validation.json").read_text())
    assert set(found["figures"]["recall@1"]) == {"mean", "deviation"}
    assert "standard deviation" in output
    problem = refused(*command, "--folds", 9, "--steps", 2, *SMALL)
    assert "8 references are too few for fold 9 of 9" in problem


def test_only_an_evaluated_network_is_published(dataset, run, tmp_path):
    publish = ("publish", "--run", run, "--pictures", dataset / "references")
    publish += ("--output", tmp_path / "bundle", "--trained-on", "posters")
    assert "has no evaluation of its present network" in refused(*publish)
    invoked("evaluate", "--dataset", dataset, "--run", run)
    evaluation = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps(evaluation | {"network_sha256": "other"}))
    assert "has no evaluation of its present network" in refused(*publish)
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    assert "descriptors.onnx" in refused(*publish, "--descriptors", run)
    assert not (tmp_path / "bundle").exists()
    publish += ("--calibrated-as", DEFAULT_BUNDLE)
    assert "not from both" in refused(*publish, "--descriptors", run)
    invoked(*publish, "--parent", "default-1")
    published, default = load_bundle(tmp_path / "bundle"), load_bundle(DEFAULT_BUNDLE)
    published.verify()
    assert published.manifest.parent == "default-1"
    assert published.manifest.metrics["posters recall@20"] == 1.0
    assert published.calibration == default.calibration
    assert published.extractors[Channel.FINE].same_as(default.extractors[Channel.FINE])
    pictures = [cv2.imread(str(path)) for path in sorted((dataset / "references").iterdir())]
    expected = of_run(run).embedder.embed(pictures).vectors
    # The bundle has half of the bits.
    cosines = (published.embedder.embed(pictures).vectors * expected).sum(axis=1)
    assert cosines.min() > 0.999


def test_a_bundle_is_calibrated_anew_and_keeps_all_else(dataset, tmp_path, monkeypatch):
    views = [("a", candidate("a", 5.0)), (None, candidate("a", 0.0))] * 50
    trials = [
        Trial(channel, 100, shows, set(), (found,)) for channel in Channel for shows, found in views
    ]
    monkeypatch.setattr(publish, "run_trials", lambda *_: trials)
    command = ("calibrate", "--bundle", DEFAULT_BUNDLE, "--pictures", dataset / "references")
    version = invoked(*command, "--output", tmp_path).split()[-1]
    calibrated, default = load_bundle(tmp_path), load_bundle(DEFAULT_BUNDLE)
    calibrated.verify()
    assert calibrated.version == version != default.version
    assert calibrated.manifest.parent == default.version
    assert calibrated.calibration == fit_calibration(trials)
    assert calibrated.manifest.tensors_sha256 == default.manifest.tensors_sha256
    assert calibrated.manifest.metrics == default.manifest.metrics


def test_too_few_pictures_to_calibrate_on_are_refused(dataset, tmp_path):
    command = ("calibrate", "--bundle", DEFAULT_BUNDLE, "--pictures", dataset / "references")
    problem = refused(*command, "--output", tmp_path / "bundle")
    assert "8 pictures are too few to calibrate on" in problem
    assert not (tmp_path / "bundle").exists()


def test_bad_data_is_named_before_training_starts(dataset, tmp_path):
    broken = tmp_path / "posters"
    shutil.copytree(dataset, broken)
    (broken / "references" / "1.jpg").write_bytes(b"\xff\xd8 cut off")
    (broken / "queries" / "phone" / "2.jpg").unlink()
    options = ("--dataset", broken, "--steps", 1, *SMALL)
    command = ("train", "--pictures", dataset / "references", "--run", tmp_path / "run")
    problem = refused(*command, *options)
    assert "1.jpg: " in problem
    assert "2.jpg: " in problem
    assert not (tmp_path / "run").exists()


def test_a_command_without_a_place_for_its_figures_says_so(dataset):
    assert "--output FILE.json" in refused("evaluate", "--dataset", dataset)


def test_two_datasets_of_one_name_are_refused(dataset, tmp_path):
    other = tmp_path / "elsewhere" / dataset.name
    shutil.copytree(dataset, other)
    output = ("--output", tmp_path / "figures.json")
    problem = refused("evaluate", "--dataset", dataset, "--dataset", other, *output)
    assert f"another dataset is called '{dataset.name}' as well" in problem
