"""Model bundles to roll out: another network, and one whose decisions are worse."""

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from indexing.bundle import (
    DEFAULT_BUNDLE,
    Bundle,
    bundle_tensors,
    load_bundle,
    save_bundle,
)
from indexing.bundle import (
    test_embedding as embedding_of_test,
)
from indexing.framing import Framing
from indexing.network import EmbeddingNetwork, load_network
from training.onnx_export import network_graph

ARCHITECTURE, DIMENSION = "resnet18", 64
# Log-odds that nothing reaches.
NEVER = -1000.0


def write_bundle(folder: Path, *, name: str = "another", decides: bool = True) -> str:
    """Writes a bundle of another architecture and dimension, and returns its version.

    Its network is untrained; all else is the default's, except that one that does not decide finds
    nothing.
    """
    default = load_bundle(DEFAULT_BUNDLE)
    manifest = default.manifest.model_copy(
        update={
            "name": name,
            "architecture": ARCHITECTURE,
            "dimension": DIMENSION,
            "parent": default.version,
            "calibration": _calibration(default, decides),
            "test_embedding": (),
        }
    )
    tensors = bundle_tensors(*_network(manifest.framing), default.local_tensors)
    save_bundle(folder, manifest, tensors)
    tested = {"test_embedding": embedding_of_test(load_bundle(folder))}
    return save_bundle(folder, manifest.model_copy(update=tested), tensors)


@cache
def _network(framing: Framing) -> tuple[dict[str, Any], bytes | None]:
    """The weights of an untrained network, and its graph."""
    torch.manual_seed(1)
    state = EmbeddingNetwork(ARCHITECTURE, DIMENSION).state_dict()
    weights = {name: values.numpy() for name, values in state.items()}
    network = load_network(ARCHITECTURE, DIMENSION, weights)
    return weights, network_graph(network, framing)


def _calibration(bundle: Bundle, decides: bool) -> dict[Any, Any]:
    return {
        channel: asdict(values if decides else replace(values, intercept=NEVER))
        for channel, values in bundle.calibration.items()
    }
