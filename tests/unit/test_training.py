import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from indexing.embedding import Embeddings
from indexing.network import EmbeddingNetwork
from training.__main__ import app
from training.datasets import (
    DatasetError,
    PairBatches,
    RenderedPairs,
    find_pictures,
    fingerprint,
    read_dataset,
)
from training.trainer import (
    RunMismatchError,
    Trainer,
    TrainingConfig,
    hardness,
    learning_rate,
    recall,
    split_pictures,
)


def save_picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (60, 80), interpolation=cv2.INTER_NEAREST))


@pytest.fixture
def folder(tmp_path):
    for i in range(20):
        save_picture(tmp_path / "pictures" / f"{i:02}.jpg", i)
    return tmp_path / "pictures"


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "dataset"
    for name in ("references/a.jpg", "references/b.png", "queries/phone/1.jpg", "queries/2.jpg"):
        save_picture(root / name, len(name))
    table = (
        "query,references\nqueries/phone/1.jpg,references/a.jpg references/b.png\nqueries/2.jpg,\n"
    )
    (root / "pairs.csv").write_text(table)
    return root


def config(folder, **changes):
    settings = {
        "dimension": 16,
        "input_size": 32,
        "pairs": 8,
        "steps": 40,
        "held_out": 0.2,
        "curriculum": 1.0,
        "threads": torch.get_num_threads(),
        "workers": 0,
    }
    return TrainingConfig(pictures=(str(folder),), **(settings | changes))


def test_pictures_are_found_recursively_through_links(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "deep").symlink_to(folder)
    (folder / "notes.txt").write_text("not a picture")
    assert len(find_pictures([linked])) == 20


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        find_pictures([tmp_path / "nowhere"])


def test_a_fingerprint_is_of_contents_not_of_names(folder):
    before = fingerprint(find_pictures([folder]))
    (folder / "00.jpg").rename(folder / "zz.jpg")
    assert fingerprint(find_pictures([folder])) == before
    save_picture(folder / "zz.jpg", 99)
    assert fingerprint(find_pictures([folder])) != before


def test_a_dataset_has_its_queries_and_their_answers(dataset):
    read = read_dataset(dataset)
    assert [path.name for path in read.references] == ["a.jpg", "b.png"]
    assert [pair.query.name for pair in read.pairs] == ["1.jpg", "2.jpg"]
    assert [len(pair.references) for pair in read.pairs] == [2, 0]


def test_every_missing_or_broken_file_is_named_at_once(dataset):
    (dataset / "queries/2.jpg").unlink()
    (dataset / "references/a.jpg").write_bytes(b"no picture")
    (dataset / "references/b.png").write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        read_dataset(dataset)
    assert len(caught.value.problems) == 3
    for name in ("2.jpg", "a.jpg", "b.png"):
        assert f"{name}: " in str(caught.value)


@pytest.mark.parametrize("table", [None, "photo,answer\nx,y\n", ""])
def test_a_missing_or_foreign_table_is_refused(dataset, table):
    (dataset / "pairs.csv").unlink()
    if table is not None:
        (dataset / "pairs.csv").write_text(table)
    with pytest.raises(DatasetError, match=r"pairs\.csv"):
        read_dataset(dataset)


def test_a_table_row_without_its_second_column_means_no_match(dataset):
    (dataset / "pairs.csv").write_text("query,references\nqueries/2.jpg\n")
    assert read_dataset(dataset).pairs[0].references == ()


def test_batches_are_of_distinct_pictures_and_go_on_from_any_step():
    def batches(first, count):
        endless = iter(PairBatches(20, 8, 3, first, lambda step: step / 10))
        return [next(endless) for _ in range(count)]

    whole = batches(0, 6)
    assert whole[4:] == batches(4, 2)
    for batch in whole:
        assert len({draw.picture for draw in batch}) == 8
    assert whole[5][0].hardness == 0.5


def test_pairs_are_rendered_the_same_from_the_same_draw(folder):
    pairs = RenderedPairs(find_pictures([folder]), 32, clean_share=1.0)
    draw = next(iter(PairBatches(20, 1, 0, 0, lambda _: 1.0)))[0]
    assert pairs[draw].shape == (2, 32, 32, 3)
    assert np.array_equal(pairs[draw], pairs[draw])


def test_a_split_keeps_held_out_pictures_apart(folder):
    paths = find_pictures([folder])
    split = split_pictures(paths, 0.25, seed=1)
    assert len(split.held_out) == 5
    assert set(split.training) | set(split.held_out) == set(paths)
    assert not set(split.training) & set(split.held_out)


def test_recall_counts_the_own_row_among_the_most_similar():
    gallery = Embeddings("v", np.eye(60, dtype=np.float32))
    shifted = Embeddings("v", np.roll(gallery.vectors, 1, axis=0) + 0.5 * gallery.vectors)
    assert recall(gallery, gallery) == {"recall@1": 1, "recall@5": 1, "recall@50": 1}
    assert recall(shifted, gallery) == {"recall@1": 0, "recall@5": 1, "recall@50": 1}


def test_the_rate_rises_then_falls_and_views_get_harder(folder):
    plan = config(folder, curriculum=0.5)
    rates = [learning_rate(plan, progress) for progress in (0, plan.warm_up, 0.5, 1)]
    assert rates[1] == plan.learning_rate == max(rates)
    assert rates[3] < rates[0] < rates[2]
    assert hardness(plan, 0) < hardness(plan, 0.2) < hardness(plan, 0.5) == hardness(plan, 1) == 1


def test_training_lowers_the_loss_and_leaves_a_usable_network(folder, tmp_path):
    run = tmp_path / "run"
    history = Trainer(config(folder), run, print).train()
    assert history.loss[-1]["loss"] < history.loss[0]["loss"]
    network = EmbeddingNetwork(dimension=16)
    network.load_state_dict(load_file(run / "network.safetensors"))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["training_pictures"] == 16
    assert metrics["validation"][-1]["recall@5"] == 1
    assert json.loads((run / "config.json").read_text())["steps"] == 40


def test_a_run_is_the_same_for_the_same_seed(folder, tmp_path):
    first, second = (
        Trainer(config(folder, steps=10), tmp_path / name, print).train() for name in "ab"
    )
    assert first.loss[0]["loss"] == pytest.approx(second.loss[0]["loss"], rel=1e-3)


def test_a_run_goes_on_where_it_stopped(folder, tmp_path):
    Trainer(config(folder, steps=10), tmp_path, print).train()
    resumed = Trainer(config(folder, steps=20), tmp_path, print)
    assert resumed.history.step == 10
    assert [record["step"] for record in resumed.train().loss] == [10, 20]
    assert Trainer(config(folder, steps=20), tmp_path, print).train().step == 20


def test_a_run_of_another_configuration_is_refused(folder, tmp_path):
    Trainer(config(folder, steps=1), tmp_path, print).train()
    with pytest.raises(RunMismatchError, match="another configuration"):
        Trainer(config(folder, seed=1), tmp_path, print)


def test_the_command_names_a_broken_picture(folder, tmp_path):
    (folder / "03.jpg").write_bytes(b"\xff\xd8 cut off")
    command = ["train", "--pictures", str(folder), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code != 0
    assert "03.jpg" in str(result.exception) + result.output
