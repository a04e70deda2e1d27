"""The FAISS index of one gallery's embeddings, in half precision.

A gallery is searched exactly until that takes longer than the rest of a scan; then in an inverted
file whose centroids are its own, as it has enough vectors to find them.
"""

import math
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from indexing.voting import Floats, Ints

Index = Any
Halves = npt.NDArray[np.float16]

HALF = faiss.ScalarQuantizer.QT_fp16
# Up to this many vectors all are compared.
MAX_EXACT = 200_000
# An inverted file of n vectors has 2 sqrt(n) lists, and this share of them is searched: enough for
# 99 % of the exact 50 nearest (``python -m benchmarks index``).
LISTS_PROBED = 0.12
TRAINED_ON_PER_LIST = 64


class ImageIndex:
    """Vectors of length 1 by the rows of their images, compared by their inner product."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._centroids: Index = None
        self._index = self._exact()

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def nbytes(self) -> int:
        """Bytes of vectors and rows."""
        return len(self) * (2 * self._dimension + 8)

    def add(self, rows: Ints, vectors: Halves) -> None:
        """Adds vectors, float16 [n, dimension], under their rows, int64 [n]."""
        values = np.ascontiguousarray(vectors, np.float32)
        if len(self) <= MAX_EXACT < len(self) + len(rows):
            rows, values = self._emptied(rows, values)
            self._index = self._inverted(values)
        self._index.add_with_ids(values, rows)

    def remove(self, rows: Ints) -> None:
        """Removes vectors by their rows."""
        self._index.remove_ids(rows)

    def search(self, vectors: Floats, count: int) -> tuple[Floats, Ints]:
        """The inner products, float32, and rows, int64, of the most similar, both [n, count].

        The row of none is -1.
        """
        similar, rows = self._index.search(vectors, count)
        return similar, rows

    def _exact(self) -> Index:
        flat = faiss.IndexScalarQuantizer(self._dimension, HALF, faiss.METRIC_INNER_PRODUCT)
        return faiss.IndexIDMap(flat)

    def _inverted(self, vectors: Floats) -> Index:
        lists = int(2 * math.sqrt(len(vectors)))
        self._centroids = faiss.IndexFlatIP(self._dimension)
        index = faiss.IndexIVFScalarQuantizer(
            self._centroids, self._dimension, lists, HALF, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.max_points_per_centroid = TRAINED_ON_PER_LIST
        index.train(vectors)
        index.nprobe = max(1, round(LISTS_PROBED * lists))
        return index

    def _emptied(self, rows: Ints, vectors: Floats) -> tuple[Ints, Floats]:
        """All that there is, and the given, so that another index may take it."""
        there = faiss.vector_to_array(self._index.id_map)
        stored = self._index.index.reconstruct_n(0, len(there)) if len(there) else vectors[:0]
        return np.concatenate([there, rows]), np.concatenate([stored, vectors])
