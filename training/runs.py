"""The files of a run's folder."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from indexing.network import EmbeddingNetwork, load_network
from training.config import TrainingConfig

CONFIG = "config.json"
CHECKPOINT = "checkpoint.pt"
NETWORK = "network.safetensors"
METRICS = "metrics.json"
CURVES = "curves.png"
BOARD = "tensorboard"
EVALUATION = "evaluation.json"
VIEWS = "views"
DESCRIPTORS = "descriptors.onnx"


class RunMismatchError(ValueError):
    """The run folder holds a run of another configuration: choose another folder."""


def network_sha256(run: Path) -> str:
    """The hash of a run's weights, in hexadecimal. Raises OSError where there are none."""
    return hashlib.sha256((run / NETWORK).read_bytes()).hexdigest()


def trained_network(
    config: TrainingConfig, weights: Mapping[str, npt.NDArray[Any]]
) -> EmbeddingNetwork:
    """The network of a run with these weights, to embed with."""
    return load_network(
        config.architecture,
        config.dimension,
        weights,
        straightened_size=config.straightened_size,
    )


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside, then puts it in place at once."""
    beside = path.with_suffix(".part")
    write(beside)
    os.replace(beside, path)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON file at once."""
    replace_file(path, lambda beside: beside.write_text(json.dumps(values, indent=2) + "\n"))
