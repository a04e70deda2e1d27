"""Model bundles to roll out: another network, and one whose decisions are worse."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

from indexing.bundle import (
    DEFAULT_BUNDLE,
    TENSORS,
    Bundle,
    load_bundle,
    save_bundle,
)
from indexing.bundle import (
    test_embedding as embedding_of_test,
)
from indexing.network import EmbeddingNetwork

ARCHITECTURE, DIMENSION = "resnet18", 64
# Log-odds that nothing reaches.
NEVER = -1000.0


def write_bundle(folder: Path, *, name: str = "another", decides: bool = True) -> str:
    """Writes a bundle of another architecture and dimension, and returns its version.

    Its network is untrained; all else is the default's, except that one that does not decide finds
    nothing.
    """
    default = load_bundle(DEFAULT_BUNDLE)
    kept = load_file(DEFAULT_BUNDLE / TENSORS)
    torch.manual_seed(1)
    network = EmbeddingNetwork(ARCHITECTURE, DIMENSION).state_dict()
    tensors: dict[str, Any] = {
        key: values for key, values in kept.items() if not key.startswith("network.")
    }
    tensors |= {f"network.{key}": values.numpy() for key, values in network.items()}
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
    save_bundle(folder, manifest, tensors)
    tested = {"test_embedding": embedding_of_test(load_bundle(folder))}
    return save_bundle(folder, manifest.model_copy(update=tested), tensors)


def _calibration(bundle: Bundle, decides: bool) -> dict[Any, Any]:
    return {
        channel: asdict(values if decides else replace(values, intercept=NEVER))
        for channel, values in bundle.calibration.items()
    }
