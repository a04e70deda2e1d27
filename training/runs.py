"""The files of a run's folder."""

import hashlib
from collections.abc import Mapping
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
