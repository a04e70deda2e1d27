"""The files of a run's folder."""

import hashlib
from pathlib import Path

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
