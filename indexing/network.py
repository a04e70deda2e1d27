"""The network of the global embedding, and its preprocessing: all that needs PyTorch.

Importing PyTorch takes seconds, and most processes never embed: only ``Bundle.embedder`` and
training import this.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import Tensor, nn

from indexing.embedding import Embeddings

Picture = npt.NDArray[np.uint8]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class GeneralisedMean(nn.Module):
    """Pools [n, c, h, w] to [n, c] by a mean with a learnt power (Radenović et al., 2018)."""

    def __init__(self, power: float = 3.0, least: float = 1e-4) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))
        self.least = least

    def forward(self, features: Tensor) -> Tensor:
        """Pool float32 [n, c, h, w] to [n, c]."""
        powered = features.clamp(min=self.least).pow(self.power)
        return powered.mean(dim=(2, 3)).pow(1 / self.power)


class EmbeddingNetwork(nn.Module):
    """A torchvision backbone, generalised-mean pooling and a linear head, without weights.

    ``architecture`` is torchvision's name of a model with ``features`` and a ``classifier``
    (mobilenet_v3_small, …) or with an ``fc`` layer (resnet18, …).
    """

    def __init__(self, architecture: str = "mobilenet_v3_small", dimension: int = 128) -> None:
        super().__init__()
        self.features, channels = _backbone(architecture)
        self.pool = GeneralisedMean()
        self.head = nn.Linear(channels, dimension)

    def forward(self, batch: Tensor) -> Tensor:
        """Embed float32 [n, 3, h, w], normalised as by ``as_batch``, to unit vectors [n, dimension]."""
        return nn.functional.normalize(self.head(self.pool(self.features(batch))), dim=1)


def load_network(
    architecture: str, dimension: int, weights: Mapping[str, npt.NDArray[Any]]
) -> EmbeddingNetwork:
    """A network with weights by their names.

    Raises ValueError for an unknown architecture, RuntimeError where the weights do not fit it.
    """
    network = EmbeddingNetwork(architecture, dimension)
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    network.load_state_dict(state, strict=True)
    return network.eval()


def _backbone(architecture: str) -> tuple[nn.Module, int]:
    """The convolutional part of a torchvision model and its number of output channels."""
    model = torchvision.models.get_model(architecture, weights=None)
    if hasattr(model, "fc"):
        stages = [part for name, part in model.named_children() if name not in ("avgpool", "fc")]
        return nn.Sequential(*stages), int(model.fc.in_features)
    linear = next(part for part in model.classifier.modules() if isinstance(part, nn.Linear))
    return model.features, linear.in_features


def squashed(picture: Picture, input_size: int) -> Picture:
    """A picture (RGB uint8 [h, w, 3]) as the network takes it: [input_size, input_size, 3]."""
    size = (input_size, input_size)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def as_batch(pictures: Tensor) -> Tensor:
    """Squashed pictures, uint8 [n, s, s, 3], normalised: float32 [n, 3, s, s] channels last."""
    mean = torch.tensor(IMAGENET_MEAN, device=pictures.device)
    std = torch.tensor(IMAGENET_STD, device=pictures.device)
    return ((pictures / 255 - mean) / std).permute(0, 3, 1, 2)


class Embedder:
    """Embeds pictures with one model version, on a GPU where there is one."""

    def __init__(self, network: EmbeddingNetwork, version: str, input_size: int) -> None:
        self.version = version
        self.input_size = input_size
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.to(memory_format=torch.channels_last).to(self.device).eval()

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Picture]) -> Embeddings:
        """Embed RGB uint8 pictures [h, w, 3] of any sizes, all in one batch."""
        if not pictures:
            return Embeddings(
                self.version, np.empty((0, self._network.head.out_features), np.float32)
            )
        stacked = np.stack([squashed(picture, self.input_size) for picture in pictures])
        vectors = self._network(as_batch(torch.from_numpy(stacked).to(self.device)))
        return Embeddings(self.version, vectors.float().cpu().numpy())
