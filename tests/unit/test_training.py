import json
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import get_model
from typer.testing import CliRunner

from indexing.embedding import Embeddings
from indexing.framing import Framing
from indexing.network import UNIT_SQUARE, EmbeddingNetwork, as_batch
from training.__main__ import app
from training.config import TrainingConfig, read_config
from training.datasets import DatasetError, find_pictures, fingerprint, read_dataset
from training.initialisation import begin_with_components
from training.losses import LossName, Sampling
from training.mining import HardNegative, Verdict
from training.rendering import (
    Draw,
    Pair,
    PairBatches,
    RenderedPairs,
    Renderer,
    Subject,
    Views,
    as_pair_batch,
    numbered,
    turned_to,
    upright,
)
from training.splits import read_subjects, split
from training.stored_pairs import StoredPairs, store
from training.trainer import (
    RunMismatchError,
    Trainer,
    hardness,
    learning_rate,
    mirrored,
    recall,
    trainable_blocks,
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
        "architecture": "mobilenet_v3_small",
        "weights": None,
        "dimension": 16,
        "input_size": 32,
        "reference_size": 32,
        "learning_rate": 2e-3,
        "pairs": 8,
        "steps": 40,
        "held_out": 0.2,
        "curriculum": 1.0,
        "threads": torch.get_num_threads(),
        "workers": 0,
    }
    return TrainingConfig(**({"pictures": (str(folder),)} | settings | changes))


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
        assert len({draw.subject for draw in batch}) == 8
    assert whole[5][0].hardness == 0.5


def test_a_batch_has_hard_negatives_and_never_two_pictures_of_one_thing():
    negatives, same = {number: [number + 10] for number in range(10)}, {frozenset((0, 1))}
    batches = PairBatches(20, 8, 3, 0, lambda _: 1.0, negatives, same)
    for batch in (batch for batch, _ in zip(batches, range(30), strict=False)):
        subjects = [draw.subject for draw in batch]
        assert len(set(subjects)) == 8
        assert not {0, 1} <= set(subjects)
        beside = sum(each + 10 in subjects for each in subjects if each < 10)
        assert beside >= sum(each < 10 for each in subjects) - 1


def test_hard_negatives_are_numbered_as_the_subjects_are(tmp_path):
    one, two, three = (tmp_path / name for name in ("1.jpg", "2.jpg", "3.jpg"))
    judged = [HardNegative(one, two, 0.9), HardNegative(one, three, 0.8, Verdict.SAME)]
    elsewhere = HardNegative(one, tmp_path / "other.jpg", 0.7)
    subjects = [Subject(three), Subject(two), Subject(one)]
    assert numbered([*judged, elsewhere], subjects) == ({2: [1]}, {frozenset((2, 0))})


def pairs_of(folder, **changes):
    subjects = [Subject(path) for path in find_pictures([folder])]
    renderer = Renderer(changes.pop("views", Views.FULL), 48)
    return RenderedPairs(subjects, Framing(32, 24), renderer)


def draws(count, subjects=20):
    return [batch[0] for batch in islice(PairBatches(subjects, 1, 0, 0, lambda _: 1.0), count)]


@pytest.mark.parametrize("views", Views)
def test_pairs_are_rendered_the_same_from_the_same_draw(folder, views):
    pairs, (draw,) = pairs_of(folder, views=views), draws(1)
    first, second = pairs[draw], pairs[draw]
    assert (first.reference.shape, first.photo.shape) == ((24, 24, 3), (32, 32, 3))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)


def test_stored_pairs_keep_their_aspect(folder, tmp_path):
    strip = np.random.default_rng(0).integers(0, 256, (80, 160, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "strip.png"), strip)
    renderer = Renderer(Views.FULL, 80)
    framing = Framing(48, 32, keep_aspect=True)
    rendered = RenderedPairs([Subject(tmp_path / "strip.png")], framing, renderer)
    pairs = store(rendered, 9, 5, tmp_path / "views")
    drawn = [pairs[draw] for draw in draws(30, subjects=1)]
    assert {each.reference.shape for each in drawn} == {(24, 48, 3)}
    # Phones are held either way.
    assert {each.photo.shape for each in drawn} == {(40, 56, 3), (56, 40, 3)}


def test_kinds_of_views_differ(folder):
    rendered = {
        b"".join(pairs_of(folder, views=views)[draw].photo.tobytes() for draw in draws(8))
        for views in Views
    }
    assert len(rendered) == len(Views)


def test_photos_are_learnt_from_where_there_are_some(folder, tmp_path):
    reference, photo = find_pictures([folder])[0], tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.full((60, 80, 3), (250, 0, 250), np.uint8))
    pairs = RenderedPairs([Subject(reference, (photo,))], Framing(32, 32), Renderer(Views.FULL, 48))
    drawn = [pairs[draw] for draw in draws(20, subjects=1)]
    photos = [bool((each.photo[..., 1] < 60).all()) for each in drawn]
    assert 5 <= sum(photos) <= 15
    # Where the reference is in a photo is not known.
    assert [bool(np.isnan(each.quad).all()) for each in drawn] == photos


def test_a_pair_says_where_its_subject_is(tmp_path):
    white = tmp_path / "white.png"
    cv2.imwrite(str(white), np.full((60, 80, 3), 255, np.uint8))
    pairs = RenderedPairs([Subject(white)], Framing(64, 64), Renderer(Views.PERSPECTIVE, 77))
    for draw in draws(10, subjects=1):
        drawn = pairs[draw]
        within = np.zeros((64, 64), np.uint8)
        cv2.fillConvexPoly(within, (64 * drawn.quad - 0.5).round().astype(np.int32), 1)
        assert drawn.photo[within > 0].mean() > 200


def test_a_rectified_view_is_all_subject(folder):
    (draw,) = draws(1)
    assert np.array_equal(pairs_of(folder, views=Views.RECTIFIED)[draw].quad, UNIT_SQUARE)


def test_the_first_corner_is_at_the_top_left_however_a_picture_is_turned():
    square = np.array(UNIT_SQUARE, np.float32)
    quad = 0.2 + 0.5 * square
    for turn in range(4):
        assert np.array_equal(upright(np.roll(quad, turn, axis=0)), quad)


def test_a_quad_turned_by_45_degrees_may_begin_at_either_corner():
    quad = torch.tensor([[[0.5, 0.1], [0.9, 0.5], [0.5, 0.9], [0.1, 0.5]]])
    near = quad + 0.01
    for turn in range(4):
        assert torch.equal(turned_to(quad.roll(turn, dims=1), near), quad)


def test_half_the_pairs_are_seen_in_a_mirror():
    torch.manual_seed(0)
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:, 0] = 9
    left = np.array([[0.0, 0.0], [0.25, 0.0], [0.25, 1.0], [0.0, 1.0]], np.float32)
    shown = mirrored(as_pair_batch([Pair(picture[:2], picture, left, n) for n in range(40)]))
    turned = torch.tensor([not photo[0, 0].any() for photo in shown.photos])
    assert 10 < int(turned.sum()) < 30
    assert torch.equal(shown.subjects, torch.arange(40))
    right = torch.tensor([[0.75, 0.0], [1.0, 0.0], [1.0, 1.0], [0.75, 1.0]])
    assert torch.equal(shown.quads[turned], right.expand(int(turned.sum()), 4, 2))
    for turn, *pair in zip(turned, shown.references, shown.photos, strict=True):
        assert all((each[:, -1 if turn else 0] == 9).all() for each in pair)


def test_stored_pairs_are_rendered_once_and_drawn_again(folder, tmp_path):
    rendered, stored = pairs_of(folder), tmp_path / "views"
    store(rendered, 2, 5, stored)
    written = (stored / "pixels.bin").stat().st_mtime_ns
    pairs = store(rendered, 2, 5, stored)
    assert (stored / "pixels.bin").stat().st_mtime_ns == written
    expected = [rendered[Draw(3, (5, 3, number), hard)] for number, hard in ((0, 0.2), (1, 1.0))]
    drawn = [pairs[Draw(3, (number,), 0.7)] for number in range(20)]
    assert {contents(each) for each in drawn} == {contents(each) for each in expected}


def contents(pair):
    return b"".join(np.asarray(each).tobytes() for each in pair)


def test_stored_pairs_that_were_not_finished_are_rendered_anew(folder, tmp_path):
    rendered = pairs_of(folder)
    (tmp_path / "pixels.bin").write_bytes(b"cut off")
    store(rendered, 1, 5, tmp_path)
    assert StoredPairs(tmp_path)[Draw(0, (1,), 1.0)].photo.any()


def test_a_split_keeps_held_out_pictures_apart(folder):
    plan = config(folder, held_out=0.25, seed=1)
    subjects = read_subjects(plan)
    parts = split(subjects, plan)
    assert len(parts.held_out) == 5
    assert set(parts.training) | set(parts.held_out) == set(subjects)
    assert not set(parts.training) & set(parts.held_out)


def test_every_reference_is_held_out_in_one_fold(folder):
    subjects = read_subjects(config(folder))
    folds = [split(subjects, config(folder, folds=4, fold=fold)).held_out for fold in range(4)]
    assert sorted(each.reference for fold in folds for each in fold) == [
        each.reference for each in subjects
    ]


def test_too_few_references_for_a_fold_are_refused(folder):
    subjects = read_subjects(config(folder))
    with pytest.raises(DatasetError, match="20 references are too few for fold 25 of 25"):
        split(subjects, config(folder, folds=25, fold=24))


def test_a_labelled_dataset_brings_references_with_their_photos(dataset):
    (dataset / "pairs.csv").write_text("query,references\nqueries/2.jpg,references/a.jpg\n")
    plan = config(dataset / "references", datasets=(str(dataset),))
    photos = {each.reference.name: len(each.photos) for each in read_subjects(plan)}
    assert photos == {"a.jpg": 1, "b.png": 0}


def test_a_photo_with_two_lines_is_named(dataset):
    table = "query,references\nqueries/2.jpg,\nqueries/2.jpg,references/a.jpg\n"
    (dataset / "pairs.csv").write_text(table)
    with pytest.raises(DatasetError, match=r"2\.jpg: pairs\.csv has more than one line for it"):
        read_dataset(dataset)


def test_a_folder_without_pictures_is_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: no pictures in it"):
        read_subjects(config(folder, pictures=(str(folder), str(tmp_path / "empty"))))


def test_recall_counts_the_own_row_among_the_most_similar():
    gallery = Embeddings("v", np.eye(60, dtype=np.float32))
    shifted = Embeddings("v", np.roll(gallery.vectors, 1, axis=0) + 0.5 * gallery.vectors)
    own = range(60)
    assert recall(gallery, gallery, own) == {"recall@1": 1, "recall@5": 1, "recall@50": 1}
    assert recall(shifted, gallery, own) == {"recall@1": 0, "recall@5": 1, "recall@50": 1}


def test_the_rate_rises_then_falls_and_views_get_harder(folder):
    plan = config(folder, curriculum=0.5)
    rates = [learning_rate(plan, progress) for progress in (0, plan.warm_up, 0.5, 1)]
    assert rates[1] == plan.learning_rate == max(rates)
    assert rates[3] < rates[0] < rates[2]
    assert hardness(plan, 0) < hardness(plan, 0.2) < hardness(plan, 0.5) == hardness(plan, 1) == 1


def test_blocks_thaw_from_the_last_on(folder):
    plan = config(folder, trainable_blocks=2, unfreeze_every=0.25)
    assert [trainable_blocks(plan, 13, progress) for progress in (0, 0.3, 1)] == [2, 3, 6]
    assert trainable_blocks(config(folder), 13, 0.5) == 13


def test_frozen_blocks_keep_their_weights_and_statistics(folder, tmp_path):
    trainer = Trainer(config(folder, steps=2, trainable_blocks=1), tmp_path, print)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.train()
    changed = {
        name
        for name, value in trainer.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed
    assert all(name.startswith(("features.12.", "head.", "pool.")) for name in changed)


def test_a_pretrained_backbone_keeps_its_statistics(folder, tmp_path):
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.pth")
    plan = config(folder, architecture="resnet18", weights=str(tmp_path / "weights.pth"), steps=2)
    trainer = Trainer(plan, tmp_path / "run", print)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.train()
    after = trainer.network.state_dict()
    assert torch.equal(before["features.1.running_mean"], after["features.1.running_mean"])
    assert not torch.equal(before["features.1.weight"], after["features.1.weight"])


def test_what_is_saved_has_a_share_of_the_pretrained_weights(folder, tmp_path):
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.pth")
    pretrained = {"architecture": "resnet18", "weights": str(tmp_path / "weights.pth")}
    plan = config(folder, **pretrained, pretrained_share=0.25, steps=3)
    trainer = Trainer(plan, tmp_path / "run", print)
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer.train()
    saved = load_file(tmp_path / "run" / "network.safetensors")
    for name, learnt in trainer.network.named_parameters():
        assert torch.allclose(saved[name], 0.25 * before[name] + 0.75 * learnt, atol=1e-6)
    resumed = Trainer(plan, tmp_path / "run", print)
    assert torch.equal(resumed.network.head.weight, trainer.network.head.weight)


def test_a_head_begins_with_the_principal_components_of_references():
    torch.manual_seed(0)
    network = EmbeddingNetwork("resnet18", 4)
    before = network.head.weight.clone()
    pictures = list(np.random.default_rng(0).integers(0, 256, (9, 40, 40, 3), np.uint8))
    begin_with_components(network, pictures[:4])
    assert torch.equal(network.head.weight, before)
    begin_with_components(network, pictures)
    with torch.no_grad():
        features = network.pool(network.features(as_batch(torch.from_numpy(np.stack(pictures)))))
        found = network.head(features)
    deviations = torch.linalg.svdvals(features - features.mean(0))[:4]
    products = found.T @ found
    assert torch.allclose(found.mean(0), torch.zeros(4), atol=1e-3)
    # Uncorrelated, each with the square root of its deviation left.
    expected = deviations * deviations[0]
    assert torch.allclose(products, torch.diag(expected), atol=1e-3 * float(expected[0]))


def test_info_nce_takes_no_sampling(folder):
    with pytest.raises(ValueError, match="InfoNCE learns from all of a batch"):
        config(folder, loss=LossName.INFO_NCE, sampling=Sampling.SEMI_HARD)


@pytest.mark.parametrize("changes", [{"spatial_transformer": True}, {"architecture": "vit_b_16"}])
def test_what_takes_squares_keeps_no_aspect(folder, changes):
    with pytest.raises(ValueError, match="takes squares"):
        config(folder, keep_aspect=True, **changes)


def test_training_lowers_the_loss_and_leaves_a_usable_network(folder, tmp_path):
    run = tmp_path / "run"
    history = Trainer(config(folder), run, print).train()
    assert history.loss[-1]["loss"] < history.loss[0]["loss"]
    network = EmbeddingNetwork(dimension=16)
    network.load_state_dict(load_file(run / "network.safetensors"))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["training_pictures"] == 16
    assert metrics["validation"][-1]["recall@5"] == 1
    assert read_config(run / "config.json") == config(folder)
    assert (run / "curves.png").stat().st_size > 1000
    assert list((run / "tensorboard").iterdir())


def test_a_spatial_transformer_learns_where_pictures_are(folder, tmp_path):
    plan = config(folder, spatial_transformer=True, input_size=64, steps=40, held_out=0.25)
    trainer = Trainer(plan, tmp_path, print)

    def astray():
        shown = [pairs[draw] for draw in draws(15, subjects=15)]
        batch = as_batch(torch.from_numpy(np.stack([each.photo for each in shown])))
        true = torch.from_numpy(np.stack([each.quad for each in shown]))
        with torch.inference_mode():
            _, found = trainer.network.eval().warp.guesses(batch)
            return float((found - turned_to(true, found)).abs().mean())

    pairs = RenderedPairs(trainer.split.training, trainer.config.framing, Renderer(Views.FULL, 77))
    before = astray()
    trainer.train()
    assert astray() < 0.8 * before


def test_a_run_is_the_same_for_the_same_seed(folder, tmp_path):
    first, second = (
        Trainer(config(folder, steps=10), tmp_path / name, print).train() for name in "ab"
    )
    assert first.loss[0]["loss"] == pytest.approx(second.loss[0]["loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("stopped", "changes"),
    [
        (
            10,
            {
                "architecture": "efficientnet_b0",
                "sampling": Sampling.UNIFORM,
                "loss": LossName.TRIPLET,
            },
        ),
        (13, {"spatial_transformer": True, "reference_size": 24}),
    ],
)
def test_a_killed_run_goes_on_as_if_undisturbed(folder, tmp_path, stopped, changes):
    plan = config(folder, steps=20, checkpoint_steps=stopped, **changes)
    whole = Trainer(plan, tmp_path / "whole", print).train()

    def die(step, measured):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(plan, tmp_path / "killed", print).train(die)
    resumed = Trainer(plan, tmp_path / "killed", print)
    assert resumed.history.step == stopped
    assert curve(resumed.train()) == curve(whole)


def curve(history):
    losses = [(each["step"], pytest.approx(each["loss"], rel=1e-4)) for each in history.loss]
    return losses, [each["step"] for each in history.validation]


def test_a_run_may_begin_as_another_ended(folder, tmp_path):
    Trainer(config(folder, steps=3), tmp_path / "first", print).train()
    start = str(tmp_path / "first")
    second = Trainer(config(folder, steps=3, start=start, seed=1), tmp_path / "second", print)
    ended = load_file(tmp_path / "first" / "network.safetensors")
    assert all(torch.equal(ended[name], v) for name, v in second.network.state_dict().items())


def test_a_finished_run_is_not_trained_again(folder, tmp_path):
    Trainer(config(folder, steps=10), tmp_path, print).train()
    assert Trainer(config(folder, steps=10), tmp_path, print).train().step == 10


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
