import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.artwork import draw_collection
from indexing import descriptor_index
from indexing.appearance import photo_levels
from indexing.bundle import DEFAULT_BUNDLE, DESCRIPTOR_GRAPH, Bundle, load_bundle, save_bundle
from indexing.descriptor_index import (
    DESCRIPTORS_PER_LIST,
    CoarseQuantizers,
    Codebook,
    DescriptorIndex,
)
from indexing.embedding import Embeddings
from indexing.errors import BundleInvalid, ModelVersionMismatch
from indexing.features import (
    FeatureExtractor,
    geometry_bytes,
    reference_features,
)
from indexing.image import Pixels
from indexing.keypoints import Channel
from indexing.placement import shard_of
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference
from indexing.shard import ModelShards, Shard

PICTURES = {art.name: art.picture for art in draw_collection("poster", 4, seed=3)}


@pytest.fixture(scope="module")
def references(extractor: FeatureExtractor) -> dict[str, IndexedReference]:
    return {
        name: IndexedReference(name, f"https://example.com/{name}", {}, (extractor.reference(p),))
        for name, p in PICTURES.items()
    }


@pytest.fixture
def shard(bundle: Bundle, references: dict[str, IndexedReference]) -> Shard:
    shard = Shard(bundle)
    shard.replace("acme", 1, list(references.values()))
    shard.replace("other", 1, [])
    return shard


def search(
    shard: Shard, extractor: FeatureExtractor, name: str, channel: Channel, publisher: str = "acme"
) -> SearchResult:
    picture = PICTURES[name]
    return shard.search(query_of(extractor, picture, channel, publisher))


def query_of(
    extractor: FeatureExtractor,
    picture: np.ndarray,
    channel: Channel,
    publisher: str = "acme",
) -> Query:
    return Query(
        0,
        publisher,
        extractor.version,
        channel,
        extractor.query(picture, channel),
        photo_levels(picture),
        extractor.embed([picture]),
    )


@pytest.mark.parametrize("channel", Channel)
def test_each_channel_finds_and_verifies_each_reference(
    shard: Shard, extractor: FeatureExtractor, channel: Channel
) -> None:
    for name in PICTURES:
        result = search(shard, extractor, name, channel)
        best = max(result.candidates, key=lambda c: c.evidence.geometry.inliers)
        assert result.shortlist[0] == name
        assert best.reference == name
        np.testing.assert_allclose(
            best.evidence.geometry.quad, [[0, 0], [1, 0], [1, 1], [0, 1]], atol=0.02
        )


def test_publishers_see_only_their_own(shard: Shard, extractor: FeatureExtractor) -> None:
    name = next(iter(PICTURES))
    assert search(shard, extractor, name, Channel.ORB, "other").references == 0


def test_removed_reference_is_gone_and_may_come_back(
    shard: Shard, extractor: FeatureExtractor, references: dict[str, IndexedReference]
) -> None:
    name = next(iter(PICTURES))
    shard.apply("acme", 2, [], [name])
    gone = search(shard, extractor, name, Channel.FINE)
    assert (gone.gallery_version, gone.references) == (2, len(PICTURES) - 1)
    assert name not in gone.shortlist
    assert name not in [c.reference for c in gone.candidates]

    shard.apply("acme", 3, [references[name]], [])
    assert search(shard, extractor, name, Channel.FINE).shortlist[0] == name


def test_changed_reference_is_not_doubled(
    shard: Shard, extractor: FeatureExtractor, references: dict[str, IndexedReference]
) -> None:
    name = next(iter(PICTURES))
    shard.apply("acme", 2, [references[name]], [])
    result = search(shard, extractor, name, Channel.ORB)
    assert result.references == len(PICTURES)
    assert [c.reference for c in result.candidates].count(name) == 1


@pytest.mark.parametrize("part", ["local features", "embedding"])
def test_features_of_another_model_are_refused(
    shard: Shard, extractor: FeatureExtractor, part: str
) -> None:
    picture = next(iter(PICTURES.values()))
    query = query_of(extractor, picture, Channel.FINE)
    foreign = {
        "local features": replace(query, model_version="another"),
        "embedding": replace(
            query, embedding=Embeddings("another", extractor.embed([picture]).vectors)
        ),
    }
    with pytest.raises(ModelVersionMismatch):
        shard.search(foreign[part])


def test_without_an_embedding_votes_alone_find_candidates(
    shard: Shard, extractor: FeatureExtractor
) -> None:
    name, picture = next(iter(PICTURES.items()))
    query = query_of(extractor, picture, Channel.ORB)
    asked, unasked = (shard.search(each) for each in (query, replace(query, embedding=None)))
    similarities = [
        next(c.evidence.similarity for c in result.candidates if c.reference == name)
        for result in (asked, unasked)
    ]
    embedded = extractor.embed([picture]).similarity(extractor.embed_references([picture]))
    assert similarities == [pytest.approx(embedded[0, 0], abs=1e-3), None]


def test_growing_gallery_keeps_what_it_has(
    bundle: Bundle, extractor: FeatureExtractor, references: dict[str, IndexedReference]
) -> None:
    shard = Shard(bundle)
    copies = [
        IndexedReference(f"copy-{i}-{reference.id}", "", {}, reference.images)
        for i in range(80)
        for reference in references.values()
    ]
    shard.replace("acme", 1, list(references.values()))
    shard.apply("acme", 2, copies, [])
    shard.apply("acme", 3, [], [copy.id for copy in copies])
    for name in PICTURES:
        assert search(shard, extractor, name, Channel.ORB).shortlist[0] == name


def test_stored_features_come_back(references: dict[str, IndexedReference]) -> None:
    image = next(iter(references.values())).images[0]
    restored = reference_features(image.embedding, geometry_bytes(image.local, image.thumbnail))
    for channel, local in image.local.items():
        own = restored.local[channel]
        np.testing.assert_array_equal(own.descriptors, local.descriptors)
        np.testing.assert_allclose(own.points, local.points, atol=3e-4)
    np.testing.assert_array_equal(restored.thumbnail, image.thumbnail)


def test_the_keypoints_of_an_image_are_stored_in_at_most_20_kilobytes(
    references: dict[str, IndexedReference],
) -> None:
    images = [image for reference in references.values() for image in reference.images]
    for channel, extractor in load_bundle(DEFAULT_BUNDLE).extractors.items():
        most = max(len(image.local[channel]) for image in images)
        assert most == sum(count for _, count in extractor.reference_pyramid)
    assert (
        max(
            len(geometry_bytes(image.local, image.thumbnail)) - image.thumbnail.nbytes
            for image in images
        )
        <= 20_000
    )


def test_damaged_bundle_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle")
    tensors = folder / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleInvalid, match="hash"):
        load_bundle(folder)


def test_missing_or_malformed_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid):
        load_bundle(tmp_path)
    folder = shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle")
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(BundleInvalid):
        load_bundle(folder)
    unknown = manifest.replace('"inlier_ratio"', '"sharpness"')
    assert unknown != manifest
    (folder / "manifest.json").write_text(unknown)
    with pytest.raises(BundleInvalid, match="calibrated on other evidence"):
        load_bundle(folder)


def listed_weights(folder: Path, weights: Sequence[float] | None) -> Bundle:
    """The default bundle with weights as bundles had them before they were named."""
    copy = shutil.copytree(DEFAULT_BUNDLE, folder)
    manifest = json.loads((copy / "manifest.json").read_text())
    for values in manifest["calibration"].values():
        values["weights"] = weights
    del manifest["calibration_features"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return load_bundle(copy)


def test_weights_of_older_bundles_are_those_of_the_first_features_of_then(tmp_path: Path) -> None:
    listed = listed_weights(tmp_path / "older", [1.0, 2.0, 3.0])
    named = {"log_significance": 1.0, "coverage": 2.0, "inlier_ratio": 3.0}
    assert all(each.weights == named for each in listed.calibration.values())
    with pytest.raises(BundleInvalid, match="more evidence than it names"):
        listed_weights(tmp_path / "too many", [1.0] * 8)
    with pytest.raises(BundleInvalid):
        listed_weights(tmp_path / "none", None)


@pytest.mark.parametrize(("changed", "built"), [(DESCRIPTOR_GRAPH, []), ("codebook.orb.", ["orb"])])
async def test_a_version_beside_another_builds_only_what_it_has_of_its_own(
    bundle: Bundle,
    variant_bundle: Callable[[str], Bundle],
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    built: list[str],
) -> None:
    beside = variant_bundle(changed)
    bundles = {each.version: each for each in (bundle, beside)}

    async def load(version: str) -> Bundle:
        return bundles[version]

    shards = ModelShards(load)
    await shards.generation(bundle.version)
    made: list[str] = []
    quantizers = Codebook.quantizers

    def noted(self: Codebook) -> CoarseQuantizers:
        made.append(self.channel)
        return quantizers(self)

    monkeypatch.setattr(Codebook, "quantizers", noted)
    await shards.generation(beside.version)
    assert made == built


def test_a_set_of_centroids_is_indexed_when_a_gallery_is_large_enough_for_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    quantizer = descriptor_index._quantizer

    def noted(channel: Channel, centroids: Pixels) -> descriptor_index.Index:
        made.append(len(centroids))
        return quantizer(channel, centroids)

    monkeypatch.setattr(descriptor_index, "_quantizer", noted)
    few, more, *_ = (len(each) for each in bundle.codebooks[Channel.ORB].centroids)
    quantizers = bundle.codebooks[Channel.ORB].quantizers()
    index = DescriptorIndex(Channel.ORB, quantizers)
    DescriptorIndex(Channel.ORB, quantizers)
    assert made == [few]
    count = DESCRIPTORS_PER_LIST * few + 1
    descriptors = np.random.default_rng(0).integers(256, size=(count, 32), dtype=np.uint8)
    index.add(np.arange(count), descriptors)
    assert made == [few, more]


def test_weights_that_do_not_fit_the_architecture_are_refused(tmp_path: Path) -> None:
    whole = load_bundle(DEFAULT_BUNDLE).manifest
    tensors = load_file(DEFAULT_BUNDLE / "model.safetensors")
    for change in ({"dimension": 64}, {"architecture": "no_such_net"}):
        save_bundle(tmp_path, whole.model_copy(update=change), tensors)
        with pytest.raises(BundleInvalid):
            load_bundle(tmp_path).verify()


def test_default_bundle_is_small() -> None:
    size = sum(file.stat().st_size for file in DEFAULT_BUNDLE.iterdir())
    assert size <= 20 * 1024 * 1024


def test_one_shard_more_moves_only_publishers_that_move_to_it() -> None:
    names = [f"publisher-{i}" for i in range(500)]
    before, after = ([shard_of(name, range(count)) for name in names] for count in (4, 5))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {4}
    assert 50 < len(moved) < 150
