import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from indexing.bundle import DEFAULT_BUNDLE, GRAPH, TENSORS, Bundle, load_bundle, save_bundle
from indexing.errors import BundleInvalid
from indexing.framing import Framing
from indexing.network import EmbeddingNetwork, TorchEmbedder, load_network
from indexing.onnx_embedder import OnnxEmbedder
from server.bundle_check import check_bundle
from training.onnx_export import GraphDiffersError, network_graph

RNG = np.random.default_rng(3)
FRAMING = Framing(64, 48, keep_aspect=True)
PICTURES = [RNG.integers(256, size=(*size, 3), dtype=np.uint8) for size in ((90, 60), (60, 90))]


def a_network(architecture: str = "mobilenet_v3_small") -> EmbeddingNetwork:
    state = EmbeddingNetwork(architecture, 16).state_dict()
    return load_network(architecture, 16, {name: each.numpy() for name, each in state.items()})


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    return a_network("resnet18")


@pytest.fixture(scope="module")
def graph(network: EmbeddingNetwork) -> bytes:
    written = network_graph(network, FRAMING)
    assert written is not None
    return written


def test_a_graph_embeds_as_its_network_does(network: EmbeddingNetwork, graph: bytes) -> None:
    by_graph = OnnxEmbedder(graph, "v", FRAMING, 16)
    by_torch = TorchEmbedder(network, "v", FRAMING)
    pictures = [*PICTURES, PICTURES[0][::-1]]
    for one, other in (
        (by_graph.embed(pictures), by_torch.embed(pictures)),
        (by_graph.embed_references(pictures), by_torch.embed_references(pictures)),
    ):
        assert one.vectors.shape == (3, 16)
        assert np.allclose(np.diag(one.similarity(other)), 1, atol=1e-3)
    assert by_graph.embed([]).vectors.shape == (0, 16)


def test_a_network_with_a_spatial_transformer_has_no_graph() -> None:
    network = EmbeddingNetwork("resnet18", 16, straightened_size=36).eval()
    assert network_graph(network, FRAMING) is None


def test_a_graph_that_computes_something_else_is_not_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    square = Framing(48, 48)
    other = TorchEmbedder(a_network(), "", square)
    monkeypatch.setattr("training.onnx_export.TorchEmbedder", lambda *_: other)
    with pytest.raises(GraphDiffersError, match="another embedding"):
        network_graph(a_network(), square)


def without_graph(folder: Path, **other: npt.NDArray[np.uint8]) -> Bundle:
    tensors = load_file(DEFAULT_BUNDLE / TENSORS)
    del tensors[GRAPH]
    save_bundle(folder, load_bundle(DEFAULT_BUNDLE).manifest, tensors | other)
    return load_bundle(folder)


def test_a_bundle_of_before_there_were_graphs_embeds_alike(tmp_path: Path) -> None:
    former, present = without_graph(tmp_path), load_bundle(DEFAULT_BUNDLE)
    former.verify()
    vectors = [each.embedder.embed(PICTURES).vectors for each in (former, present)]
    assert np.allclose((vectors[0] * vectors[1]).sum(axis=1), 1, atol=1e-3)


def test_a_graph_that_is_none_or_of_another_network_is_refused(
    graph: bytes, tmp_path: Path
) -> None:
    for stored, problem in ((b"no graph", "cannot be run"), (graph, "not 256 numbers")):
        bundle = without_graph(tmp_path, **{GRAPH: np.frombuffer(stored, np.uint8)})
        with pytest.raises(BundleInvalid, match=problem):
            bundle.verify()
    with pytest.raises(BundleInvalid, match=problem):
        check_bundle(tmp_path)


def test_a_check_that_crashes_refuses_the_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    check_bundle(DEFAULT_BUNDLE)
    monkeypatch.setattr(sys, "executable", str(crashing))
    with pytest.raises(BundleInvalid, match="ended with status -11"):
        check_bundle(DEFAULT_BUNDLE)


def test_a_server_on_cpus_does_without_pytorch() -> None:
    embeds = (
        "import sys, server.deployments\n"
        "from indexing.bundle import DEFAULT_BUNDLE, load_bundle, test_picture\n"
        "load_bundle(DEFAULT_BUNDLE).embedder.embed([test_picture()])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", embeds]).returncode == 0
