"""Classical global descriptors: one vector for a whole picture, compared with every reference's.

They are what image retrieval began with, and what the talk behind ImageLink started from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from indexing.image import Pixels

Floats = npt.NDArray[np.float32]

GRID = 8
# The coefficients of an 8 x 8 cosine transform that are kept, in the zigzag order of JPEG.
ZIGZAG_ROWS, ZIGZAG_COLUMNS = (0, 0, 1, 2, 1, 0), (0, 1, 0, 0, 1, 2)
LUMA, CHROMA = 6, 3
# How much each coefficient counts, of Y, Cb and Cr, in the order of the descriptor.
LAYOUT_WEIGHTS = np.array([2, 2, 2, 1, 1, 1, 2, 1, 1, 4, 2, 2], np.float32)
LAYOUT_STARTS = (0, LUMA, LUMA + CHROMA)

PARTS = 4
EDGES = ("vertical", "horizontal", "45 degrees", "135 degrees", "no direction")
# What each kind of edge multiplies the four quarters of a block by: upper left and right, lower
# left and right.
EDGE_FILTERS = np.array(
    [
        [1, -1, 1, -1],
        [1, 1, -1, -1],
        [np.sqrt(2), 0, 0, -np.sqrt(2)],
        [0, np.sqrt(2), -np.sqrt(2), 0],
        [2, -2, -2, 2],
    ],
    np.float32,
)
BLOCKS = 1100
EDGE_THRESHOLD = 11.0
GLOBAL_WEIGHT = 5.0


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A global descriptor.

    ``describe`` maps RGB pixels, uint8 [h, w, 3], to a vector, float32 [d]; ``distances`` a vector
    and a gallery's, float32 [n, d], to how far they are apart, float32 [n].
    """

    name: str
    describe: Callable[[Pixels], Floats]
    distances: Callable[[Floats, Floats], Floats]


def mean_colour(pixels: Pixels) -> Floats:
    """The mean of each channel of an RGB picture, uint8 [h, w, 3]: float32 [3] in levels."""
    return np.asarray(cv2.mean(pixels)[:3], np.float32)


def colour_layout(pixels: Pixels) -> Floats:
    """The colour layout of MPEG-7 (Kasutani and Yamada, 2001) of an RGB picture, uint8 [h, w, 3].

    The means of 8 x 8 fields are taken to YCbCr and cosine-transformed; six coefficients of Y and
    three each of Cb and Cr are kept: float32 [12]. They are not quantised to five or six bits as the
    standard stores them, which makes them only smaller.
    """
    fields = cv2.resize(pixels, (GRID, GRID), interpolation=cv2.INTER_AREA)
    luma, red, blue = cv2.split(cv2.cvtColor(fields, cv2.COLOR_RGB2YCrCb).astype(np.float32))
    low = [np.asarray(cv2.dct(each))[ZIGZAG_ROWS, ZIGZAG_COLUMNS] for each in (luma, blue, red)]
    return np.concatenate([low[0], low[1][:CHROMA], low[2][:CHROMA]])


def layout_distances(layout: Floats, gallery: Floats) -> Floats:
    """The weighted Euclidean distances of the three components, summed: float32 [n]."""
    squares = LAYOUT_WEIGHTS * (gallery - layout) ** 2
    return np.asarray(np.sqrt(np.add.reduceat(squares, LAYOUT_STARTS, axis=1)).sum(axis=1))


def edge_histogram(pixels: Pixels) -> Floats:
    """The edge histogram of MPEG-7 (Park, Jeon and Won, 2000) of an RGB picture, uint8 [h, w, 3].

    Some 1100 blocks are each told to have one of five kinds of edges, or none. Returns float32 [80]:
    of each of 4 x 4 parts, row by row, the shares of its blocks with each kind, as in ``EDGES``.
    """
    kinds = _edge_kinds(_quarters(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)))
    rows, columns = (np.arange(size) * PARTS // size for size in kinds.shape)
    part = rows[:, None] * PARTS + columns
    width = len(EDGES) + 1
    counts = np.bincount((part * width + kinds).ravel(), minlength=PARTS**2 * width)
    counts = counts.reshape(PARTS**2, width)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray(shares[:, : len(EDGES)].ravel(), np.float32)


def edge_description(pixels: Pixels) -> Floats:
    """The edge histogram with its global and semi-global bins, as it is compared: float32 [150].

    The semi-global bins are of the columns, rows and five squares of 2 x 2 parts; the global ones,
    of the whole picture, count five times (Won, Park and Park, 2002).
    """
    local = edge_histogram(pixels).reshape(PARTS, PARTS, len(EDGES))
    squares = [local[y : y + 2, x : x + 2] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    groups = [
        *local,
        *local.transpose(1, 0, 2),
        *(each.reshape(-1, len(EDGES)) for each in squares),
    ]
    semi_global = [group.mean(axis=0) for group in groups]
    whole = GLOBAL_WEIGHT * local.mean(axis=(0, 1))
    return np.concatenate([local.ravel(), whole, *semi_global])


def _quarters(grey: cv2.typing.MatLike) -> Floats:
    """The mean levels of the quarters of all blocks: float32 [rows, columns, 4]."""
    height, width = grey.shape
    side = max(1, int(np.sqrt(height * width / BLOCKS) / 2))
    rows, columns = max(1, height // side // 2), max(1, width // side // 2)
    cropped = grey[: 2 * rows * side, : 2 * columns * side].astype(np.float32)
    means = cv2.resize(cropped, (2 * columns, 2 * rows), interpolation=cv2.INTER_AREA)
    blocks = means.reshape(rows, 2, columns, 2).transpose(0, 2, 1, 3)
    return np.asarray(blocks.reshape(rows, columns, 4), np.float32)


def _edge_kinds(quarters: Floats) -> npt.NDArray[np.int64]:
    """The place in ``EDGES`` of each block's strongest edge, or 5 for none: int64 [rows, columns]."""
    strengths = np.abs(quarters @ EDGE_FILTERS.T)
    return np.where(strengths.max(axis=2) < EDGE_THRESHOLD, len(EDGES), strengths.argmax(axis=2))


def euclidean(vector: Floats, gallery: Floats) -> Floats:
    """The Euclidean distances of a vector, float32 [d], from a gallery's, [n, d]: float32 [n]."""
    return np.asarray(np.linalg.norm(gallery - vector, axis=1))


def city_block(vector: Floats, gallery: Floats) -> Floats:
    """The sums of absolute differences of a vector, [d], from a gallery's, [n, d]: float32 [n]."""
    return np.asarray(np.abs(gallery - vector).sum(axis=1))


DESCRIPTORS = (
    Descriptor("mean RGB", mean_colour, euclidean),
    Descriptor("MPEG-7 colour layout", colour_layout, layout_distances),
    Descriptor("MPEG-7 edge histogram", edge_description, city_block),
)
