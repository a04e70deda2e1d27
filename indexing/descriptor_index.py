"""The FAISS inverted file of one publisher's local descriptors in one channel.

The coarse centroids come from the model's bundle and are shared by every publisher, so that no
gallery needs training and a gallery of three works as one of a million. A small gallery uses few
lists: thousands of empty ones would cost it more than its descriptors.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from indexing.image import Pixels
from indexing.keypoints import Channel
from indexing.voting import PLACE_BITS, Floats, Ints

# FAISS's binary and float indexes have the same methods but no common base.
Index = Any
Lists = npt.NDArray[np.uint16]

NEIGHBOURS = 8
LISTS_PROBED = 4
# What an inverted list costs when it is empty: FAISS's two vectors.
LIST_BYTES = 144
# Descriptors per list from which the next larger set of centroids is worth its lists.
DESCRIPTORS_PER_LIST = 1000
# From so many centroids of fine descriptors on, a graph of them (HNSW; Malkov and Yashunin, 2018) is
# faster than a look at all, and finds 99 % of the same lists. Hamming distances are too cheap for that.
GRAPH_LISTS = 10_000
GRAPH_NEIGHBOURS = 32
GRAPH_SEARCHED = 32


@dataclass(frozen=True, slots=True)
class Codebook:
    """Coarse centroids of one channel, uint8 [lists, bytes], in sets of rising size."""

    channel: Channel
    centroids: tuple[Pixels, ...]

    def quantizers(self) -> "CoarseQuantizers":
        """An index over each set of centroids."""
        return CoarseQuantizers(self)

    def equals(self, other: "Codebook") -> bool:
        """Whether it groups everything as the other does."""
        return (
            self.channel is other.channel
            and len(self.centroids) == len(other.centroids)
            and all(map(np.array_equal, self.centroids, other.centroids))
        )


class CoarseQuantizers:
    """An index over each of a codebook's sets of centroids, built when a gallery first needs it.

    The graph over the largest takes most of a second, and only galleries of millions of descriptors
    have a use for it.
    """

    def __init__(self, codebook: Codebook) -> None:
        self._codebook = codebook
        self._built: dict[int, Index] = {}
        self._building = threading.Lock()

    def __len__(self) -> int:
        return len(self._codebook.centroids)

    def lists(self, level: int) -> int:
        """How many centroids a set has."""
        return len(self._codebook.centroids[level])

    def __getitem__(self, level: int) -> Index:
        with self._building:
            if level not in self._built:
                centroids = self._codebook.centroids[level]
                self._built[level] = _quantizer(self._codebook.channel, centroids)
            return self._built[level]


@dataclass(frozen=True, slots=True)
class Assigned:
    """The lists, int64 [n], that descriptors belong to in a codebook's set of centroids."""

    level: int
    lists: Ints


class DescriptorIndex:
    """Descriptors of many images, each with the id ``row << 9 | place in its image``.

    ``quantizers`` are those of the codebook, shared between galleries.
    """

    def __init__(self, channel: Channel, quantizers: CoarseQuantizers) -> None:
        self._channel = channel
        self._quantizers = quantizers
        self._level = 0
        self._index = _inverted_file(channel, quantizers[0])

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def assign(self, descriptors: Pixels) -> Assigned:
        """The nearest centroids of descriptors, uint8 [n, bytes], as the index is now."""
        level = self._level_for(len(self) + len(descriptors))
        _, lists = self._quantizers[level].search(_values(self._channel, descriptors), 1)
        return Assigned(level, np.ascontiguousarray(lists[:, 0], np.int64))

    def add(self, ids: Ints, descriptors: Pixels, assigned: Assigned | None = None) -> None:
        """Adds descriptors, uint8 [n, bytes], under their ids.

        What ``assign`` gave for them beforehand saves most of the work here.
        """
        level = self._level_for(len(self) + len(descriptors))
        if level > self._level:
            self._level = level
            self._index = _regrouped(self._channel, self._index, self._quantizers[level])
        if assigned is None or assigned.level != level:
            assigned = self.assign(descriptors)
        values, lists = _values(self._channel, descriptors), assigned.lists
        pointers = [faiss.swig_ptr(each) for each in (values, ids, lists)]
        self._index.add_core(len(ids), *pointers)

    @property
    def nbytes(self) -> int:
        """Bytes of descriptors, ids and lists."""
        each = int(self._index.code_size) + 8
        return len(self) * each + int(self._index.nlist) * LIST_BYTES

    @property
    def level(self) -> int:
        """Which of the codebook's sets of centroids is used."""
        return self._level

    def lists_of(self, rows: Ints, ends: Ints) -> Lists:
        """The list that each descriptor is in, uint16 [m]: those of images one after the other.

        ``rows`` are all images here, rising; ``ends`` is where the descriptors of each end.
        """
        found = np.zeros(ends[-1] if len(ends) else 0, np.uint16)
        starts = ends - np.diff(ends, prepend=0)
        for number in range(self._index.nlist):
            ids = _ids_in(self._index, number)
            images = np.searchsorted(rows, ids >> PLACE_BITS)
            found[starts[images] + (ids & ((1 << PLACE_BITS) - 1))] = number
        return found

    def fill(self, level: int, lists: Lists, ids: Ints, descriptors: Pixels) -> None:
        """Fills an empty index with descriptors, uint8 [m, bytes], whose lists are known."""
        self._level = level
        self._index = _inverted_file(self._channel, self._quantizers[level])
        order = np.argsort(lists, kind="stable")
        numbers, counts = np.unique(lists, return_counts=True)
        ids, codes = ids[order], descriptors[order]
        start = 0
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self._index.invlists.add_entries(
                number, count, faiss.swig_ptr(ids[start:]), faiss.swig_ptr(codes[start:])
            )
            start += count
        self._index.ntotal = len(ids)

    def remove(self, rows: Sequence[int]) -> None:
        """Removes the descriptors of images."""
        for row in rows:
            first = row << PLACE_BITS
            self._index.remove_ids(faiss.IDSelectorRange(first, first + (1 << PLACE_BITS)))

    def search(self, descriptors: Pixels) -> tuple[Floats, Ints]:
        """Finds the distances, float32, and ids, int64, of the nearest, both [n, 8]; -1 is none."""
        distances, ids = self._index.search(_values(self._channel, descriptors), NEIGHBOURS)
        return distances.astype(np.float32), ids

    def _level_for(self, size: int) -> int:
        """Which set of centroids an index of so many descriptors has, if never a smaller one."""
        level, last = self._level, len(self._quantizers) - 1
        while level < last and size > DESCRIPTORS_PER_LIST * self._quantizers.lists(level):
            level += 1
        return level


def descriptor_ids(rows: Ints, ends: Ints) -> Ints:
    """The ids of descriptors, int64 [m], one image after the other.

    ``rows`` are the images', ``ends`` where the descriptors of each end.
    """
    counts = np.diff(ends, prepend=0)
    places = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
    return np.asarray((np.repeat(rows, counts) << PLACE_BITS) | places, np.int64)


def _quantizer(channel: Channel, centroids: Pixels) -> Index:
    lists, width = centroids.shape
    index: Index
    if channel is Channel.ORB:
        index = faiss.IndexBinaryFlat(width * 8)
    elif lists < GRAPH_LISTS:
        index = faiss.IndexFlatL2(width)
    else:
        index = faiss.IndexHNSWFlat(width, GRAPH_NEIGHBOURS)
        index.hnsw.efSearch = GRAPH_SEARCHED
    index.add(_values(channel, centroids))
    return index


def _inverted_file(channel: Channel, quantizer: Index) -> Index:
    index: Index
    if channel is Channel.ORB:
        index = faiss.IndexBinaryIVF(quantizer, quantizer.d, quantizer.ntotal)
        index.is_trained = True
    else:
        kind = faiss.ScalarQuantizer.QT_8bit_direct
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, quantizer.d, quantizer.ntotal, kind, faiss.METRIC_L2, False
        )
        index.is_trained = True
    index.nprobe = LISTS_PROBED
    return index


def _regrouped(channel: Channel, index: Index, quantizer: Index) -> Index:
    larger = _inverted_file(channel, quantizer)
    for number in range(index.nlist):
        ids = _ids_in(index, number)
        if len(ids):
            size = len(ids) * index.invlists.code_size
            codes = faiss.rev_swig_ptr(index.invlists.get_codes(number), size).copy()
            larger.add_with_ids(_values(channel, codes.reshape(len(ids), -1)), ids)
    return larger


def _ids_in(index: Index, number: int) -> Ints:
    """The ids in an inverted list."""
    size = index.invlists.list_size(number)
    if not size:
        return np.zeros(0, np.int64)
    return np.asarray(faiss.rev_swig_ptr(index.invlists.get_ids(number), size).copy())


def _values(channel: Channel, descriptors: Pixels) -> "Pixels | Floats":
    if channel is Channel.ORB:
        return np.ascontiguousarray(descriptors)
    return np.ascontiguousarray(descriptors, np.float32)
