"""Losses of metric learning, and which triplets or pairs of a batch they see."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch import Tensor

Triplets = tuple[Tensor, Tensor, Tensor]
# What a loss is given: unit vectors [n, dimension], labels [n], and rows of triplets or None for all.
Loss = Callable[[Tensor, Tensor, Triplets | None], Tensor]
Miner = Callable[[Tensor, Tensor], Triplets | None]


class LossName(StrEnum):
    """Losses to choose from."""

    TRIPLET = "triplet"
    CONTRASTIVE = "contrastive"
    MULTI_SIMILARITY = "multi-similarity"
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


def loss_named(name: LossName, margin: float, temperature: float) -> Loss:
    """A loss over triplets or pairs; ``margin`` is in units of distance, for those that have one."""
    if name is LossName.TRIPLET:
        loss: Any = losses.TripletMarginLoss(margin=margin)
    elif name is LossName.CONTRASTIVE:
        loss = losses.ContrastiveLoss(pos_margin=0.0, neg_margin=margin)
    elif name is LossName.MULTI_SIMILARITY:
        loss = losses.MultiSimilarityLoss()
    else:
        loss = losses.SupConLoss(temperature=temperature)
    return lambda vectors, labels, triplets: loss(vectors, labels, triplets)


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
