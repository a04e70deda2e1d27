"""Local features with learnt descriptors, by ONNX Runtime."""

from dataclasses import replace

import numpy as np

from indexing.corners import LONG_SIDE, PHOTO_CORNERS, Corners, corner_features
from indexing.image import Pixels
from indexing.keypoints import Extractor, LocalFeatures, scaled_grey
from indexing.onnx_session import cpu_session
from indexing.patches import PATCH_SIDE, cut_patches


class PatchExtractor:
    """Corners, each with the 48 bytes by which a network describes what is about it.

    ``graph`` maps patches, uint8 [n, 24, 24], to descriptors, uint8 [n, 48], compared by their Euclidean
    distance. Raises ValueError where it is none, or one of another kind.
    """

    name = "learnt descriptors"
    width = 48
    long_side = LONG_SIDE
    query_count = PHOTO_CORNERS
    reference_pyramid: tuple[tuple[int, int], ...] = ((long_side, 250),)

    def __init__(self, graph: bytes) -> None:
        self._graph = graph
        self._session = cpu_session(graph)
        (patches,), (descriptors,) = self._session.get_inputs(), self._session.get_outputs()
        kinds = patches.type, patches.shape[1:], descriptors.type, descriptors.shape[1:]
        if kinds != ("tensor(uint8)", [PATCH_SIDE] * 2, "tensor(uint8)", [self.width]):
            raise ValueError(f"Its graph of local descriptors maps {kinds}.")
        self._patches = patches.name

    def extract(self, pixels: Pixels, count: int) -> LocalFeatures:
        """Finds the ``count`` strongest keypoints of an RGB image, uint8 [height, width, 3]."""
        return corner_features(pixels, self.long_side, count, self._described)

    def describe_keypoints(self, pixels: Pixels, found: LocalFeatures) -> LocalFeatures:
        """The same keypoints of an RGB image, uint8 [height, width, 3], with descriptors of this kind."""
        grey = scaled_grey(pixels, self.long_side)
        side = max(grey.shape)
        corners = Corners(found.pixels(side), found.scales * side, found.angles)
        return replace(found, descriptors=self._described(grey, corners))

    def _described(self, grey: Pixels, corners: Corners) -> Pixels:
        return self.describe(cut_patches(grey, corners))

    def describe(self, patches: Pixels) -> Pixels:
        """The descriptors, uint8 [n, 48], of patches, uint8 [n, 24, 24]."""
        if not len(patches):
            return np.zeros((0, self.width), np.uint8)
        (descriptors,) = self._session.run(None, {self._patches: patches})
        return np.asarray(descriptors)

    def same_as(self, other: Extractor) -> bool:
        """Whether it finds in every picture what the other finds."""
        return isinstance(other, PatchExtractor) and self._graph == other._graph
