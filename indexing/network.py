"""The network of the global embedding, and its preprocessing: all that needs PyTorch.

Importing PyTorch takes seconds, and most processes never embed: only ``Bundle.embedder`` and
training import this.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VisionTransformer

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


class SpatialTransformer(nn.Module):
    """Warps a picture before it is looked at, as it learns to (Jaderberg et al., 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(
            nn.Conv2d(3, 16, 7, stride=4, padding=3),
            nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(512, 6),
        )
        # It begins by leaving all as it is.
        linear = self.locate[-1]
        assert isinstance(linear, nn.Linear)
        nn.init.zeros_(linear.weight)
        linear.bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])

    def forward(self, batch: Tensor) -> Tensor:
        """Warp float32 [n, 3, h, w] by an affine map each."""
        maps = self.locate(batch).view(-1, 2, 3)
        grid = nn.functional.affine_grid(maps, list(batch.shape), align_corners=False)
        return nn.functional.grid_sample(batch, grid, align_corners=False)


class TokenFeatures(nn.Module):
    """A torchvision vision transformer's tokens, in their places: [n, c, h, w]."""

    def __init__(self, transformer: VisionTransformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, batch: Tensor) -> Tensor:
        """The tokens of float32 [n, 3, s, s], where s is the transformer's own input size."""
        side = batch.shape[-1] // self.transformer.patch_size
        tokens = self.transformer._process_input(batch)
        first = self.transformer.class_token.expand(len(batch), -1, -1)
        encoded = self.transformer.encoder(torch.cat([first, tokens], dim=1))[:, 1:]
        return torch.unflatten(encoded.transpose(1, 2), 2, (side, side))


class EmbeddingNetwork(nn.Module):
    """A torchvision backbone, generalised-mean pooling and a linear head.

    ``architecture`` is torchvision's name of a model with ``features`` and a ``classifier``
    (mobilenet_v3_small, vgg16, efficientnet_b0, …), with an ``fc`` layer (resnet18, …), or of a vision
    transformer (vit_b_16, …), which takes pictures of 224 pixels. ``spatial_transformer`` puts one
    before it. ``weights`` are those of the whole pretrained model: torchvision's name for them, which
    are downloaded unless they are in its cache, or a file. Raises ValueError for an unknown name and
    RuntimeError for weights of another architecture.
    """

    def __init__(
        self,
        architecture: str = "mobilenet_v3_small",
        dimension: int = 128,
        *,
        spatial_transformer: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.warp = SpatialTransformer() if spatial_transformer else nn.Identity()
        self.features, channels = _backbone(architecture, weights)
        self.pool = GeneralisedMean()
        self.head = nn.Linear(channels, dimension)

    def forward(self, batch: Tensor) -> Tensor:
        """Embed float32 [n, 3, h, w], normalised as by ``as_batch``, to unit vectors [n, dimension]."""
        features = self.features(self.warp(batch))
        return nn.functional.normalize(self.head(self.pool(features)), dim=1)

    def blocks(self) -> list[nn.Module]:
        """The backbone's blocks that have parameters, from the input on."""
        parts: Iterable[nn.Module] = self.features.children()
        if isinstance(self.features, TokenFeatures):
            transformer = self.features.transformer
            parts = [transformer.conv_proj, *transformer.encoder.layers]
        return [part for part in parts if any(True for _ in part.parameters())]


def load_network(
    architecture: str,
    dimension: int,
    weights: Mapping[str, npt.NDArray[Any]],
    *,
    spatial_transformer: bool = False,
) -> EmbeddingNetwork:
    """A network with weights by their names.

    Raises ValueError for an unknown architecture, RuntimeError where the weights do not fit it.
    """
    network = EmbeddingNetwork(architecture, dimension, spatial_transformer=spatial_transformer)
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    network.load_state_dict(state, strict=True)
    return network.eval()


def _backbone(architecture: str, weights: str | None) -> tuple[nn.Module, int]:
    """A torchvision model without its pooling and classifier, and its number of channels."""
    file = Path(weights) if weights and Path(weights).is_file() else None
    model = torchvision.models.get_model(architecture, weights=None if file else weights)
    if file:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    if isinstance(model, VisionTransformer):
        return TokenFeatures(model), int(model.hidden_dim)
    if hasattr(model, "fc"):
        stages = [part for name, part in model.named_children() if name not in ("avgpool", "fc")]
        return nn.Sequential(*stages), int(model.fc.in_features)
    if not hasattr(model, "features"):
        raise ValueError(f"'{architecture}' is not a backbone that can be used here.")
    convolutions = [part for part in model.features.modules() if isinstance(part, nn.Conv2d)]
    return model.features, convolutions[-1].out_channels


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
