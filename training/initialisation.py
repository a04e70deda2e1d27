"""How a head begins, on a pretrained backbone: by what is known of its features already."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from indexing.network import EmbeddingNetwork, in_batches
from training.datasets import Picture

AT_ONCE = 64


def begin_with_components(network: EmbeddingNetwork, references: Sequence[Picture]) -> None:
    """Has the linear head begin with the principal components of the features of framed references.

    They are whitened by half: components that vary ten times as much count three times as much (after
    Jégou and Chum, 2012). Unlike a random head, it has the network find from the first step on what
    its pretrained backbone can tell apart. A head that is not linear, or has more dimensions than
    there are references, stays as it is.
    """
    head = network.head
    if not isinstance(head, nn.Linear) or len(references) <= network.dimension:
        return
    with torch.no_grad():
        features = _features(network.eval(), references)
        mean = features.mean(0)
        _, deviations, components = torch.linalg.svd(features - mean, full_matrices=False)
        kept = slice(network.dimension)
        scales = (deviations[kept] / deviations[0]).sqrt()
        head.weight.copy_(components[kept] / scales[:, None])
        head.bias.copy_(-head.weight @ mean)


def _features(network: EmbeddingNetwork, pictures: Sequence[Picture]) -> Tensor:
    """The pooled features of framed pictures: float32 [n, channels]."""
    device = next(network.parameters()).device
    return torch.cat(
        [
            in_batches(
                lambda batch: network.pool(network.features(batch)),
                pictures[first : first + AT_ONCE],
                device,
            )
            for first in range(0, len(pictures), AT_ONCE)
        ]
    )
