"""A network as an ONNX graph, which embeds on CPUs without PyTorch."""

import logging

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from indexing.framing import Framing
from indexing.network import EmbeddingNetwork, TorchEmbedder, as_batch
from indexing.onnx_embedder import OnnxEmbedder

# Weights of so many numbers are kept as float16, as all of a bundle's are.
HALVED = 64
# The least cosine of a picture's embeddings by the graph and by PyTorch.
SAME = 0.9999
# The height and width of a picture to compare them on.
TALL = (120, 90)


class GraphDiffersError(ValueError):
    """The ONNX graph of a network does not compute what the network does."""

    def __init__(self, similarity: float) -> None:
        super().__init__(
            f"The network's ONNX graph computes another embedding: their cosine is {similarity:.5f}."
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


def network_graph(network: EmbeddingNetwork, framing: Framing) -> bytes | None:
    """The ONNX file, for ``OnnxEmbedder``, of a network that was loaded to embed with.

    A network with a spatial transformer has none: it does not treat references as it does photos.
    Raises GraphDiffersError.
    """
    if network.warp is not None:
        return None
    graph = _exported(network, framing)
    _halve(graph)
    written = graph.SerializeToString()
    _check(written, network, framing)
    return written


def _exported(network: EmbeddingNetwork, framing: Framing) -> onnx.ModelProto:
    side = framing.input_size
    pictures = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    dynamic = {0: torch.export.Dim.DYNAMIC}
    if framing.keep_aspect or framing.reference_size != side:
        # A vision transformer, which needs one size, has no others.
        dynamic |= {1: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}
    # It tells of every other package that it would have had a use for.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        _Framed(network).eval(), (pictures,), dynamic_shapes=(dynamic,), dynamo=True, verbose=False
    )
    assert program is not None
    return program.model_proto


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
            raise GraphDiffersError(similarity)
