"""Losses of metric learning, and which triplets or pairs of a batch they see.

A batch has the embeddings of n references, then those of a photo of each, in the same order.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Triplets = tuple[Tensor, Tensor, Tensor]
Miner = Callable[[Tensor, Tensor], Triplets | None]


class LossName(StrEnum):
    """Losses to choose from.

    ``INFO_NCE`` compares photos with references alone, as a search does; the others compare all of a
    batch, ``SUPERVISED_CONTRASTIVE`` after Khosla et al., 2020.
    """

    TRIPLET = "triplet"
    CONTRASTIVE = "contrastive"
    MULTI_SIMILARITY = "multi-similarity"
    SUPERVISED_CONTRASTIVE = "supervised-contrastive"
    INFO_NCE = "info-nce"


class Sampling(StrEnum):
    """Which triplets of a batch are learnt from; ``ALL`` leaves that to the loss.

    ``SEMI_HARD`` are negatives farther than the positive by less than the margin (FaceNet, Schroff et
    al., 2015), ``BATCH_HARD`` the hardest of each (Hermans et al., 2017), ``DISTANCE_WEIGHTED`` such
    of all distances alike (Wu et al., 2017).
    """

    ALL = "all"
    UNIFORM = "uniform"
    SEMI_HARD = "semi-hard"
    BATCH_HARD = "batch-hard"
    DISTANCE_WEIGHTED = "distance-weighted"


class InfoNCE(nn.Module):
    """Each photo is to find its reference, and each reference its photo (van den Oord et al., 2018)."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def forward(self, vectors: Tensor, labels: Tensor, _: Triplets | None = None) -> Tensor:
        """The loss of unit vectors [2n, dimension] with labels [2n]; each label is of one reference."""
        references, photos = vectors.chunk(2)
        similarity = photos @ references.T / self._temperature
        own = torch.arange(len(references), device=vectors.device)
        return (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2


def loss_named(name: LossName, margin: float, temperature: float) -> nn.Module:
    """A loss of unit vectors [2n, dimension], labels [2n], and rows of triplets or None for all.

    ``margin`` is in units of distance, for those that have one; ``InfoNCE`` has no use for triplets.
    """
    match name:
        case LossName.TRIPLET:
            loss: nn.Module = losses.TripletMarginLoss(margin=margin)
        case LossName.CONTRASTIVE:
            loss = losses.ContrastiveLoss(pos_margin=0.0, neg_margin=margin)
        case LossName.MULTI_SIMILARITY:
            loss = losses.MultiSimilarityLoss()
        case LossName.SUPERVISED_CONTRASTIVE:
            loss = losses.SupConLoss(temperature=temperature)
        case LossName.INFO_NCE:
            loss = InfoNCE(temperature)
    return loss


def miner_named(sampling: Sampling, margin: float) -> Miner:
    """Chooses triplets of a batch: rows of anchors, positives and negatives, int64 [t] each."""
    if sampling is Sampling.ALL:
        return lambda vectors, labels: None
    if sampling is Sampling.UNIFORM:
        return _one_at_random
    miner: Any = {
        Sampling.SEMI_HARD: lambda: miners.TripletMarginMiner(margin, "semihard"),
        Sampling.BATCH_HARD: miners.BatchHardMiner,
        Sampling.DISTANCE_WEIGHTED: lambda: miners.DistanceWeightedMiner(
            cutoff=0.5, nonzero_loss_cutoff=1.4
        ),
    }[sampling]()
    return lambda vectors, labels: miner(vectors.detach(), labels)


def spread(vectors: Tensor, labels: Tensor) -> Tensor:
    """How far similarities of different things are from those of random directions, at least 0.

    Global orthogonal regularisation (Zhang et al., 2017): their mean is to be 0 and their mean square
    at most 1 / dimension, so that scores of strangers are alike whatever is asked.
    """
    strangers = (vectors @ vectors.T)[labels[:, None] != labels[None]]
    return strangers.mean() ** 2 + torch.relu((strangers**2).mean() - 1 / vectors.shape[1])


def _one_at_random(vectors: Tensor, labels: Tensor) -> Triplets:
    triplets: Triplets = loss_and_miner_utils.get_random_triplet_indices(labels, t_per_anchor=1)
    return triplets
