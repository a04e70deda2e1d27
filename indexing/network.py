"""The network of the global embedding, and its preprocessing: all that needs PyTorch.

Importing PyTorch takes seconds, and most processes never embed: only ``Bundle.embedder`` and
training import this.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from indexing.backbones import IMAGENET_MEAN, IMAGENET_STD, TokenFeatures, backbone
from indexing.embedding import Embeddings
from indexing.framing import Framing
from indexing.image import Pixels

# A photo's corners: top left, top right, bottom right, bottom left.
UNIT_SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
# How much larger than a rough quad is what the precise one is looked for in.
SURROUNDINGS = 1.4


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


class CornerRegression(nn.Module):
    """Where the picture is in a photo: convolutions, then its corners from where they respond."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _convolution(3, 16, stride=2),
            _convolution(16, 32, stride=2),
            _convolution(32, 64, stride=2),
            _convolution(64, 64),
            _convolution(64, 128, stride=2),
            _convolution(128, 128),
            _convolution(128, 128),
            _convolution(128, 64),
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
        )
        last = nn.Linear(256, 8)
        # It begins by taking the whole photo for the picture.
        nn.init.zeros_(last.weight)
        last.bias.data = torch.tensor(UNIT_SQUARE).flatten()
        self.corners = nn.Sequential(nn.Linear(64 * 7 * 7, 256), nn.ReLU(inplace=True), last)

    def forward(self, batch: Tensor) -> Tensor:
        """Quads [n, 4, 2] in float32 [n, 3, s, s], in shares of its side."""
        return torch.unflatten(self.corners(self.features(batch)), 1, (4, 2))


class SpatialTransformer(nn.Module):
    """Finds the picture in a photo, and cuts it out straight (after Jaderberg et al., 2015).

    It looks at the whole photo, then again at what is about the quad that it found. Where pictures
    are, it learns from views whose quads are known, not from the loss of the embedding. What it cuts
    out has ``side`` pixels a side.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.rough = CornerRegression()
        self.precise = CornerRegression()

    def guesses(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """A rough and a precise quad, [n, 4, 2], of each picture in float32 [n, 3, s, s].

        ``UNIT_SQUARE`` is all of the photo. The first corner is one that is near its top left,
        whichever of the picture's that may be.
        """
        rough = self.rough(nn.functional.avg_pool2d(batch, 2))
        found = rough.detach()
        centre = found.mean(dim=1, keepdim=True)
        around = centre + SURROUNDINGS * (found - centre)
        precise = self.precise(_cut(batch, around, batch.shape[-1] // 2))
        return rough, _within(around, precise)

    def straightened(self, batch: Tensor, quads: Tensor) -> Tensor:
        """Quads [n, 4, 2] cut out of float32 [n, 3, s, s]: [n, 3, side, side]."""
        return _cut(batch, quads, self.side)

    def forward(self, batch: Tensor) -> Tensor:
        """Find the pictures in float32 [n, 3, s, s] and cut them out."""
        return self.straightened(batch, self.guesses(batch)[1].detach())


def _within(quads: Tensor, places: Tensor) -> Tensor:
    """Where places [n, ..., 2] of the unit square are in quads [n, 4, 2], by bilinear interpolation."""
    between = [len(quads)] + [1] * (places.ndim - 2) + [2]
    top_left, top_right, bottom_right, bottom_left = (
        each.view(between) for each in quads.unbind(1)
    )
    across, down = places[..., :1], places[..., 1:]
    top = torch.lerp(top_left, top_right, across)
    return torch.lerp(top, torch.lerp(bottom_left, bottom_right, across), down)


def _cut(batch: Tensor, quads: Tensor, side: int) -> Tensor:
    """Quads [n, 4, 2] of float32 [n, 3, s, s], each as a square of so many pixels a side."""
    steps = (torch.arange(side, device=batch.device) + 0.5) / side
    down, across = torch.meshgrid(steps, steps, indexing="ij")
    pixels = torch.stack([across, down], dim=2).expand(len(batch), side, side, 2)
    grid = 2 * _within(quads, pixels) - 1
    cut = nn.functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    return cut.contiguous(memory_format=torch.channels_last)


class StraightHead(nn.Module):
    """Features [n, c, h, w] of a straightened picture to [n, dimension]: what there is, and where."""

    def __init__(self, channels: int, dimension: int) -> None:
        super().__init__()
        self.what = GeneralisedMean()
        self.where = nn.Sequential(
            _convolution(channels, 64, size=1), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.linear = nn.Linear(channels + 64 * 4 * 4, dimension)

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 [n, c, h, w] to [n, dimension]."""
        both = torch.cat([self.what(features), self.where(features)], dim=1)
        return torch.as_tensor(self.linear(both))


def _convolution(channels: int, filters: int, *, size: int = 3, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, filters, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
    )


class EmbeddingNetwork(nn.Module):
    """A backbone, generalised-mean pooling and a linear head.

    ``architecture`` is torchvision's name of a model with ``features`` and a ``classifier``
    (mobilenet_v3_small, vgg16, efficientnet_b0, …), with an ``fc`` layer (resnet18, …), or of a vision
    transformer (vit_b_16, …), which takes pictures of 224 pixels; or it is efficientnet_lite0.
    ``straightened_size`` puts a spatial transformer before it, which cuts pictures out at so many
    pixels a side, and has the head look at where things are as well. ``weights`` are those of the whole
    pretrained model: torchvision's name for them, which are downloaded unless they are in its cache,
    or a file. Raises ValueError for an unknown name and RuntimeError for weights of another
    architecture.
    """

    def __init__(
        self,
        architecture: str = "mobilenet_v3_small",
        dimension: int = 128,
        *,
        straightened_size: int | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.features, channels = backbone(architecture, weights)
        self.dimension = dimension
        self.warp = SpatialTransformer(straightened_size) if straightened_size else None
        self.pool = nn.Identity() if self.warp else GeneralisedMean()
        self.head: nn.Module = (
            StraightHead(channels, dimension) if self.warp else nn.Linear(channels, dimension)
        )

    def forward(self, photos: Tensor) -> Tensor:
        """Embed float32 [n, 3, h, w], normalised as by ``as_batch``, to unit vectors [n, dimension].

        A spatial transformer takes squares.
        """
        return self.embed(self.warp(photos) if self.warp else photos)

    def embed(self, pictures: Tensor) -> Tensor:
        """As ``forward``, of pictures that fill their frame: nothing has to be found."""
        features = self.pool(self.features(pictures))
        return nn.functional.normalize(self.head(features), dim=1)

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
    straightened_size: int | None = None,
) -> EmbeddingNetwork:
    """A network with weights by their names, to embed with.

    Raises ValueError for an unknown architecture, RuntimeError where the weights do not fit it.
    """
    network = EmbeddingNetwork(architecture, dimension, straightened_size=straightened_size)
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    network.load_state_dict(state, strict=True)
    return _fused(network.eval())


def _fused(network: EmbeddingNetwork) -> EmbeddingNetwork:
    """The same network with each batch normalisation part of the convolution before it."""
    for part in network.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for place, (one, other) in enumerate(pairwise(list(part))):
            if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                part[place] = fuse_conv_bn_eval(one, other)
                part[place + 1] = nn.Identity()
    return network


def as_batch(pictures: Tensor) -> Tensor:
    """Framed pictures, uint8 [n, h, w, 3], normalised: float32 [n, 3, h, w] channels last."""
    mean = torch.tensor(IMAGENET_MEAN, device=pictures.device)
    std = torch.tensor(IMAGENET_STD, device=pictures.device)
    return ((pictures / 255 - mean) / std).permute(0, 3, 1, 2)


def in_batches(
    network: Callable[[Tensor], Tensor], pictures: Sequence[Pixels], device: torch.device
) -> Tensor:
    """What a network makes of framed pictures, at least one: [n, ...] in their order.

    Those of one shape are a batch, normalised as by ``as_batch``.
    """
    numbers = defaultdict(list)
    for number, picture in enumerate(pictures):
        numbers[picture.shape].append(number)
    made = [
        network(as_batch(torch.from_numpy(np.stack([pictures[n] for n in alike])).to(device)))
        for alike in numbers.values()
    ]
    order = torch.tensor([number for alike in numbers.values() for number in alike], device=device)
    return torch.cat(made)[order.argsort()]


class TorchEmbedder:
    """Embeds pictures with one model version by PyTorch, on a GPU where there is one."""

    def __init__(self, network: EmbeddingNetwork, version: str, framing: Framing) -> None:
        self.version = version
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.uses_gpu = self.device.type != "cpu"
        self._framing = framing
        self._network = network.to(memory_format=torch.channels_last).to(self.device).eval()

    def embed(self, photos: Sequence[Pixels]) -> Embeddings:
        """Embed photos, RGB uint8 [h, w, 3] of any sizes, those of one shape in one batch."""
        return self._embedded([self._framing.photo(each) for each in photos], self._network)

    def embed_references(self, pictures: Sequence[Pixels]) -> Embeddings:
        """Embed clean pictures that fill their frame, as ``embed``."""
        framed = [self._framing.reference(each) for each in pictures]
        return self._embedded(framed, self._network.embed)

    @torch.inference_mode()
    def _embedded(
        self, framed: Sequence[Pixels], network: Callable[[Tensor], Tensor]
    ) -> Embeddings:
        if not framed:
            return Embeddings(self.version, np.empty((0, self._network.dimension), np.float32))
        vectors = in_batches(network, framed, self.device)
        return Embeddings(self.version, vectors.float().cpu().numpy())
