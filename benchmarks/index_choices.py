"""Kinds of FAISS indexes side by side: what each finds, how long it takes, how much room it needs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypedDict

import faiss
import numpy as np

from benchmarks.index_data import KEYPOINTS, PHOTO_NOISE, Floats, Pictures, Vectors
from indexing.bundle import Bundle
from indexing.descriptor_index import LISTS_PROBED, Codebook, DescriptorIndex, descriptor_ids
from indexing.gallery_index import VOTING_KEYPOINTS
from indexing.image import Pixels
from indexing.image_index import TRAINED_ON_PER_LIST, ImageIndex
from indexing.keypoints import Channel
from indexing.voting import Ints

# FAISS's indexes have no common base.
Index = Any

NEAREST = 50
QUERIES = 256
BATCH = 32
# How much a photo's embedding differs from its picture's.
QUERY_NOISE = 0.5
FP16, INT8 = faiss.ScalarQuantizer.QT_fp16, faiss.ScalarQuantizer.QT_8bit
COSINE = faiss.METRIC_INNER_PRODUCT
PHOTOS = 10


class Choice(TypedDict):
    """One kind of index on one gallery.

    ``recall`` is of the exact 50 nearest vectors, or of the photo's descriptors whose own descriptor
    is found; ``milliseconds`` of one thread are for a vector alone, ``batch_milliseconds`` for a
    vector of a batch of 32. Of descriptors all are for a picture or a photo of one.
    """

    channel: str
    size: int
    kind: str
    chosen: bool
    recall: float
    milliseconds: float
    batch_milliseconds: float | None
    bytes_each: float
    build_seconds: float


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    build: Callable[[Floats], Index]
    # Small galleries have too few vectors for centroids; for large ones HNSW takes too long to build.
    smallest: int = 0
    largest: int = 1_000_000


def image_choices(sizes: Sequence[int], dimension: int, seed: int) -> list[Choice]:
    """Each kind of index of image vectors on galleries of these sizes."""
    source = Vectors(dimension, seed)
    choices = []
    for size in sizes:
        vectors = source.draw(size)
        queries = source.near(vectors[: min(size, QUERIES)], QUERY_NOISE)
        exact = _flat(vectors).search(queries, NEAREST)[1]
        kinds = [kind for kind in _KINDS if kind.smallest <= size <= kind.largest]
        choices += [_image_choice(kind, vectors, queries, exact) for kind in kinds]
    return choices


def _image_choice(kind: _Kind, vectors: Floats, queries: Floats, exact: Ints) -> Choice:
    start = time.perf_counter()
    index = kind.build(vectors)
    built = time.perf_counter() - start
    found = index.search(queries, NEAREST)[1]
    own = isinstance(index, ImageIndex)
    size = index.nbytes if own else faiss.serialize_index(index).nbytes
    return Choice(
        channel="image",
        size=len(vectors),
        kind=kind.name,
        chosen=own,
        recall=float(np.mean([np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)])),
        milliseconds=_milliseconds(lambda q: index.search(q, NEAREST), queries, 1),
        batch_milliseconds=_milliseconds(lambda q: index.search(q, NEAREST), queries, BATCH),
        bytes_each=size / len(vectors),
        build_seconds=built,
    )


def _milliseconds(search: Callable[[Floats], object], queries: Floats, batch: int) -> float:
    """The median time per query of batches of this size."""
    times = []
    for first in range(0, len(queries) - batch + 1, batch):
        start = time.perf_counter()
        search(queries[first : first + batch])
        times.append((time.perf_counter() - start) / batch)
    return 1000 * median(times)


def _flat(vectors: Floats) -> Index:
    return _filled(faiss.IndexFlatIP(vectors.shape[1]), vectors)


def _scalar(kind: int) -> Callable[[Floats], Index]:
    return lambda vectors: _filled(
        faiss.IndexScalarQuantizer(vectors.shape[1], kind, COSINE), vectors
    )


def _inverted(code: str, share: float) -> Callable[[Floats], Index]:
    def build(vectors: Floats) -> Index:
        lists = int(2 * np.sqrt(len(vectors)))
        index: Index = faiss.index_factory(vectors.shape[1], f"IVF{lists},{code}", COSINE)
        index.cp.max_points_per_centroid = TRAINED_ON_PER_LIST
        index.nprobe = max(1, round(share * lists))
        return _filled(index, vectors)

    return build


def _graph(searched: int) -> Callable[[Floats], Index]:
    def build(vectors: Floats) -> Index:
        index: Index = faiss.index_factory(vectors.shape[1], "HNSW32,SQfp16", COSINE)
        index.hnsw.efSearch = searched
        return _filled(index, vectors)

    return build


def _filled(index: Index, vectors: Floats) -> Index:
    index.train(vectors)
    index.add(vectors)
    return index


def _product(vectors: Floats) -> ImageIndex:
    index = ImageIndex(vectors.shape[1])
    index.add(np.arange(len(vectors)), vectors.astype(np.float16))
    return index


_KINDS = (
    _Kind("exact, fp32", _flat),
    _Kind("exact, fp16", _scalar(FP16)),
    _Kind("exact, int8", _scalar(INT8)),
    _Kind("IVF, fp16, 3 % of the lists", _inverted("SQfp16", 0.03), smallest=10_000),
    _Kind("IVF, fp16, 12 % of the lists", _inverted("SQfp16", 0.12), smallest=10_000),
    _Kind("IVF, int8, 12 % of the lists", _inverted("SQ8", 0.12), smallest=10_000),
    _Kind("HNSW32, fp16, ef 128", _graph(128), largest=100_000),
    _Kind("ImageLink's", _product),
)


def descriptor_choices(bundle: Bundle, sizes: Sequence[int], seed: int) -> list[Choice]:
    """Each set of coarse centroids on galleries of so many pictures, in both channels."""
    pictures = Pictures(bundle, seed)
    choices = []
    for size in sizes:
        for channel, codebook in bundle.codebooks.items():
            gallery = _Gallery(channel, pictures, size)
            level = gallery.level(codebook)
            for number, centroids in enumerate(codebook.centroids):
                alone = Codebook(channel, (centroids,))
                choices.append(gallery.choice(alone, chosen=number == level))
    return choices


class _Gallery:
    """So many pictures' descriptors of one channel, and photos of some of the pictures."""

    def __init__(self, channel: Channel, pictures: Pictures, size: int) -> None:
        each = KEYPOINTS[channel]
        self._channel = channel
        self._size = size
        self._descriptors = pictures.descriptors(channel, size * each)
        self._ids = descriptor_ids(np.arange(size), np.arange(1, size + 1) * each)
        rng = np.random.default_rng(size)
        self._shown = rng.integers(len(self._ids), size=(PHOTOS, VOTING_KEYPOINTS))
        noise = PHOTO_NOISE[channel]
        self._photos: list[Pixels] = [
            pictures.disturbed(channel, self._descriptors[shown], noise) for shown in self._shown
        ]

    def level(self, codebook: Codebook) -> int:
        """Which set of centroids ImageLink's index has at this size."""
        index = DescriptorIndex(self._channel, codebook.quantizers())
        return index.assign(self._descriptors).level

    def choice(self, codebook: Codebook, *, chosen: bool) -> Choice:
        """What an index with a codebook of one set finds and costs."""
        index = DescriptorIndex(self._channel, codebook.quantizers())
        start = time.perf_counter()
        index.add(self._ids, self._descriptors)
        built = time.perf_counter() - start
        times, found = [], []
        for photo, shown in zip(self._photos, self._shown, strict=True):
            start = time.perf_counter()
            ids = index.search(photo)[1]
            times.append(time.perf_counter() - start)
            found.append((ids == self._ids[shown][:, None]).any(axis=1).mean())
        return Choice(
            channel=self._channel.value,
            size=self._size,
            kind=f"{len(codebook.centroids[0])} lists, {LISTS_PROBED} searched",
            chosen=chosen,
            recall=float(np.mean(found)),
            milliseconds=1000 * median(times),
            batch_milliseconds=None,
            bytes_each=index.nbytes / self._size,
            build_seconds=built,
        )
