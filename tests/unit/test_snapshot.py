import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks.artwork import draw_collection
from indexing.bundle import DEFAULT_BUNDLE, load_bundle
from indexing.features import FeatureExtractor
from indexing.gallery_index import FrozenGallery
from indexing.placement import WHOLE, Generation, Part
from indexing.segment import IndexedReference
from indexing.shard import Shard
from indexing.snapshot import STALE_SECONDS, SnapshotStore

CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
MODEL = "default-1"


@pytest.fixture(scope="module")
def frozen() -> FrozenGallery:
    bundle = load_bundle(DEFAULT_BUNDLE)
    extractor, gallery = FeatureExtractor(bundle), Shard(bundle).empty_gallery()
    references = [
        IndexedReference(art.name, "https://example.com", {}, (extractor.reference(art.picture),))
        for art in draw_collection("poster", 2, seed=3)
    ]
    gallery.apply(7, references, [])
    found = gallery.freeze()
    assert found is not None
    return found


@pytest.fixture
def snapshots(tmp_path: Path, frozen: FrozenGallery) -> SnapshotStore:
    store = SnapshotStore(tmp_path)
    store.write(Generation("acme", WHOLE, MODEL), CREATED, frozen)
    return store


def only_file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def test_what_was_written_is_read(snapshots: SnapshotStore, frozen: FrozenGallery) -> None:
    found = snapshots.read(Generation("acme", WHOLE, MODEL))
    assert found is not None
    identity, gallery = found
    assert (identity.publisher, identity.create_time) == ("acme", CREATED)
    assert (gallery.version, gallery.levels) == (7, frozen.levels)
    assert gallery.segment.nbytes == 0, "it is mapped"
    assert gallery.segment.tensors.keys() == frozen.segment.tensors.keys()
    for name, values in frozen.segment.tensors.items():
        np.testing.assert_array_equal(gallery.segment.tensors[name], values, err_msg=name)


def test_parts_and_publishers_have_files_of_their_own(
    snapshots: SnapshotStore, frozen: FrozenGallery
) -> None:
    snapshots.write(Generation("acme", Part(1, 2), MODEL), CREATED, frozen)
    assert snapshots.read(Generation("acme", Part(1, 2), MODEL)) is not None
    assert snapshots.read(Generation("acme", Part(0, 2), MODEL)) is None
    assert snapshots.read(Generation("other", WHOLE, MODEL)) is None


def test_deleting_a_publishers_snapshots_leaves_nothing_of_it(
    snapshots: SnapshotStore, frozen: FrozenGallery, tmp_path: Path
) -> None:
    snapshots.write(Generation("acme", Part(1, 2), MODEL), CREATED, frozen)
    snapshots.delete("acme")
    assert snapshots.read(Generation("acme", WHOLE, MODEL)) is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    snapshots.delete("acme")


@pytest.mark.parametrize("at", [0, 12, 40, 2000, -1])
def test_a_changed_byte_is_refused_and_the_file_goes(
    snapshots: SnapshotStore, tmp_path: Path, at: int
) -> None:
    path = only_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert snapshots.read(Generation("acme", WHOLE, MODEL)) is None
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 5, 100, 20_000])
def test_a_half_written_file_is_refused(
    snapshots: SnapshotStore, tmp_path: Path, size: int
) -> None:
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    assert snapshots.read(Generation("acme", WHOLE, MODEL)) is None
    assert not path.exists()


def test_another_publishers_file_is_refused(snapshots: SnapshotStore, tmp_path: Path) -> None:
    path = only_file(tmp_path)
    foreign = tmp_path / MODEL / "other" / path.name
    foreign.parent.mkdir()
    path.rename(foreign)
    assert snapshots.read(Generation("other", WHOLE, MODEL)) is None
    assert not foreign.exists()


def test_another_model_versions_file_is_refused(snapshots: SnapshotStore, tmp_path: Path) -> None:
    os.rename(tmp_path / MODEL, tmp_path / "default-2")
    assert SnapshotStore(tmp_path).read(Generation("acme", WHOLE, "default-2")) is None


def test_a_file_that_cannot_be_opened_now_stays(snapshots: SnapshotStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        assert snapshots.read(Generation("acme", WHOLE, MODEL)) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert snapshots.read(Generation("acme", WHOLE, MODEL)) is not None


def test_a_failed_write_leaves_the_snapshot_before(
    snapshots: SnapshotStore,
    frozen: FrozenGallery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        snapshots.write(Generation("acme", WHOLE, MODEL), CREATED, frozen)
    assert snapshots.read(Generation("acme", WHOLE, MODEL)) is not None
    only_file(tmp_path)


def test_what_a_killed_process_left_is_cleared_away(
    snapshots: SnapshotStore, tmp_path: Path
) -> None:
    folder = tmp_path / MODEL / "acme"
    old, young = folder / "a.partial", folder / "b.partial"
    for path in (old, young):
        path.write_bytes(b"half")
    past = old.stat().st_mtime - 2 * STALE_SECONDS
    os.utime(old, (past, past))
    SnapshotStore(tmp_path)
    assert (old.exists(), young.exists()) == (False, True)
