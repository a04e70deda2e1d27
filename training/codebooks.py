"""Fitting of what local features need once: a projection of RootSIFT where none are learnt, codebooks."""

from collections.abc import Callable, Sequence
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from indexing.bundle import local_tensors
from indexing.corner_orb import CornerOrbExtractor
from indexing.descriptor_index import Codebook
from indexing.image import Pixels
from indexing.keypoints import (
    Channel,
    Extractor,
    Floats,
    OrbExtractor,
    Projection,
    SiftExtractor,
    root_sift,
    scaled_grey,
)
from indexing.patch_extractor import PatchExtractor

KEYPOINTS_PER_PICTURE = 250
LISTS = (8, 64, 2048, 16_384)
ITERATIONS = 5
# Projected values beyond this percentile may saturate at the ends of a byte.
SATURATION_PERCENTILE = 99.95


def fit_projection(descriptors: Floats) -> Projection:
    """Fits the principal components of RootSIFT descriptors, float32 [n, 128]."""
    mean = descriptors.mean(axis=0)
    centred = descriptors - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)
    basis = np.ascontiguousarray(vectors[:, ::-1][:, : SiftExtractor.width], np.float32)
    reach = float(np.percentile(np.abs(centred @ basis), SATURATION_PERCENTILE))
    return Projection(mean.astype(np.float32), basis, 127 / reach)


def fit_local_features(
    pictures: Sequence[Pixels], descriptors: bytes | None
) -> dict[str, npt.NDArray[Any]]:
    """Fits both channels' codebooks on RGB pictures: the tensors that local features come from.

    ``descriptors`` is the graph of learnt ones. Without, a projection of RootSIFT is fitted as well.
    Raises ValueError for what is no such graph.
    """
    source: bytes | Projection
    coarse: Extractor
    if descriptors is None:
        greys = (scaled_grey(picture, SiftExtractor.long_side) for picture in pictures)
        sift = np.concatenate([root_sift(grey, KEYPOINTS_PER_PICTURE)[1] for grey in greys])
        source = fit_projection(sift)
        coarse, fine = OrbExtractor(), source.apply(sift)
    else:
        source, coarse = descriptors, CornerOrbExtractor()
        fine = _described(PatchExtractor(descriptors), pictures)
    binary = _described(coarse, pictures)
    codebooks = {
        Channel.ORB: Codebook(Channel.ORB, _sets(binary, _binary_centroids)),
        Channel.FINE: Codebook(Channel.FINE, _sets(fine, _centroids)),
    }
    return local_tensors(source, codebooks)


def _described(extractor: Extractor, pictures: Sequence[Pixels]) -> Pixels:
    found = [extractor.extract(picture, KEYPOINTS_PER_PICTURE) for picture in pictures]
    return np.concatenate([local.descriptors for local in found])


def _sets(descriptors: Pixels, cluster: Callable[[Pixels, int], Pixels]) -> tuple[Pixels, ...]:
    return tuple(cluster(descriptors, lists) for lists in LISTS)


def _centroids(descriptors: Pixels, lists: int) -> Pixels:
    clustering = faiss.Kmeans(descriptors.shape[1], lists, niter=ITERATIONS, seed=1)
    clustering.train(descriptors.astype(np.float32))
    levels: Floats = np.rint(np.asarray(clustering.centroids, np.float32))
    return levels.clip(0, 255).astype(np.uint8)


def _binary_centroids(descriptors: Pixels, lists: int) -> Pixels:
    quantizer: Any = faiss.IndexBinaryFlat(descriptors.shape[1] * 8)
    index = faiss.IndexBinaryIVF(quantizer, quantizer.d, lists)
    index.cp.niter = ITERATIONS
    index.train(descriptors)
    return faiss.vector_to_array(quantizer.xb).reshape(lists, -1).copy()
