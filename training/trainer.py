"""Metric learning of the global embedding: a configuration in, a run folder out."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from torch.utils.tensorboard import SummaryWriter

from indexing.allocator import keep_freed_memory
from indexing.embedding import Embedder, Embeddings
from indexing.network import (
    EmbeddingNetwork,
    SpatialTransformer,
    TorchEmbedder,
    in_batches,
)
from training.config import TrainingConfig
from training.curves import plot_curves
from training.datasets import Picture, fingerprint, read_picture
from training.initialisation import begin_with_components
from training.losses import loss_named, miner_named, spread
from training.mining import read_negatives
from training.rendering import (
    LONG_SIDE,
    Draw,
    PairBatch,
    PairBatches,
    RenderedPairs,
    Renderer,
    Subject,
    loader,
    numbered,
    turned_to,
)
from training.runs import (
    BOARD,
    CHECKPOINT,
    CONFIG,
    CURVES,
    METRICS,
    NETWORK,
    VIEWS,
    RunMismatchError,
    replace_file,
    write_json,
)
from training.splits import read_subjects, split
from training.stored_pairs import StoredPairs, store

RANKS = (1, 5, 50)
RECORD_EVERY = 10
EMBED_AT_ONCE = 64
# The principal components of so many references are those of more.
ENOUGH_REFERENCES = 4000
LOCATION_WEIGHT = 5.0
# Quads that are off by less, in shares of the photo's side, are corrected ever more gently.
LOCATION_PRECISION = 0.03
# The backbone is told at first where a picture is, less and less until a third of the training, then
# for this share: it never sees only what the spatial transformer finds. It is told so inexactly.
LEAST_TOLD = 0.15
TOLD_ERROR = 0.02

Report = Callable[[str], None]
# What was measured on what is held out, by names.
Measured = dict[str, float]
Validated = Callable[[int, Measured], None]
Embed = Callable[[Sequence[Picture]], Embeddings]


@dataclass(slots=True)
class History:
    """How far a run is: steps done, seconds spent, and what was measured on the way.

    Each record of ``loss`` is a mean over the steps since the last one, whose losses are in
    ``recent``; each of ``validation`` has the recall of the held-out references by their views, and
    by their photos where there are some.
    """

    step: int = 0
    seconds: float = 0.0
    loss: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """One cycle over a training's progress from 0 to 1: linear warm-up, then half a cosine."""
    if progress < config.warm_up:
        return config.learning_rate * (0.05 + 0.95 * progress / config.warm_up)
    falling = (min(progress, 1.0) - config.warm_up) / (1 - config.warm_up)
    return config.learning_rate * max(0.001, 0.5 + 0.5 * float(np.cos(np.pi * falling)))


def hardness(config: TrainingConfig, progress: float) -> float:
    """How hard views are at a progress from 0 to 1: from 0.2 to 1 over the curriculum."""
    return min(1.0, 0.2 + 0.8 * progress / config.curriculum) if config.curriculum else 1.0


def trainable_blocks(config: TrainingConfig, blocks: int, progress: float) -> int:
    """How many of a backbone's last blocks are trained at a progress from 0 to 1."""
    if config.trainable_blocks is None:
        return blocks
    thawed = int(progress / config.unfreeze_every) if config.unfreeze_every else 0
    return min(blocks, config.trainable_blocks + thawed)


def mirrored(pairs: PairBatch) -> PairBatch:
    """The pairs, half of all as in a mirror."""
    turned = torch.rand(len(pairs.subjects)) < 0.5
    across = pairs.quads[:, [1, 0, 3, 2]] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    references, photos = (
        [
            picture[:, ::-1] if turn else picture
            for picture, turn in zip(pictures, turned, strict=True)
        ]
        for pictures in (pairs.references, pairs.photos)
    )
    quads = torch.where(turned[:, None, None], across, pairs.quads)
    return PairBatch(references, photos, quads, pairs.subjects)


def recall(queries: Embeddings, gallery: Embeddings, answers: Sequence[int]) -> dict[str, float]:
    """The share of queries whose answer, a row of the gallery, is among the nearest 1, 5 and 50."""
    similarity = queries.similarity(gallery)
    own = similarity[np.arange(len(answers)), list(answers)]
    ranks = (similarity > own[:, None]).sum(axis=1)
    return {f"recall@{rank}": float((ranks < rank).mean()) for rank in RANKS}


class Trainer:
    """One run. It goes on from ``run/checkpoint.pt`` where there is one.

    Raises DatasetError for data that cannot be used, RunMismatchError where the folder has another
    run, ValueError and RuntimeError as EmbeddingNetwork, OSError where there is no run to start from.
    """

    def __init__(self, config: TrainingConfig, run: Path, report: Report) -> None:
        self.config = config
        self.run = run
        self._report = report
        self.split = split(read_subjects(config), config)
        self._fingerprint = fingerprint(_files(self.split.training))
        torch.set_num_threads(config.threads)
        keep_freed_memory(of_any_size=True)
        torch.manual_seed(config.seed)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = EmbeddingNetwork(
            config.architecture,
            config.dimension,
            straightened_size=config.straightened_size,
            weights=config.weights,
        )
        self.network = network.to(memory_format=torch.channels_last).to(self._device)
        self._optimizer = _optimizer(self.network, config.weight_decay)
        self._loss = loss_named(config.loss, config.margin, config.temperature)
        self._miner = miner_named(config.sampling, config.margin)
        self.history = History()
        self._pretrained: list[Tensor] = []
        self._restore()
        self._started = 0.0

    def train(self, validated: Validated = lambda step, measured: None) -> History:
        """Trains to the end, with a checkpoint every few minutes or steps, and one at the end.

        ``validated`` is told of each validation, and may end the run by raising.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        write_json(self.run / CONFIG, self.config.values())
        pairs = self._pairs()
        judge = _Judge(self.config, self.split.held_out, self.split.training)
        saved = time.monotonic()
        self._started = saved - self.history.seconds
        batches = self._batches(pairs)
        with SummaryWriter(str(self.run / BOARD), purge_step=self.history.step) as board:
            while self._progress(self.history.step) < 1:
                self._record(self._learn(next(batches)), board)
                if self._is_due(saved):
                    validated(self.history.step, self._validate(judge, board))
                    saved = time.monotonic()
            self._validate(judge, board)
        return self.history

    def _is_due(self, saved: float) -> bool:
        if self.config.checkpoint_steps is not None:
            return self.history.step % self.config.checkpoint_steps == 0
        return time.monotonic() - saved >= 60 * self.config.checkpoint_minutes

    def _progress(self, step: int) -> float:
        if self.config.steps is not None:
            return step / self.config.steps
        return (time.monotonic() - self._started) / (60 * self.config.minutes)

    def _pairs(self) -> RenderedPairs | StoredPairs:
        config = self.config
        pairs = _pairs(config, self.split.training)
        if config.stored_pairs is None:
            return pairs
        return store(pairs, config.stored_pairs, config.seed, self.run / VIEWS)

    def _batches(self, pairs: RenderedPairs | StoredPairs) -> Iterator[PairBatch]:
        config, subjects = self.config, self.split.training
        sampler = PairBatches(
            len(subjects),
            config.pairs,
            config.seed,
            self.history.step,
            lambda step: hardness(config, self._progress(step)),
            *numbered(read_negatives(Path(config.negatives)) if config.negatives else (), subjects),
        )
        return iter(loader(pairs, sampler, config.workers))

    def _learn(self, batch: PairBatch) -> float:
        """One step on the pairs of n subjects; returns the loss."""
        progress = self._progress(self.history.step)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config, progress)
        self._thaw(progress)
        pairs = mirrored(batch)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.bf16):
            embedded, astray = self._embedded(pairs, progress)
        vectors = embedded.float()
        labels = pairs.subjects.to(self._device).repeat(2)
        loss: Tensor = self._loss(vectors, labels, self._miner(vectors, labels)) + astray
        if self.config.spread_weight:
            loss = loss + self.config.spread_weight * spread(vectors, labels)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self._optimizer.step()
        return float(loss.detach())

    def _embedded(self, pairs: PairBatch, progress: float) -> tuple[Tensor, Tensor | float]:
        """The embeddings of references, then of photos, [2n, dimension], and the loss of finding them.

        Where both are of one shape, batch statistics are of both, as the network's are.
        """
        network = self.network
        if network.warp is None:
            pictures = [*pairs.references, *pairs.photos]
            return in_batches(network.embed, pictures, self._device), 0.0
        references, photos = (
            in_batches(nn.Identity(), pictures, self._device)
            for pictures in (pairs.references, pairs.photos)
        )
        straight, astray = self._straightened(
            network.warp, photos, pairs.quads.to(self._device), progress
        )
        return network.embed(torch.cat([references, straight])), astray

    def _straightened(
        self, warp: SpatialTransformer, photos: Tensor, quads: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Photos [n, 3, s, s] as the backbone is to see them, and the loss of finding what they show."""
        rough, precise = (each.float() for each in warp.guesses(photos))
        true = turned_to(quads, rough.detach())
        known = true.isfinite()
        astray = torch.stack(
            [
                smooth_l1_loss(each[known], true[known], reduction="sum", beta=LOCATION_PRECISION)
                for each in (rough, precise)
            ]
        ).sum() / max(1, int(known.sum()))
        told = torch.rand(len(true), 1, 1, device=true.device) < max(LEAST_TOLD, 1 - 3 * progress)
        about = true + TOLD_ERROR * torch.randn_like(true)
        taken = torch.where(told & known, about, precise.detach())
        return warp.straightened(photos, taken), LOCATION_WEIGHT * astray

    def _thaw(self, progress: float) -> None:
        """Has the blocks learn that are to by now; the others keep their statistics as well.

        Pretrained ones always do: a batch of references has others than one of photos.
        """
        self.network.train()
        blocks = self.network.blocks()
        frozen = len(blocks) - trainable_blocks(self.config, len(blocks), progress)
        for number, block in enumerate(blocks):
            learns = number >= frozen
            block.requires_grad_(learns).train(learns and self.config.weights is None)

    def _record(self, loss: float, board: SummaryWriter) -> None:
        """Counts a step and, every few steps, notes the mean loss."""
        history = self.history
        history.step += 1
        history.seconds = time.monotonic() - self._started
        history.recent.append(loss)
        if history.step % RECORD_EVERY == 0:
            mean = float(np.mean(history.recent))
            history.loss.append(
                {"step": history.step, "seconds": round(history.seconds, 1), "loss": mean}
            )
            history.recent.clear()
            board.add_scalar("loss", mean, history.step)
            self._report(f"step {history.step}  {history.seconds:.0f} s  loss {mean:.3f}")

    def _validate(self, judge: "_Judge", board: SummaryWriter) -> Measured:
        """Measures recall on what is held out, then writes the checkpoint, network and metrics."""
        history = self.history
        if history.validation and history.validation[-1]["step"] == history.step:
            return history.validation[-1]
        config, network = self.config, self._averaged()
        measured = judge.measure(TorchEmbedder(network, "in training", config.framing))
        history.validation.append({"step": float(history.step)} | measured)
        for name, value in measured.items():
            board.add_scalar(name, value, history.step)
        self._report("  ".join(f"{name} {value:g}" for name, value in measured.items()))
        self._save(network)
        return measured

    def _averaged(self) -> EmbeddingNetwork:
        """The network with a share of the pretrained weights that it began with, if it did.

        It has learnt from rendered views nearly all that it would without, and still knows what those
        know of real photos (Wortsman et al., 2022).
        """
        averaged = copy.deepcopy(self.network)
        with torch.no_grad():
            for weights, before in zip(averaged.parameters(), self._pretrained, strict=False):
                weights.lerp_(before, self.config.pretrained_share)
        return averaged

    def _save(self, network: EmbeddingNetwork) -> None:
        state = {
            "recipe": self.config.recipe(),
            "history": asdict(self.history),
            "network": self.network.state_dict(),
            "pretrained": self._pretrained,
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        replace_file(self.run / CHECKPOINT, partial(torch.save, state))
        tensors = {name: values.contiguous() for name, values in network.state_dict().items()}
        replace_file(self.run / NETWORK, lambda beside: beside.write_bytes(save(tensors)))
        write_json(self.run / METRICS, self._metrics())
        plot_curves(self.history.loss, self.history.validation, self.run / CURVES)

    def _metrics(self) -> dict[str, Any]:
        data = {
            "training_pictures": len(self.split.training),
            "held_out_pictures": len(self.split.held_out),
            "data_fingerprint": self._fingerprint,
        }
        history = asdict(self.history)
        del history["recent"]
        return data | history

    def _restore(self) -> None:
        path = self.run / CHECKPOINT
        if not path.exists():
            self._begin()
            return
        state = torch.load(path, map_location=self._device, weights_only=True)
        if state["recipe"] != self.config.recipe():
            raise RunMismatchError(f"{self.run} holds a run of another configuration.")
        self.history = History(**state["history"])
        self.network.load_state_dict(state["network"])
        self._pretrained = state["pretrained"]
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"].cpu())

    def _begin(self) -> None:
        """As another run ended, or else on a pretrained backbone by what that knows."""
        config = self.config
        if config.start:
            self.network.load_state_dict(load_file(Path(config.start) / NETWORK))
        elif config.weights:
            some = self.split.training[:: max(1, len(self.split.training) // ENOUGH_REFERENCES)]
            references = [
                config.framing.reference(read_picture(each.reference, LONG_SIDE)) for each in some
            ]
            begin_with_components(self.network, references)
            self._pretrained = [weights.detach().clone() for weights in self.network.parameters()]


class _Judge:
    """Measures recall on held-out references: by a view of each, and by their photos.

    Views are looked for among the held-out references, photos among all.
    """

    def __init__(
        self, config: TrainingConfig, held_out: Sequence[Subject], others: Sequence[Subject]
    ) -> None:
        pairs = _pairs(config, [Subject(each.reference) for each in held_out])
        draws = [Draw(number, (config.seed, number), 1.0) for number in range(len(held_out))]
        self._pairs = [pairs[draw] for draw in draws]
        photographed = [number for number, each in enumerate(held_out) if each.photos]
        self._photos = [photo for number in photographed for photo in held_out[number].photos]
        self._answers = [number for number in photographed for _ in held_out[number].photos]
        self._others = [each.reference for each in others] if self._photos else []

    def measure(self, embedder: Embedder) -> dict[str, float]:
        """The shares by their names."""
        gallery = _in_parts(embedder.embed_references, [each.reference for each in self._pairs])
        views = _in_parts(embedder.embed, [each.photo for each in self._pairs])
        measured = recall(views, gallery, range(len(self._pairs)))
        if self._photos:
            others = _of_files(embedder.embed_references, self._others)
            everything = Embeddings(
                gallery.version, np.concatenate([gallery.vectors, others.vectors])
            )
            photos = _of_files(embedder.embed, self._photos)
            found = recall(photos, everything, self._answers)
            measured |= {f"photos {name}": value for name, value in found.items()}
        return measured


def _pairs(config: TrainingConfig, subjects: Sequence[Subject]) -> RenderedPairs:
    renderer = Renderer(config.views, round(1.2 * config.input_size))
    return RenderedPairs(subjects, config.framing, renderer)


def _files(subjects: Sequence[Subject]) -> list[Path]:
    return [path for each in subjects for path in (each.reference, *each.photos)]


def _optimizer(network: EmbeddingNetwork, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, not biases, scales or the pooling's power."""
    parameters = list(network.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
    )


def _of_files(embed: Embed, paths: Sequence[Path]) -> Embeddings:
    return _in_parts(embed, [read_picture(path, LONG_SIDE) for path in paths])


def _in_parts(embed: Embed, pictures: Sequence[Picture]) -> Embeddings:
    parts = [
        embed(pictures[first : first + EMBED_AT_ONCE])
        for first in range(0, len(pictures), EMBED_AT_ONCE)
    ]
    return Embeddings(parts[0].version, np.concatenate([part.vectors for part in parts]))
