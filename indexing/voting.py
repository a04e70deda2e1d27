"""Votes of a photo's descriptors for the images of a gallery.

Each query descriptor's K nearest neighbours are looked at; each image among them gets one vote,
weighted by how much nearer it is than the K-th neighbour, as in local naive-Bayes nearest
neighbour (McCann and Lowe, 2012). The votes are also the correspondences for verification. Where
those are too few, the best images are matched directly, without the gallery's competition.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from indexing.image import Pixels
from indexing.keypoints import Channel

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
# Rows of the photo's and of a reference's keypoints that may be one spot, int64 [n] each, and the
# weights, float32 [n], of how much speaks for it.
Matched = tuple[Ints, Ints, Floats]

# Two descriptors of one image that are almost as near make a match worthless (Lowe, 2004).
MATCH_RATIO = 0.9
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

    def of(self, image: int) -> Matched:
        """The votes for one image."""
        span = slice(*np.searchsorted(self.images, [image, image + 1]))
        return self.query[span], self.place[span], self.weights[span]


def vote(distances: Floats, ids: Ints) -> Votes:
    """Counts the votes of neighbours, both [descriptors, K], nearest first; an id of -1 is none."""
    if not ids.size:
        none = np.zeros(0, np.int64)
        return Votes(none, none, none, np.zeros(0, np.float32))
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


def nearest(descriptors: Pixels, others: Pixels, channel: Channel) -> Ints:
    """The index of the most similar of ``others`` for each descriptor, int64 [n].

    Both are uint8 [n, bytes] and [m, bytes], and m is at least 1.
    """
    if channel is Channel.FINE:
        return np.asarray(_squared_distances(descriptors, others).argmin(axis=1), np.int64)
    _, found = cv2.batchDistance(descriptors, others, -1, normType=cv2.NORM_HAMMING, K=1)
    return np.asarray(found[:, 0], np.int64)


def match(query: Pixels, reference: Pixels) -> Matched:
    """Matches two images' fine descriptors, uint8 [n, bytes] and [m, bytes], directly.

    Kept are mutual nearest neighbours that are clearly nearer than the second nearest. The
    weight is 1 - the ratio of the two distances.
    """
    if len(query) < 2 or len(reference) < 2:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0, np.float32)
    distances = _squared_distances(query, reference)
    rows = np.arange(len(query))
    nearest = distances.argmin(axis=1)
    mutual = distances.argmin(axis=0)[nearest] == rows
    first = distances[rows, nearest]
    distances[rows, nearest] = np.inf
    ratios = np.sqrt(first / np.maximum(distances.min(axis=1), 1e-6))
    kept = np.flatnonzero(mutual & (ratios < MATCH_RATIO))
    return kept, nearest[kept], (1 - ratios[kept]).astype(np.float32)


def _squared_distances(descriptors: Pixels, others: Pixels) -> Floats:
    """Squared Euclidean distances of uint8 [n, bytes] and [m, bytes]: float32 [n, m], exact."""
    some, more = descriptors.astype(np.float32), others.astype(np.float32)
    # The product adds the squares as well, which spares three passes over the distances.
    left = np.c_[-2 * some, (some**2).sum(axis=1), np.ones(len(some), np.float32)]
    right = np.c_[more, np.ones(len(more), np.float32), (more**2).sum(axis=1)]
    return np.asarray(left @ right.T, np.float32)
