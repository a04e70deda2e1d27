"""The configuration of a training run: everything that it depends on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from indexing.framing import Framing
from training.losses import LossName, Sampling
from training.rendering import Views


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything a run depends on.

    **Data.** ``pictures`` are folders of clean pictures, ``datasets`` folders of references with real
    photos. ``held_out`` is the share of the references kept for validation; with ``folds``, fold
    number ``fold`` of so many is kept instead. ``views`` says what views are rendered with.
    ``stored_pairs`` of each picture are rendered before the training and learnt from again and again;
    without, each is rendered anew. ``negatives`` is a file of hard negatives, of which each batch has
    some beside those they are like.

    **Network.** ``architecture`` is the backbone's name, ``weights`` its pretrained ones (as
    EmbeddingNetwork takes them), whose batch statistics it keeps and with whose principal components
    the head begins; what is saved has ``pretrained_share`` of the weights that it began with. With
    ``start`` all begins as the network of that run. It sees photos as large as squares of
    ``input_size`` pixels a side and references as those of ``reference_size``: squashed to them, or with
    ``keep_aspect`` of their own shape. A ``spatial_transformer`` finds the picture in a photo first,
    and the backbone sees it straightened, as large as a reference. Only
    the last ``trainable_blocks`` of its blocks are trained, all by default; with ``unfreeze_every`` one
    more is after each such share of the training.

    **Learning.** A batch has ``pairs`` references with a photo each. ``margin`` is that of the loss and
    of semi-hard ``sampling``, ``temperature`` that of losses with a softmax, ``spread_weight`` that
    of the regulariser which spreads scores. Training ends after ``steps``, or after ``minutes`` where ``steps`` is None. The
    learning rate rises during the share ``warm_up`` of the training and views get harder during the
    share ``curriculum``. Every ``checkpoint_steps``, or else ``checkpoint_minutes``, the run is judged
    and saved. ``bf16`` computes in bfloat16 where it can.
    """

    pictures: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    held_out: float = 0.06
    folds: int | None = None
    fold: int = 0
    views: Views = Views.FULL
    stored_pairs: int | None = None
    negatives: str | None = None
    architecture: str = "efficientnet_lite0"
    weights: str | None = "IMAGENET1K_V1"
    pretrained_share: float = 0.3
    start: str | None = None
    dimension: int = 256
    spatial_transformer: bool = False
    trainable_blocks: int | None = None
    unfreeze_every: float | None = None
    loss: LossName = LossName.INFO_NCE
    sampling: Sampling = Sampling.ALL
    margin: float = 0.2
    temperature: float = 0.06
    spread_weight: float = 0.0
    input_size: int = 192
    reference_size: int = 128
    keep_aspect: bool = False
    pairs: int = 96
    minutes: float = 40.0
    steps: int | None = None
    learning_rate: float = 2e-4
    weight_decay: float = 0.02
    warm_up: float = 0.05
    curriculum: float = 0.33
    bf16: bool = False
    checkpoint_minutes: float = 4.0
    checkpoint_steps: int | None = None
    seed: int = 0
    threads: int = 2
    workers: int = 2

    def __post_init__(self) -> None:
        """Raises ValueError where options do not go together."""
        if self.loss is LossName.INFO_NCE and self.sampling is not Sampling.ALL:
            raise ValueError("InfoNCE learns from all of a batch: choose no sampling for it.")
        if self.keep_aspect and (self.spatial_transformer or self.architecture.startswith("vit_")):
            raise ValueError(
                "A spatial or vision transformer takes squares: keep no aspect for it."
            )

    @property
    def framing(self) -> Framing:
        """How photos and references are scaled."""
        return Framing(self.input_size, self.reference_size, self.keep_aspect)

    @property
    def straightened_size(self) -> int | None:
        """The side of what a spatial transformer cuts out, in pixels; None without one."""
        return self.reference_size if self.spatial_transformer else None

    def recipe(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed: all but its length and its machine."""
        how_long = {
            "minutes",
            "steps",
            "checkpoint_minutes",
            "checkpoint_steps",
            "threads",
            "workers",
        }
        return {name: value for name, value in self.values().items() if name not in how_long}

    def values(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def read_config(file: Path) -> TrainingConfig:
    """The configuration that a run wrote. Raises OSError and pydantic's ValidationError."""
    return TypeAdapter(TrainingConfig).validate_json(file.read_bytes())
