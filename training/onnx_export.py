"""Networks as ONNX graphs, which embed and describe on CPUs without PyTorch."""

import logging
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from indexing.framing import Framing
from indexing.network import EmbeddingNetwork, TorchEmbedder, as_batch
from indexing.onnx_embedder import OnnxEmbedder
from indexing.patch_extractor import PatchExtractor
from training.datasets import Picture
from training.descriptors import DescriptorNetwork, described

# Weights of so many numbers are kept as float16, as all of a bundle's are.
HALVED = 64
# The least cosine of a picture's embeddings by the graph and by PyTorch.
SAME = 0.9999
# The height and width of a picture to compare them on.
TALL = (120, 90)
# Of the numbers of descriptors, those beyond this percentile may saturate at the ends of a byte.
SATURATION_PERCENTILE = 99.95
# A byte has so many levels: with more, descriptors recognise no better and hardly deflate.
LEVELS = 16
# The least mean cosine of descriptors to their bytes, and of how many patches.
SAME_DESCRIPTORS = 0.99
CHECKED_PATCHES = 256


class GraphDiffersError(ValueError):
    """The ONNX graph of a network does not compute what the network does."""

    def __init__(self, what: str, similarity: float) -> None:
        super().__init__(
            f"The network's ONNX graph computes another {what}: their cosine is {similarity:.5f}."
        )


class _Framed(nn.Module):
    """A network that takes framed pictures, uint8 [n, h, w, 3]."""

    def __init__(self, network: EmbeddingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Embed them: float32 [n, dimension]."""
        vectors: Tensor = self.network(as_batch(pictures))
        return vectors


class _Quantised(nn.Module):
    """Has a network describe patches by bytes, which keep the distances of its unit vectors."""

    def __init__(self, network: DescriptorNetwork, scale: float) -> None:
        super().__init__()
        self.network = network
        self.scale = scale

    def forward(self, patches: Tensor) -> Tensor:
        """Describe patches, uint8 [n, 24, 24]: uint8 [n, 48]."""
        step = 256 / LEVELS
        levels: Tensor = (self.network(patches) * self.scale + 128) / step
        return ((levels.floor().clamp(0, LEVELS - 1) + 0.5) * step).to(torch.uint8)


def network_graph(network: EmbeddingNetwork, framing: Framing) -> bytes | None:
    """The ONNX file, for ``OnnxEmbedder``, of a network that was loaded to embed with.

    A network with a spatial transformer has none: it does not treat references as it does photos.
    Raises GraphDiffersError.
    """
    if network.warp is not None:
        return None
    side = framing.input_size
    pictures = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    dynamic = {0: torch.export.Dim.DYNAMIC}
    if framing.keep_aspect or framing.reference_size != side:
        # A vision transformer, which needs one size, has no others.
        dynamic |= {1: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}
    graph = _exported(_Framed(network), pictures, dynamic)
    _check(graph, network, framing)
    return graph


def descriptor_graph(network: DescriptorNetwork, patches: Picture) -> bytes:
    """The ONNX file of a network of local descriptors, for ``PatchExtractor``.

    ``patches``, uint8 [n, 24, 24], are to show how far the numbers of its descriptors reach. Raises
    GraphDiffersError.
    """
    descriptors = described(network, patches).numpy()
    reach = float(np.percentile(np.abs(descriptors), SATURATION_PERCENTILE))
    quantised = _Quantised(network, 127 / reach)
    graph = _exported(quantised, torch.from_numpy(patches[:2]), {0: torch.export.Dim.DYNAMIC})
    some, known = patches[:CHECKED_PATCHES], descriptors[:CHECKED_PATCHES]
    computed = PatchExtractor(graph).describe(some).astype(np.float32) - 128
    cosines = (computed * known).sum(axis=1) / np.linalg.norm(computed, axis=1)
    if cosines.mean() < SAME_DESCRIPTORS:
        raise GraphDiffersError("descriptor", float(cosines.mean()))
    return graph


def _exported(module: nn.Module, example: Tensor, dynamic: dict[int, Any]) -> bytes:
    # It tells of every other package that it would have had a use for.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        module.eval(), (example,), dynamic_shapes=(dynamic,), dynamo=True, verbose=False
    )
    assert program is not None
    graph = program.model_proto
    _halve(graph)
    return graph.SerializeToString()


def _halve(graph: onnx.ModelProto) -> None:
    """Has weights stored as float16, and cast when the graph is loaded."""
    casts = []
    for weights in graph.graph.initializer:
        values = numpy_helper.to_array(weights)
        if weights.data_type != TensorProto.FLOAT or values.size < HALVED:
            continue
        name = weights.name
        weights.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    for node in nodes:
        node.ClearField("metadata_props")  # Where in the code it comes from.
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def _check(graph: bytes, network: EmbeddingNetwork, framing: Framing) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(256, size=(*size, 3), dtype=np.uint8) for size in (TALL, TALL[::-1])]
    by_graph = OnnxEmbedder(graph, "", framing, network.dimension)
    by_torch = TorchEmbedder(network, "", framing)
    for one, other in (
        (by_graph.embed(pictures), by_torch.embed(pictures)),
        (by_graph.embed_references(pictures), by_torch.embed_references(pictures)),
    ):
        similarity = float(np.diag(one.similarity(other)).min())
        if similarity < SAME:
            raise GraphDiffersError("embedding", similarity)
