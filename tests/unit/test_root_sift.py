"""Model versions without learnt descriptors, such as those of before there were any."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.artwork import draw_collection
from indexing.appearance import photo_levels
from indexing.bundle import (
    DEFAULT_BUNDLE,
    TENSORS,
    Bundle,
    load_bundle,
    local_tensors,
    save_bundle,
)
from indexing.features import FeatureExtractor
from indexing.keypoints import Channel, SiftExtractor, root_sift
from indexing.search import Query
from indexing.segment import IndexedReference
from indexing.shard import Shard
from indexing.views import ViewConditions, clutter, render_view
from training.codebooks import fit_projection

PICTURES = [art.picture for art in draw_collection("poster", 4, seed=3)]
VIEW = ViewConditions(area=(0.3, 0.5), tilt=30, cut_off=0, occlusion=0)


@pytest.fixture(scope="module")
def root_sift_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "root-sift"
    default = load_bundle(DEFAULT_BUNDLE)
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in PICTURES]
    projection = fit_projection(np.concatenate([root_sift(grey, 300)[1] for grey in greys]))
    tensors = load_file(DEFAULT_BUNDLE / TENSORS)
    others = {name: each for name, each in tensors.items() if name not in default.local_tensors}
    manifest = default.manifest.model_copy(update={"format": 2, "name": "root-sift"})
    save_bundle(folder, manifest, others | local_tensors(projection, default.codebooks))
    return load_bundle(folder)


def test_their_photos_are_found_by_root_sift(root_sift_bundle: Bundle) -> None:
    root_sift_bundle.verify()
    assert isinstance(root_sift_bundle.extractors[Channel.FINE], SiftExtractor)
    extractor = FeatureExtractor(root_sift_bundle)
    shard = Shard(root_sift_bundle)
    names = [str(number) for number in range(len(PICTURES))]
    references = [
        IndexedReference(name, "https://example.com", {}, (extractor.reference(picture),))
        for name, picture in zip(names, PICTURES, strict=True)
    ]
    shard.replace("acme", 1, references)
    rng = np.random.default_rng(6)
    for name, picture in zip(names, PICTURES, strict=True):
        photo = render_view(picture, clutter((), (640, 480), rng), VIEW, rng).photo
        local = extractor.query(photo, Channel.FINE)
        version = root_sift_bundle.version
        query = Query(0, "acme", version, Channel.FINE, local, photo_levels(photo))
        result = shard.search(query)
        assert result.shortlist[0] == name
        assert any(each.evidence.geometry.plausible for each in result.candidates)


def test_their_local_features_are_not_taken_for_those_of_another_projection(
    root_sift_bundle: Bundle, tmp_path: Path
) -> None:
    own = FeatureExtractor(root_sift_bundle)
    assert own.same_local_features(FeatureExtractor(root_sift_bundle))
    tensors = dict(root_sift_bundle.local_tensors)
    tensors["sift.mean"] = tensors["sift.mean"] + 1
    everything = load_file(DEFAULT_BUNDLE / TENSORS) | tensors
    everything.pop("descriptors.onnx", None)
    save_bundle(tmp_path, root_sift_bundle.manifest, everything)
    assert not own.same_local_features(FeatureExtractor(load_bundle(tmp_path)))
