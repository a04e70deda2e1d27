"""Metric learning of local descriptors: clean pictures in, a run folder with an ONNX graph out."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from training.curves import plot_curves
from training.datasets import DatasetError, check_pictures, find_pictures, fingerprint
from training.descriptors import (
    DescriptorNetwork,
    described,
    hardest_in_batch,
    same_spots,
)
from training.onnx_export import descriptor_graph
from training.patch_pairs import PatchPairs, batches, store_pairs
from training.runs import (
    CHECKPOINT,
    CONFIG,
    CURVES,
    DESCRIPTORS,
    METRICS,
    VIEWS,
    RunMismatchError,
    replace_file,
    write_json,
)

RECORD_EVERY = 50
VALIDATION_PAIRS = 2000
# Patches that show how far descriptors reach.
REACH_PATCHES = 20_000


@dataclass(frozen=True, slots=True)
class DescriptorConfig:
    """Everything a run depends on.

    ``views_each`` views are rendered of each picture of the folders ``pictures``. A batch has at most
    ``pairs_each`` pairs of each of ``views``. The learning rate falls from ``learning_rate`` to none
    over ``steps``. The share ``held_out`` of the pictures is for validation.
    """

    pictures: tuple[str, ...]
    views_each: int = 2
    views: int = 128
    pairs_each: int = 8
    steps: int = 5_000
    learning_rate: float = 3e-3
    warm_up: int = 200
    weight_decay: float = 1e-4
    held_out: float = 0.05
    checkpoint_steps: int = 500
    seed: int = 0

    def values(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self) | {"pictures": list(self.pictures)}


def train_descriptors(config: DescriptorConfig, run: Path, report: Callable[[str], None]) -> None:
    """Trains to the end, or goes on from ``run/checkpoint.pt``, and writes ``run/descriptors.onnx``.

    Raises DatasetError for data that cannot be used, RunMismatchError where the folder has another
    run, ValueError where pictures have too little detail.
    """
    _DescriptorTrainer(config, run, report).train()


class _DescriptorTrainer:
    def __init__(self, config: DescriptorConfig, run: Path, report: Callable[[str], None]) -> None:
        self._config = config
        self._run = run
        self._report = report
        paths = find_pictures([Path(folder) for folder in config.pictures])
        held_out = round(config.held_out * len(paths))
        if not 1 <= held_out <= len(paths) - 2:
            raise DatasetError([f"{len(paths)} pictures are too few to hold some of them out."])
        check_pictures(paths)
        self._claim()
        self._fingerprint = fingerprint(paths)
        pairs = store_pairs(paths, config.views_each, config.seed, run / VIEWS)
        order = np.random.default_rng(config.seed).permutation(len(paths))
        apart = np.isin(pairs.pictures, order[:held_out])
        self._pairs, self._held_out = (pairs.take(np.flatnonzero(kept)) for kept in (~apart, apart))
        torch.manual_seed(config.seed)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = DescriptorNetwork().to(self._device)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), weight_decay=config.weight_decay
        )
        self._step = 0
        self._recent: list[float] = []
        self._loss: list[dict[str, float]] = []
        self._validation: list[dict[str, float]] = []
        self._restore()

    def _claim(self) -> None:
        """Makes the folder one of this run."""
        file = self._run / CONFIG
        if file.exists() and json.loads(file.read_bytes()) != self._config.values():
            raise RunMismatchError(f"{self._run} holds a run of another configuration.")
        self._run.mkdir(parents=True, exist_ok=True)
        write_json(file, self._config.values())

    def train(self) -> None:
        config = self._config
        drawn = batches(self._pairs, config.views, config.pairs_each, config.seed, self._step)
        while self._step < config.steps:
            self._recent.append(self._learn(next(drawn)))
            self._step += 1
            due = self._step % config.checkpoint_steps == 0 or self._step == config.steps
            if due or self._step % RECORD_EVERY == 0:
                self._record()
            if due:
                self._validate()
        some = _some(self._pairs, REACH_PATCHES)
        graph = descriptor_graph(self._network.cpu(), self._pairs.references[some])
        replace_file(self._run / DESCRIPTORS, lambda beside: beside.write_bytes(graph))

    def _learn(self, rows: npt.NDArray[np.intp]) -> float:
        """One step on pairs; returns the loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        batch = self._pairs.take(rows)
        self._network.train()
        patches = torch.from_numpy(np.concatenate([batch.references, batch.photos]))
        references, photos = self._network(patches.to(self._device)).chunk(2)
        same = same_spots(batch.pictures, batch.spots).to(self._device)
        loss = hardest_in_batch(references, photos, same)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(loss.detach())

    def _learning_rate(self) -> float:
        config = self._config
        warm = min(1.0, (self._step + 1) / config.warm_up)
        return config.learning_rate * warm * (1 - self._step / config.steps)

    def _record(self) -> None:
        """Notes the mean loss of the steps since the last note."""
        self._loss.append({"step": self._step, "loss": float(np.mean(self._recent))})
        self._recent.clear()

    def _validate(self) -> None:
        """Measures how often a held-out patch of a view is nearest to its own among thousands."""
        chosen = self._held_out.take(_some(self._held_out, VALIDATION_PAIRS))
        similarity = (
            described(self._network, chosen.photos) @ described(self._network, chosen.references).T
        )
        own = similarity.diagonal()
        others = similarity.masked_fill(same_spots(chosen.pictures, chosen.spots), -1)
        found = float((own > others.amax(dim=1)).float().mean())
        self._validation.append({"step": self._step, "nearest": found})
        self._report(f"step {self._step}  loss {self._loss[-1]['loss']:.3f}  nearest {found:.3f}")
        self._save()

    def _save(self) -> None:
        state = {
            "step": self._step,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "loss": self._loss,
            "validation": self._validation,
        }
        replace_file(self._run / CHECKPOINT, partial(torch.save, state))
        write_json(
            self._run / METRICS,
            {
                "pairs": len(self._pairs),
                "held_out_pairs": len(self._held_out),
                "data_fingerprint": self._fingerprint,
                "loss": self._loss,
                "validation": self._validation,
            },
        )
        plot_curves(self._loss, self._validation, self._run / CURVES)

    def _restore(self) -> None:
        path = self._run / CHECKPOINT
        if path.exists():
            state = torch.load(path, map_location=self._device, weights_only=True)
            self._step = state["step"]
            self._loss, self._validation = state["loss"], state["validation"]
            self._network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])


def _some(pairs: PatchPairs, count: int) -> npt.NDArray[np.intp]:
    """Rows of pairs, spread over all."""
    return np.unique(np.linspace(0, len(pairs) - 1, count).astype(np.intp))
