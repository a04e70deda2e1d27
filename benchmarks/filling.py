"""Pictures that fill a gallery to any size: those of folders first, then variants made out of them.

A variant is cut and put together out of several pictures, mirrored, turned, scaled and recoloured,
so that it shows none of them whole. Each is drawn by its number alone: galleries of all sizes are
nested, and their features can be computed in blocks, once, and kept on disk.
"""

import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import overload

import cv2
import numpy as np
import platformdirs
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from benchmarks.errors import BenchmarkError
from benchmarks.threads import use_one_thread
from indexing.bundle import load_bundle
from indexing.embedding import Embeddings
from indexing.errors import ImageTooPlain
from indexing.features import KEYPOINT_FIELDS, FeatureExtractor, ReferenceFeatures, Tensors
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.segment import IndexedReference
from training.datasets import DatasetError, find_pictures, read_picture

Size = tuple[int, int]
Rectangle = tuple[int, int, int, int]

DEFAULT_CACHE = platformdirs.user_cache_path("imagelink")
# Part of the seed and of the cache's key: another number makes all variants anew.
RECIPE = 1
LONG_SIDE = 256
BLOCK = 250
PROBES = 4
# A picture that cannot be registered gives its place to one whose number is this much higher.
SPARE = 1_000_000_000
ATTEMPTS = 20


class Fillers:
    """Pictures by their numbers, without end: the sources themselves, then variants of them.

    The sources come in a seeded order, so that a small gallery has of every kind.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        if not sources:
            raise BenchmarkError("There are no pictures to fill the gallery with.")
        order = np.random.default_rng(RECIPE).permutation(len(sources))
        self.sources = tuple(sources[number] for number in order)

    def picture(self, number: int) -> Pixels:
        """The picture of a number, uint8 RGB [height, width, 3], at most 256 pixels a side.

        Raises DatasetError where a file it is made of cannot be read.
        """
        if number < len(self.sources):
            return read_picture(self.sources[number], LONG_SIDE)
        rng = np.random.default_rng((RECIPE, number))
        chosen = rng.integers(len(self.sources), size=rng.integers(2, 4, endpoint=True))
        return variant([read_picture(self.sources[each], LONG_SIDE) for each in chosen], rng)


def find_sources(folders: Iterable[Path], excluded: Collection[Path]) -> tuple[Path, ...]:
    """The pictures of folders to make fillers of, without the files that are ``excluded``.

    Exclude whatever a photo may show: a variant of that would be a second right answer. Raises
    DatasetError where a folder is absent.
    """
    shown = {path.resolve() for path in excluded}
    return tuple(path for path in find_pictures(folders) if path.resolve() not in shown)


def filled(
    bundle: Path, sources: Sequence[Path], count: int, cache: Path, block: int = BLOCK
) -> Sequence[IndexedReference]:
    """The features of the first ``count`` fillers, read from the disk as they are asked for.

    What ``cache`` lacks is computed first, ``block`` pictures a file, in a process for each
    processor; a run that was killed is gone on with. The features of a reference are views of its
    block, which is let go when no feature of it is held. Raises BenchmarkError where there are no
    sources, or hardly one that is readable and not too plain; BundleInvalid.
    """
    fillers = Fillers(sources)
    extractor = FeatureExtractor(load_bundle(bundle))
    folder = cache / "fillers" / _key(fillers, extractor, block)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:06}.safetensors" for number in range(math.ceil(count / block))]
    missing = [number for number, file in enumerate(files) if not _whole(file)]
    if missing:
        _compute(bundle, fillers, {number: files[number] for number in missing}, block)
    return _Filled(extractor.version, files, count, block)


# Variants


def variant(pictures: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    """A picture made out of several, uint8 RGB [h, w, 3]: pieces of them in tiles, recoloured."""
    size = LONG_SIDE, round(LONG_SIDE * rng.uniform(0.6, 1.0))
    size = size if rng.random() < 0.5 else size[::-1]
    # One tile alone is a detail of another filler, unless something is laid over it.
    tiles = int(rng.integers(1, 6, endpoint=True))
    quilt = _quilt(pictures, size, tiles, rng)
    if tiles == 1 or rng.random() < 0.3:
        quilt = _overlaid(quilt, _quilt(pictures, size, int(rng.integers(1, 3)), rng), rng)
    return _recoloured(quilt, rng)


def _quilt(pictures: Sequence[Pixels], size: Size, tiles: int, rng: np.random.Generator) -> Pixels:
    canvas = np.empty((size[1], size[0], 3), np.uint8)
    order = rng.permutation(len(pictures))
    for number, (left, top, right, bottom) in enumerate(_cut(size, tiles, rng)):
        picture = pictures[order[number % len(order)]]
        canvas[top:bottom, left:right] = _piece(picture, (right - left, bottom - top), rng)
    return canvas


def _cut(size: Size, tiles: int, rng: np.random.Generator) -> list[Rectangle]:
    """Cuts a rectangle across its longer side, then the largest part of it, and so on."""
    parts: list[Rectangle] = [(0, 0, *size)]
    while len(parts) < tiles:
        left, top, right, bottom = parts.pop(int(np.argmax([_area(part) for part in parts])))
        share = rng.uniform(0.35, 0.65)
        if right - left >= bottom - top:
            middle = left + round(share * (right - left))
            parts += [(left, top, middle, bottom), (middle, top, right, bottom)]
        else:
            middle = top + round(share * (bottom - top))
            parts += [(left, top, right, middle), (left, middle, right, bottom)]
    return parts


def _area(part: Rectangle) -> int:
    left, top, right, bottom = part
    return (right - left) * (bottom - top)


def _piece(picture: Pixels, size: Size, rng: np.random.Generator) -> Pixels:
    """A piece of a picture about a random spot, turned, scaled, stretched and often mirrored."""
    height, width = picture.shape[:2]
    quarter = rng.integers(4) * np.pi / 2
    angle = quarter if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    stretch = np.exp(rng.uniform(-0.4, 0.4) * np.array([1.0, -1.0]))
    reach = stretch / np.exp(rng.uniform(np.log(0.6), np.log(1.4)))
    reach[0] *= rng.choice([-1.0, 1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn * reach
    spot = rng.uniform(0.25, 0.75, 2) * (width, height)
    transform = np.column_stack([linear, spot - linear @ (np.array(size) / 2)])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(picture, transform, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, np.uint8)


def _overlaid(first: Pixels, second: Pixels, rng: np.random.Generator) -> Pixels:
    mixtures: tuple[Callable[[Pixels, Pixels], cv2.typing.MatLike], ...] = (
        cv2.max,
        cv2.min,
        cv2.absdiff,
        lambda one, other: cv2.addWeighted(one, 0.6, other, 0.4, 0),
    )
    return np.asarray(mixtures[int(rng.integers(len(mixtures)))](first, second), np.uint8)


def _recoloured(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Hues turned, a little or all around, each channel with its own gamma, some a negative."""
    angle = rng.uniform(-0.5, 0.5) if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    hues, _ = cv2.Rodrigues(np.full(3, angle / np.sqrt(3)))
    levels = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.uniform(-0.5, 0.5, 3))
    table = levels if rng.random() < 0.8 else levels[::-1]
    turned = cv2.transform(picture, hues)
    return np.asarray(cv2.LUT(turned, np.rint(255 * table).astype(np.uint8)[None]), np.uint8)


# Features in blocks


class _Filled(Sequence[IndexedReference]):
    """The first ``count`` references of blocks on disk."""

    def __init__(self, version: str, files: Sequence[Path], count: int, block: int) -> None:
        self._version = version
        self._files = files
        self._numbers = range(count)
        self._block = block

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> IndexedReference: ...
    @overload
    def __getitem__(self, index: slice) -> list[IndexedReference]: ...
    def __getitem__(self, index: int | slice) -> IndexedReference | list[IndexedReference]:
        if isinstance(index, slice):
            return [self._reference(number) for number in self._numbers[index]]
        return self._reference(self._numbers[index])

    def _reference(self, number: int) -> IndexedReference:
        block, place = divmod(number, self._block)
        features = _read_block(self._files[block], self._version)[place]
        return IndexedReference(f"filler-{number}", "", {}, (features,))


def _key(fillers: Fillers, extractor: FeatureExtractor, block: int) -> str:
    """A hash of all that the features of fillers depend on.

    The sources' contents tell other folders apart, the features of a few fillers other code and
    other models.
    """
    digest = hashlib.sha256(f"{RECIPE} {block}".encode())
    for source in fillers.sources:
        digest.update(_hash(source))
    for number in range(len(fillers.sources), len(fillers.sources) + PROBES):
        features = _features(fillers, extractor, number)
        digest.update(features.embedding.vectors.tobytes())
        digest.update(features.thumbnail.tobytes())
        for channel, local in features.local.items():
            digest.update(channel.encode())
            for name in KEYPOINT_FIELDS:
                digest.update(np.ascontiguousarray(getattr(local, name)).tobytes())
    return digest.hexdigest()[:16]


def _hash(source: Path) -> bytes:
    try:
        return hashlib.sha256(source.read_bytes()).digest()
    except OSError:
        return b"unreadable"


def _whole(file: Path) -> bool:
    try:
        with safe_open(file, "numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def _compute(bundle: Path, fillers: Fillers, files: dict[int, Path], block: int) -> None:
    workers = min(len(os.sched_getaffinity(0)), len(files))
    # Spawned, as the threads of PyTorch and OpenCV do not survive a fork.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=use_one_thread)
    try:
        tasks = [
            pool.submit(_write_block, bundle, fillers, number * block, block, file)
            for number, file in files.items()
        ]
        for task in track(as_completed(tasks), "Features of the fillers", total=len(tasks)):
            task.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_block(bundle: Path, fillers: Fillers, first: int, count: int, file: Path) -> None:
    """Writes a block whole or not at all."""
    extractor = FeatureExtractor(load_bundle(bundle))
    features = [_features(fillers, extractor, first + place) for place in range(count)]
    with NamedTemporaryFile(dir=file.parent, suffix=".partial", delete=False) as partial:
        partial.write(save(_packed(features)))
    os.replace(partial.name, file)


def _features(fillers: Fillers, extractor: FeatureExtractor, number: int) -> ReferenceFeatures:
    for attempt in range(ATTEMPTS):
        try:
            return extractor.reference(fillers.picture(number + attempt * SPARE))
        except (ImageTooPlain, DatasetError):
            continue
    raise BenchmarkError(f"No filler for number {number}: the pictures are broken or too plain.")


def _packed(features: Sequence[ReferenceFeatures]) -> Tensors:
    tensors: Tensors = {
        "embeddings": np.concatenate([each.embedding.vectors for each in features]),
        "thumbnails": np.stack([each.thumbnail for each in features]),
    }
    for channel in Channel:
        local = [each.local[channel] for each in features]
        tensors[f"{channel}.counts"] = np.array([len(each) for each in local])
        for name in KEYPOINT_FIELDS:
            values = [getattr(each, name) for each in local]
            tensors[f"{channel}.{name}"] = np.concatenate(values)
        tensors[f"{channel}.aspects"] = np.array([each.aspect for each in local])
    return tensors


@lru_cache(maxsize=2)
def _read_block(file: Path, version: str) -> list[ReferenceFeatures]:
    tensors = load_file(file)
    local = {channel: _local(tensors, channel) for channel in Channel}
    images = zip(tensors["embeddings"], tensors["thumbnails"], strict=True)
    return [
        ReferenceFeatures(
            Embeddings(version, vector[None]),
            {channel: features[place] for channel, features in local.items()},
            thumbnail,
        )
        for place, (vector, thumbnail) in enumerate(images)
    ]


def _local(tensors: Tensors, channel: Channel) -> list[LocalFeatures]:
    ends = np.cumsum(tensors[f"{channel}.counts"])[:-1]
    fields = [np.split(tensors[f"{channel}.{name}"], ends) for name in KEYPOINT_FIELDS]
    aspects = tensors[f"{channel}.aspects"].tolist()
    return [
        LocalFeatures(**dict(zip(KEYPOINT_FIELDS, values, strict=True)), aspect=aspect)
        for *values, aspect in zip(*fields, aspects, strict=True)
    ]
