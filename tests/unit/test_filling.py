import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.artwork import draw_collection
from benchmarks.errors import BenchmarkError
from benchmarks.filling import LONG_SIDE, Fillers, filled, find_sources
from indexing.bundle import DEFAULT_BUNDLE, load_bundle
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.segment import IndexedReference
from training.datasets import DatasetError, read_picture

BLOCK = 3
STARTED = """
import sys
from pathlib import Path
from benchmarks.filling import filled
from indexing.bundle import DEFAULT_BUNDLE
if __name__ == "__main__":
    sources, cache, count, block = sys.argv[1:]
    filled(DEFAULT_BUNDLE, sorted(Path(sources).iterdir()), int(count), Path(cache), int(block))
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("distractors")
    for art in [*draw_collection("poster", 3, seed=5), *draw_collection("painting", 3, seed=5)]:
        Image.fromarray(art.picture).save(folder / f"{art.name}.jpg", quality=90)
    return tuple(sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def cache(sources: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the first nine fillers: not to be changed."""
    folder = tmp_path_factory.mktemp("cache")
    filled(DEFAULT_BUNDLE, sources, 3 * BLOCK, folder, BLOCK)
    return folder


def thumbnail(picture: Pixels) -> Pixels:
    return np.asarray(cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA), np.uint8)


def assert_same(one: IndexedReference, other: IndexedReference) -> None:
    assert one.id == other.id
    (first,), (second,) = one.images, other.images
    np.testing.assert_array_equal(first.embedding.vectors, second.embedding.vectors)
    np.testing.assert_array_equal(first.thumbnail, second.thumbnail)
    assert_same_keypoints(first.local, second.local)


def assert_same_keypoints(
    one: Mapping[Channel, LocalFeatures], other: Mapping[Channel, LocalFeatures]
) -> None:
    assert one.keys() == other.keys()
    for channel, local in one.items():
        for field in fields(LocalFeatures):
            expected = getattr(other[channel], field.name)
            np.testing.assert_array_equal(getattr(local, field.name), expected, field.name)


def test_each_source_comes_once_before_any_variant(sources: tuple[Path, ...]) -> None:
    fillers = Fillers(sources)

    first = [fillers.picture(number).tobytes() for number in range(len(sources))]

    assert sorted(first) == sorted(read_picture(path, LONG_SIDE).tobytes() for path in sources)


def test_no_two_fillers_look_the_same(sources: tuple[Path, ...]) -> None:
    fillers = Fillers(sources)
    small = np.array([thumbnail(fillers.picture(number)) for number in range(500)], np.float32)

    nearest = [
        np.abs(small[number] - small[number + 1 :]).mean(axis=(1, 2, 3)).min()
        for number in range(len(small) - 1)
    ]

    assert min(nearest) > 3


def test_a_variant_is_a_small_rgb_picture(sources: tuple[Path, ...]) -> None:
    fillers = Fillers(sources)
    for number in range(len(sources), len(sources) + 60):
        picture = fillers.picture(number)
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert max(picture.shape[:2]) == LONG_SIDE
        assert picture.std() > 1


def test_a_filler_depends_on_its_number_alone(sources: tuple[Path, ...]) -> None:
    forwards, backwards = Fillers(sources), Fillers(sources)
    numbers = [0, 7, 1_000, 99_999]

    first = [forwards.picture(number) for number in numbers]
    second = [backwards.picture(number) for number in reversed(numbers)]

    for one, other in zip(first, reversed(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_photo_may_show_is_no_source(sources: tuple[Path, ...], tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in sources:
        (linked / path.name).symlink_to(path)

    found = find_sources([linked], excluded=sources[:2])

    assert [path.name for path in found] == [path.name for path in sources[2:]]


def test_an_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        find_sources([tmp_path / "nowhere"], ())


def test_features_are_those_of_the_pictures(sources: tuple[Path, ...], cache: Path) -> None:
    extractor, fillers = FeatureExtractor(load_bundle(DEFAULT_BUNDLE)), Fillers(sources)

    references = filled(DEFAULT_BUNDLE, sources, 8, cache, BLOCK)

    assert len({reference.id for reference in references}) == len(references) == 8
    for number, reference in enumerate(references):
        (image,) = reference.images
        expected = extractor.reference(fillers.picture(number))
        assert image.embedding.version == extractor.version
        np.testing.assert_allclose(image.embedding.vectors, expected.embedding.vectors, atol=1e-4)
        np.testing.assert_array_equal(image.thumbnail, expected.thumbnail)
        assert_same_keypoints(image.local, expected.local)


def test_a_smaller_gallery_is_the_beginning_of_a_larger(
    sources: tuple[Path, ...], cache: Path
) -> None:
    small = filled(DEFAULT_BUNDLE, sources, 2, cache, BLOCK)
    large = filled(DEFAULT_BUNDLE, sources, 5, cache, BLOCK)

    assert (len(small), len(large)) == (2, 5)
    for one, other in zip(small, large, strict=False):
        assert_same(one, other)
    assert [each.id for each in large[1:3]] == [large[1].id, large[2].id]
    with pytest.raises(IndexError):
        small[2]


def test_only_blocks_that_are_whole_are_taken(
    sources: tuple[Path, ...], cache: Path, tmp_path: Path
) -> None:
    before = list(filled(DEFAULT_BUNDLE, sources, 9, cache, BLOCK))
    copy = shutil.copytree(cache, tmp_path / "cache")
    whole, cut, gone = sorted(copy.rglob("*.safetensors"))
    untouched = whole.stat().st_mtime_ns
    cut.write_bytes(cut.read_bytes()[:-100])
    gone.rename(gone.with_suffix(".partial"))

    after = list(filled(DEFAULT_BUNDLE, sources, 9, copy, BLOCK))

    assert whole.stat().st_mtime_ns == untouched
    for one, other in zip(before, after, strict=True):
        assert_same(one, other)


def test_a_killed_run_is_gone_on_with(sources: tuple[Path, ...], tmp_path: Path) -> None:
    count, block = 80, 4
    arguments = [str(sources[0].parent), str(tmp_path), str(count), str(block)]
    run = subprocess.Popen(
        [sys.executable, "-c", STARTED, *arguments],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: any(tmp_path.rglob("*.safetensors")) or run.poll() is not None)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert 0 < len(kept) < count // block

    references = filled(DEFAULT_BUNDLE, sources, count, tmp_path, block)

    assert len({reference.images[0].embedding.vectors.tobytes() for reference in references}) > 70
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_other_pictures_have_a_cache_of_their_own(
    sources: tuple[Path, ...], cache: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(cache, tmp_path / "cache")
    one = filled(DEFAULT_BUNDLE, sources, 3, copy, BLOCK)
    # What the first three fillers of all sources do not show.
    rest = sorted(set(sources) - set(Fillers(sources).sources[:3]))
    other = filled(DEFAULT_BUNDLE, rest, 3, copy, BLOCK)

    seen = {each.images[0].embedding.vectors.tobytes() for each in [*one, *other]}

    assert len(seen) == 6


def test_plain_and_broken_pictures_give_their_place_to_others(
    sources: tuple[Path, ...], tmp_path: Path
) -> None:
    plain, broken = tmp_path / "plain.png", tmp_path / "broken.png"
    Image.new("RGB", (120, 120), "white").save(plain)
    broken.write_bytes(b"no picture")

    references = filled(
        DEFAULT_BUNDLE, [*sources, plain, broken], len(sources) + 2, tmp_path / "cache", BLOCK
    )

    seen = {reference.images[0].embedding.vectors.tobytes() for reference in references}
    assert len(seen) == len(sources) + 2


def test_nothing_but_plain_pictures_is_an_error(tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (120, 120), "white").save(plain)
    with pytest.raises(BenchmarkError, match="plain"):
        filled(DEFAULT_BUNDLE, [plain], 1, tmp_path, BLOCK)


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    no_sources: Sequence[Path] = []
    with pytest.raises(BenchmarkError, match="no pictures"):
        filled(DEFAULT_BUNDLE, no_sources, 1, tmp_path, BLOCK)


def wait_until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "It did not happen."
        time.sleep(0.01)
