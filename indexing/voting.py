"""Votes of a photo's descriptors for the images of a gallery.

Each query descriptor's K nearest neighbours are looked at; each image among them gets one vote,
weighted by how much nearer it is than the K-th neighbour, as in local naive-Bayes nearest
neighbour (McCann and Lowe, 2012). The votes are also the correspondences for verification.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# A descriptor's id in an index holds its image and its place there: image << 9 | place.
PLACE_BITS = 9


@dataclass(frozen=True, slots=True)
class Votes:
    """The votes of one photo.

    ``images`` int64 [v], ``query`` and ``place`` int64 [v] (the matched descriptors of the photo
    and of the image) and ``weights`` float32 [v], sorted by image.
    """

    images: Ints
    query: Ints
    place: Ints
    weights: Floats

    def ranking(self, count: int) -> list[tuple[int, float]]:
        """The ``count`` images with the most votes, and their shares of all votes."""
        if not len(self.images):
            return []
        images, starts = np.unique(self.images, return_index=True)
        sums = np.add.reduceat(self.weights, starts)
        best = np.argsort(-sums, kind="stable")[:count]
        total = float(sums.sum()) or 1.0
        return [(int(images[i]), float(sums[i]) / total) for i in best]

    def of(self, image: int) -> tuple[Ints, Ints, Floats]:
        """The (query, place, weight) of the votes for one image."""
        span = slice(*np.searchsorted(self.images, [image, image + 1]))
        return self.query[span], self.place[span], self.weights[span]


def vote(distances: Floats, ids: Ints) -> Votes:
    """Counts the votes of neighbours, both [descriptors, K], nearest first; an id of -1 is none."""
    query, rank = np.nonzero(ids >= 0)
    found = ids[query, rank]
    images = found >> PLACE_BITS
    # Nearest first within a descriptor, so the first of an image is its best.
    _, first = np.unique(query * (images.max(initial=0) + 1) + images, return_index=True)
    query, rank, found, images = query[first], rank[first], found[first], images[first]
    weights = distances.max(axis=1, initial=0, where=ids >= 0)[query] - distances[query, rank]
    order = np.argsort(images, kind="stable")
    return Votes(
        images[order],
        query[order],
        found[order] & ((1 << PLACE_BITS) - 1),
        weights[order].astype(np.float32),
    )
