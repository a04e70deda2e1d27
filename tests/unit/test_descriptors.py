"""Local descriptors: what they learn from, how, and what finds keypoints with them."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks.artwork import draw_collection
from indexing.appearance import photo_levels
from indexing.bundle import (
    DEFAULT_BUNDLE,
    DESCRIPTOR_GRAPH,
    TENSORS,
    Bundle,
    load_bundle,
    local_tensors,
    save_bundle,
)
from indexing.errors import BundleInvalid
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.keypoints import Channel, Projection, SiftExtractor, root_sift, scaled_grey
from indexing.patch_extractor import PatchExtractor
from indexing.recognition import Look
from indexing.search import Query
from indexing.segment import IndexedReference
from indexing.shard import Shard
from indexing.views import ViewConditions, clutter, render_view
from training.codebooks import fit_local_features, fit_projection
from training.datasets import DatasetError
from training.descriptor_trainer import DescriptorConfig, train_descriptors
from training.descriptors import DescriptorNetwork, hardest_in_batch, same_spots
from training.onnx_export import GraphDiffersError, descriptor_graph
from training.patch_pairs import PatchPairs, batches, store_pairs
from training.runs import CHECKPOINT, DESCRIPTORS, METRICS, RunMismatchError

RNG = np.random.default_rng(8)
POSTERS = [art.picture for art in draw_collection("poster", 4, seed=3)]
VIEW = ViewConditions(
    area=(0.5, 0.8), tilt=20, turned=0, cut_off=0, occlusion=0, mounted=0, lighting=0.3, blur=0.2
)
PATCHES = RNG.integers(256, size=(300, 24, 24), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, art in enumerate(draw_collection("poster", 6, seed=3)):
        cv2.imwrite(str(folder / f"{number}.jpg"), art.picture[:, :, ::-1])
    return folder


@pytest.fixture(scope="module")
def config(pictures: Path) -> DescriptorConfig:
    return DescriptorConfig(
        (str(pictures),),
        views_each=8,
        views=16,
        warm_up=5,
        steps=60,
        held_out=0.3,
        checkpoint_steps=30,
    )


@pytest.fixture(scope="module")
def run(config: DescriptorConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_descriptors(config, folder, print)
    return folder


@pytest.fixture(scope="module")
def pairs(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> PatchPairs:
    return store_pairs(sorted(pictures.iterdir()), 4, 0, tmp_path_factory.mktemp("views"))


def extractor(run: Path) -> PatchExtractor:
    return PatchExtractor((run / DESCRIPTORS).read_bytes())


def metrics(run: Path) -> dict[str, list[dict[str, float]]]:
    values: dict[str, list[dict[str, float]]] = json.loads((run / METRICS).read_text())
    return values


def a_picture() -> Pixels:
    (art,) = draw_collection("poster", 1, seed=9)
    return art.picture


def test_the_patches_of_a_pair_show_the_same_spot(pairs: PatchPairs) -> None:
    """They are alike, as far as light and blur leave them so: others are not."""

    def likeness(one: Pixels, other: Pixels) -> float:
        flat = [each.reshape(len(each), -1).astype(float) for each in (one, other)]
        one, other = ((each - each.mean(1)[:, None]) / each.std(1)[:, None] for each in flat)
        return float((one * other).mean(axis=1).mean())

    assert len(pairs) > 100
    assert likeness(pairs.references, pairs.photos) > 0.5
    assert likeness(pairs.references, np.roll(pairs.photos, 40, axis=0)) < 0.3


def test_stored_pairs_are_not_rendered_again(pictures: Path, tmp_path: Path) -> None:
    first = store_pairs(sorted(pictures.iterdir()), 1, 0, tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = store_pairs(sorted(pictures.iterdir()), 1, 0, tmp_path)
    assert file.stat().st_mtime_ns == written
    assert np.array_equal(first.photos, again.photos)


def test_a_batch_has_several_pairs_of_each_view_and_is_the_same_for_its_step(
    pairs: PatchPairs,
) -> None:
    drawn = batches(pairs, 5, 8, seed=1)
    first, second = next(drawn), next(drawn)
    views, counts = np.unique(pairs.views[first], return_counts=True)
    assert len(views) == 5
    assert counts.max() <= 8
    assert len(np.unique(first)) == len(first)
    assert np.array_equal(next(batches(pairs, 5, 8, seed=1, first=1)), second)


def test_the_negative_is_the_nearest_of_all_others_but_never_the_same_spot() -> None:
    angles = torch.tensor([0.0, 0.2, 2.0])
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    apart = torch.eye(3, dtype=torch.bool)
    near = 2 * np.sin(0.1)
    far = 2 * np.sin(0.9)
    expected = (2 * (1 - near) + max(0, 1 - far)) / 3
    assert float(hardest_in_batch(vectors, vectors, apart)) == pytest.approx(expected, abs=1e-2)
    together = apart.clone()
    together[0, 1] = together[1, 0] = True
    assert float(hardest_in_batch(vectors, vectors, together)) == pytest.approx(0.0, abs=1e-2)


def test_only_near_spots_of_one_picture_are_the_same() -> None:
    spots = np.array([[1, 1], [1.2, 1], [3, 1], [1, 1]], np.float32)
    found = same_spots(np.array([0, 0, 0, 1]), spots)
    assert found.tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


def test_descriptors_learn_and_find_a_turned_picture_again(run: Path) -> None:
    curve = metrics(run)["validation"]
    assert [each["step"] for each in curve] == [30, 60]
    assert curve[-1]["nearest"] > 0.1
    found = extractor(run)
    picture = a_picture()
    one = found.extract(picture, 200)
    other = found.extract(np.ascontiguousarray(np.rot90(picture)), 200)
    assert one.descriptors.shape == (len(one), 48)
    distances = np.linalg.norm(
        one.descriptors[:, None].astype(float) - other.descriptors[None], axis=2
    )
    nearest = distances.argmin(axis=1)
    # A quarter turn takes (x, y) to (y, 1 - x).
    expected = np.stack([one.points[:, 1], 1 - one.points[:, 0]], axis=1)
    right = np.linalg.norm(other.points[nearest] - expected, axis=1) < 0.02
    assert right.mean() > 0.5


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    run: Path, config: DescriptorConfig, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("step 60"):
            raise StoppedError

    with pytest.raises(StoppedError):
        train_descriptors(config, tmp_path, stop)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 30
    train_descriptors(config, tmp_path, print)
    assert metrics(tmp_path) == metrics(run)


def test_a_folder_of_another_run_or_of_too_few_pictures_is_refused(
    run: Path, config: DescriptorConfig, tmp_path: Path
) -> None:
    with pytest.raises(RunMismatchError, match="another configuration"):
        train_descriptors(replace(config, seed=9), run, print)
    cv2.imwrite(str(tmp_path / "one.jpg"), a_picture())
    with pytest.raises(DatasetError, match="1 pictures are too few"):
        train_descriptors(DescriptorConfig((str(tmp_path),)), tmp_path / "run", print)
    assert not (tmp_path / "run").exists()


def test_pictures_without_detail_are_named_as_the_reason(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "plain.png"), np.full((200, 200, 3), 90, np.uint8))
    with pytest.raises(ValueError, match="train on pictures with more detail"):
        store_pairs([tmp_path / "plain.png"], 2, 0, tmp_path / "views")


def test_a_graph_that_describes_otherwise_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    network = DescriptorNetwork().eval()
    other = torch.nn.functional.normalize(torch.randn(300, 48), dim=1)
    monkeypatch.setattr("training.onnx_export.described", lambda *_: other)
    with pytest.raises(GraphDiffersError, match="another descriptor"):
        descriptor_graph(network, PATCHES)


@pytest.mark.parametrize("graph", [b"", b"no graph"])
def test_a_bundle_whose_descriptor_graph_is_none_is_refused(graph: bytes, tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="cannot be run"):
        bundle_with(graph, tmp_path)


def test_the_graph_of_an_embedding_is_none_of_descriptors() -> None:
    tensors = load_file(DEFAULT_BUNDLE / TENSORS)
    with pytest.raises(ValueError, match="graph of local descriptors"):
        PatchExtractor(tensors["onnx"].tobytes())


def test_codebooks_are_of_the_descriptors_that_a_model_has(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.codebooks.LISTS", (2, 4))
    pictures = [art.picture for art in draw_collection("poster", 2, seed=1)]
    graph = (run / DESCRIPTORS).read_bytes()
    learnt, root_sift = (fit_local_features(pictures, each) for each in (graph, None))
    assert learnt[DESCRIPTOR_GRAPH].tobytes() == graph
    assert DESCRIPTOR_GRAPH not in root_sift
    assert {"sift.mean", "sift.basis", "sift.scale"} <= set(root_sift) - set(learnt)
    for level, lists in enumerate((2, 4)):
        name = f"codebook.sift.{level}"
        assert learnt[name].shape == root_sift[name].shape == (lists, 48)
        assert not np.array_equal(learnt[name], root_sift[name])


def test_a_plain_photo_has_no_learnt_keypoints(run: Path) -> None:
    local = extractor(run).extract(np.full((48, 64, 3), 90, np.uint8), 100)
    assert len(local) == 0
    assert local.descriptors.shape == (0, 48)
    assert local.aspect == pytest.approx(64 / 48)


Source = bytes | Projection


@pytest.fixture(scope="module")
def sources(run: Path) -> dict[str, Source]:
    greys = [scaled_grey(picture, 640) for picture in POSTERS]
    sift = np.concatenate([root_sift(grey, 300)[1] for grey in greys])
    return {"learnt": (run / DESCRIPTORS).read_bytes(), "RootSIFT": fit_projection(sift)}


def bundle_with(source: Source, folder: Path) -> Bundle:
    """The default bundle with other local descriptors."""
    default = load_bundle(DEFAULT_BUNDLE)
    tensors = load_file(DEFAULT_BUNDLE / TENSORS)
    others = {name: each for name, each in tensors.items() if name not in default.local_tensors}
    save_bundle(folder, default.manifest, others | local_tensors(source, default.codebooks))
    return load_bundle(folder)


@pytest.mark.parametrize("kind", ["learnt", "RootSIFT"])
def test_a_model_finds_photos_by_the_descriptors_that_it_has(
    sources: dict[str, Source], kind: str, tmp_path: Path
) -> None:
    bundle = bundle_with(sources[kind], tmp_path)
    bundle.verify()
    # A server that knows no learnt descriptors is not to read them as RootSIFT.
    assert bundle.manifest.format == (4 if kind == "learnt" else 2)
    extractor, shard = FeatureExtractor(bundle), Shard(bundle)
    names = [str(number) for number in range(len(POSTERS))]
    references = [
        IndexedReference(name, "https://example.com", {}, (extractor.reference(picture),))
        for name, picture in zip(names, POSTERS, strict=True)
    ]
    shard.replace("acme", 1, references)
    rng = np.random.default_rng(6)
    for name, picture in zip(names, POSTERS, strict=True):
        photo = render_view(picture, clutter((), (640, 480), rng), VIEW, rng).photo
        local, levels = extractor.query(photo, Channel.FINE), photo_levels(photo)
        result = shard.search(Query(0, "acme", bundle.version, Channel.FINE, local, levels))
        assert result.shortlist[0] == name
        assert any(each.evidence.geometry.plausible for each in result.candidates)


def test_the_corners_of_a_photo_are_found_once(
    sources: dict[str, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, look = FeatureExtractor(bundle_with(sources["learnt"], tmp_path)), Look()
    alone = extractor.query(POSTERS[0], Channel.FINE)
    binary = look.local(POSTERS[0], Channel.ORB, extractor)
    monkeypatch.setattr("indexing.corners.find_corners", None)
    fine = look.local(POSTERS[0], Channel.FINE, extractor)
    assert np.array_equal(fine.points, binary.points)
    assert np.array_equal(fine.points, alone.points)
    # Where they are is rounded on the way.
    assert (fine.descriptors == alone.descriptors).mean() > 0.99


def test_features_are_the_same_only_by_the_same_descriptors(
    sources: dict[str, Source], tmp_path: Path
) -> None:
    learnt, projected = (
        FeatureExtractor(bundle_with(source, tmp_path / kind)) for kind, source in sources.items()
    )
    again = FeatureExtractor(bundle_with(sources["learnt"], tmp_path / "again"))
    assert learnt.same_local_features(again)
    assert not learnt.same_local_features(projected)
    assert not projected.same_local_features(learnt)


@pytest.mark.parametrize("changed", ["mean", "basis", "scale"])
def test_root_sift_is_the_same_only_by_the_same_projection(
    sources: dict[str, Source], changed: str
) -> None:
    projection = sources["RootSIFT"]
    assert isinstance(projection, Projection)
    other = replace(projection, **{changed: 2 * getattr(projection, changed)})
    assert SiftExtractor(projection).same_as(SiftExtractor(replace(projection)))
    assert not SiftExtractor(projection).same_as(SiftExtractor(other))
