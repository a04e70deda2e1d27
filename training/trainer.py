"""Metric learning of the global embedding on rendered views: a config in, a run folder out."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pytorch_metric_learning.losses import SupConLoss
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from indexing.embedding import Embeddings
from indexing.network import Embedder, EmbeddingNetwork, as_batch
from training.datasets import (
    Draw,
    PairBatches,
    RenderedPairs,
    check_pictures,
    find_pictures,
    fingerprint,
)

CHECKPOINT, NETWORK = "checkpoint.pt", "network.safetensors"
CONFIG, METRICS = "config.json", "metrics.json"
RANKS = (1, 5, 50)
RECORD_EVERY = 10
EMBED_AT_ONCE = 64

Report = Callable[[str], None]


class RunMismatchError(ValueError):
    """The run folder holds a run of another configuration: choose another folder."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything a run depends on.

    ``pictures`` are folders; ``held_out`` is the share of their pictures kept for validation. A
    batch has ``pairs`` pictures of ``input_size`` pixels a side. Training ends after ``steps``, or
    after ``minutes`` where ``steps`` is None. The learning rate rises during the share ``warm_up``
    of the training and the views get harder during the share ``curriculum``. ``clean_share`` of
    the pairs have a clean picture on one side.
    """

    pictures: tuple[str, ...]
    architecture: str = "mobilenet_v3_small"
    dimension: int = 128
    input_size: int = 160
    pairs: int = 96
    minutes: float = 40.0
    steps: int | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    temperature: float = 0.07
    warm_up: float = 0.05
    curriculum: float = 0.33
    clean_share: float = 0.8
    held_out: float = 0.06
    checkpoint_minutes: float = 4.0
    seed: int = 0
    threads: int = 2
    workers: int = 2

    def recipe(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed: all but its length and its machine."""
        how_long = {"minutes", "steps", "checkpoint_minutes", "threads", "workers"}
        values = {name: value for name, value in asdict(self).items() if name not in how_long}
        return values | {"pictures": list(self.pictures)}


@dataclass(slots=True)
class History:
    """How far a run is: steps done, seconds spent, and what was measured on the way.

    Each record of ``loss`` is a mean over the steps since the last one; each of ``validation`` has
    the recall of held-out pictures by their views.
    """

    step: int = 0
    seconds: float = 0.0
    loss: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Split:
    """The pictures of a run, apart by reference."""

    training: tuple[Path, ...]
    held_out: tuple[Path, ...]


def split_pictures(paths: Sequence[Path], held_out: float, seed: int) -> Split:
    """Set a share of the pictures aside, at least one, the same ones for the same seed."""
    order = np.random.default_rng(seed).permutation(len(paths))
    count = max(1, round(held_out * len(paths)))
    chosen = [paths[i] for i in order]
    return Split(tuple(sorted(chosen[count:])), tuple(sorted(chosen[:count])))


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """One cycle over a training's progress from 0 to 1: linear warm-up, then half a cosine."""
    if progress < config.warm_up:
        return config.learning_rate * (0.05 + 0.95 * progress / config.warm_up)
    falling = (min(progress, 1.0) - config.warm_up) / (1 - config.warm_up)
    return config.learning_rate * max(0.001, 0.5 + 0.5 * float(np.cos(np.pi * falling)))


def hardness(config: TrainingConfig, progress: float) -> float:
    """How hard views are at a progress from 0 to 1: from 0.2 to 1 over the curriculum."""
    return min(1.0, 0.2 + 0.8 * progress / config.curriculum)


def recall(queries: Embeddings, gallery: Embeddings) -> dict[str, float]:
    """The share of queries whose own row of the gallery is among the most similar 1, 5 and 50."""
    similarity = queries.similarity(gallery)
    ranks = (similarity > similarity.diagonal()[:, None]).sum(axis=1)
    return {f"recall@{rank}": float((ranks < rank).mean()) for rank in RANKS}


class Trainer:
    """One run. It goes on from ``run/checkpoint.pt`` where there is one."""

    def __init__(self, config: TrainingConfig, run: Path, report: Report) -> None:
        self.config = config
        self.run = run
        self._report = report
        paths = find_pictures(Path(folder) for folder in config.pictures)
        check_pictures(paths)
        self.split = split_pictures(paths, config.held_out, config.seed)
        self._fingerprint = fingerprint(self.split.training)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = EmbeddingNetwork(config.architecture, config.dimension)
        self.network = network.to(memory_format=torch.channels_last).to(self._device)
        self._optimizer = _optimizer(self.network, config.weight_decay)
        self._loss = SupConLoss(temperature=config.temperature)
        self.history = History()
        self._recent: list[float] = []
        self._restore()
        self._started = time.monotonic() - self.history.seconds

    def train(self) -> History:
        """Train to the end, with a checkpoint every few minutes and one at the end."""
        self.run.mkdir(parents=True, exist_ok=True)
        _write_json(self.run / CONFIG, asdict(self.config))
        batches = self._batches()
        validate = partial(self._validate, self._held_out_pairs())
        due = self.history.seconds + 60 * self.config.checkpoint_minutes
        while self._progress(self.history.step) < 1:
            self._record(self._learn(next(batches)))
            if self.history.seconds >= due:
                validate()
                due = self.history.seconds + 60 * self.config.checkpoint_minutes
        validate()
        return self.history

    def _progress(self, step: int) -> float:
        if self.config.steps is not None:
            return step / self.config.steps
        return (time.monotonic() - self._started) / (60 * self.config.minutes)

    def _batches(self) -> Iterator[Tensor]:
        config = self.config
        pairs = RenderedPairs(self.split.training, config.input_size, config.clean_share)
        sampler = PairBatches(
            len(self.split.training),
            config.pairs,
            config.seed,
            self.history.step,
            lambda step: hardness(config, self._progress(step)),
        )
        return iter(
            DataLoader(
                pairs,
                batch_sampler=sampler,
                num_workers=config.workers,
                worker_init_fn=_single_threaded,
            )
        )

    def _learn(self, pairs: Tensor) -> float:
        """One step on uint8 [n, 2, s, s, 3]; returns the loss."""
        rate = learning_rate(self.config, self._progress(self.history.step))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        vectors = self.network(as_batch(pairs.flatten(0, 1).to(self._device)))
        labels = torch.arange(len(pairs), device=self._device).repeat_interleave(2)
        loss: Tensor = self._loss(vectors, labels)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self._optimizer.step()
        return float(loss.detach())

    def _record(self, loss: float) -> None:
        """Count a step and, every few steps, note the mean loss."""
        history = self.history
        history.step += 1
        history.seconds = time.monotonic() - self._started
        self._recent.append(loss)
        if history.step % RECORD_EVERY == 0:
            mean = float(np.mean(self._recent))
            history.loss.append(
                {"step": history.step, "seconds": round(history.seconds, 1), "loss": mean}
            )
            self._recent.clear()
            self._report(f"step {history.step}  {history.seconds:.0f} s  loss {mean:.3f}")

    def _held_out_pairs(self) -> Tensor:
        """One clean picture and one view of each held-out picture: uint8 [n, 2, s, s, 3]."""
        pairs = RenderedPairs(self.split.held_out, self.config.input_size, clean_share=1.0)
        draws = [Draw(i, (self.config.seed, i), 1.0) for i in range(len(self.split.held_out))]
        return torch.from_numpy(np.stack([pairs[draw] for draw in draws]))

    def _validate(self, pairs: Tensor) -> None:
        """Measure recall on held-out pairs, then write the checkpoint, network and metrics."""
        embedder = Embedder(self.network, "in training", self.config.input_size)
        gallery, queries = (_embed(embedder, pairs[:, side]) for side in (0, 1))
        measured = {"step": float(self.history.step)} | recall(queries, gallery)
        self.history.validation.append(measured)
        self._report("  ".join(f"{name} {value:g}" for name, value in measured.items()))
        self._save()

    def _save(self) -> None:
        state = {
            "recipe": self.config.recipe(),
            "history": asdict(self.history),
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        _replace(self.run / CHECKPOINT, partial(torch.save, state))
        tensors = {name: values.contiguous() for name, values in state["network"].items()}
        _replace(self.run / NETWORK, lambda beside: beside.write_bytes(save(tensors)))
        _write_json(self.run / METRICS, self._metrics())

    def _metrics(self) -> dict[str, Any]:
        data = {
            "training_pictures": len(self.split.training),
            "held_out_pictures": len(self.split.held_out),
            "data_fingerprint": self._fingerprint,
        }
        return data | asdict(self.history)

    def _restore(self) -> None:
        path = self.run / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, map_location=self._device, weights_only=True)
        if state["recipe"] != self.config.recipe():
            raise RunMismatchError(f"{self.run} holds a run of another configuration.")
        self.history = History(**state["history"])
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])


def _optimizer(network: EmbeddingNetwork, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, not biases, scales or the pooling's power."""
    parameters = list(network.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
    )


def _embed(embedder: Embedder, pictures: Tensor) -> Embeddings:
    parts = [
        embedder.embed(list(part.numpy())).vectors for part in torch.split(pictures, EMBED_AT_ONCE)
    ]
    return Embeddings(embedder.version, np.concatenate(parts))


def _single_threaded(_: int) -> None:
    cv2.setNumThreads(1)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside, then put it in place at once."""
    beside = path.with_suffix(".part")
    write(beside)
    os.replace(beside, path)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    _replace(path, lambda beside: beside.write_text(json.dumps(values, indent=2) + "\n"))
