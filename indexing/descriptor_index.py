"""The FAISS inverted file of one publisher's local descriptors in one channel.

The coarse centroids come from the model's bundle and are shared by every publisher, so that no
gallery needs training and a gallery of three works as one of a million. A small gallery uses few
lists: thousands of empty ones would cost it more than its descriptors.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from indexing.image import Pixels
from indexing.keypoints import Channel
from indexing.voting import PLACE_BITS, Floats, Ints

# FAISS's binary and float indexes have the same methods but no common base.
Index = Any

NEIGHBOURS = 8
LISTS_PROBED = {Channel.ORB: 4, Channel.SIFT: 6}
# Descriptors per list from which the next larger set of centroids is worth its lists.
DESCRIPTORS_PER_LIST = 1000


@dataclass(frozen=True, slots=True)
class Codebook:
    """Coarse centroids of one channel, uint8 [lists, bytes], in sets of rising size."""

    channel: Channel
    centroids: tuple[Pixels, ...]

    def quantizers(self) -> list[Index]:
        """A flat index over each set of centroids."""
        return [_quantizer(self.channel, centroids) for centroids in self.centroids]


class DescriptorIndex:
    """Descriptors of many images, each with the id ``row << 9 | place in its image``.

    ``quantizers`` are those of the codebook, shared between galleries.
    """

    def __init__(self, channel: Channel, quantizers: list[Index]) -> None:
        self._channel = channel
        self._quantizers = quantizers
        self._level = 0
        self._index = _inverted_file(channel, quantizers[0])

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, rows: Ints, counts: Ints, descriptors: Pixels) -> None:
        """Adds images: ``counts[i]`` of the descriptors, uint8 [n, bytes], belong to ``rows[i]``."""
        self._grow(len(self) + len(descriptors))
        places = np.arange(len(descriptors)) - np.repeat(np.cumsum(counts) - counts, counts)
        ids = (np.repeat(rows, counts) << PLACE_BITS) | places
        self._index.add_with_ids(_values(self._channel, descriptors), ids)

    def remove(self, row: int) -> None:
        """Removes the descriptors of an image."""
        first = row << PLACE_BITS
        self._index.remove_ids(faiss.IDSelectorRange(first, first + (1 << PLACE_BITS)))

    def search(self, descriptors: Pixels) -> tuple[Floats, Ints]:
        """Finds the distances, float32, and ids, int64, of the nearest, both [n, 8]; -1 is none."""
        distances, ids = self._index.search(_values(self._channel, descriptors), NEIGHBOURS)
        return distances.astype(np.float32), ids

    def _grow(self, size: int) -> None:
        level = self._level
        while level + 1 < len(self._quantizers) and size > DESCRIPTORS_PER_LIST * self._lists(
            level
        ):
            level += 1
        if level > self._level:
            self._level = level
            self._index = _regrouped(self._channel, self._index, self._quantizers[level])

    def _lists(self, level: int) -> int:
        return int(self._quantizers[level].ntotal)


def _quantizer(channel: Channel, centroids: Pixels) -> Index:
    width = centroids.shape[1]
    index: Index = (
        faiss.IndexBinaryFlat(width * 8) if channel is Channel.ORB else faiss.IndexFlatL2(width)
    )
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
    index.nprobe = LISTS_PROBED[channel]
    return index


def _regrouped(channel: Channel, index: Index, quantizer: Index) -> Index:
    larger = _inverted_file(channel, quantizer)
    lists = index.invlists
    for number in range(lists.nlist):
        size = lists.list_size(number)
        if size:
            ids = faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
            codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
            larger.add_with_ids(_values(channel, codes.reshape(size, -1).copy()), ids)
    return larger


def _values(channel: Channel, descriptors: Pixels) -> "Pixels | Floats":
    if channel is Channel.ORB:
        return np.ascontiguousarray(descriptors)
    return np.ascontiguousarray(descriptors, np.float32)
