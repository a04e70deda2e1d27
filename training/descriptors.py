"""The network that describes patches, and how it learns."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from indexing.patches import PATCH_SIDE
from training.datasets import Picture

WIDTH = 48
CHANNELS = (16, 32, 64)
# In grey levels: patches of less contrast are not stretched to full.
LEAST_CONTRAST = 4.0
MARGIN = 1.0
# Patches of one picture whose middles are nearer than this share of their diameter show one spot.
SAME_SPOT = 0.6
AT_ONCE = 4096


class DescriptorNetwork(nn.Module):
    """Describes patches: a small network of the kind of HardNet (Mishchuk et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = 1, PATCH_SIDE
        for width, kernel in zip(CHANNELS, (5, 3, 3), strict=True):
            layers += [
                nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * side**2, WIDTH, bias=False),
            nn.BatchNorm1d(WIDTH, affine=False),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Describe patches, uint8 [n, 24, 24], by unit vectors, float32 [n, 48]."""
        levels = patches[:, None].float()
        middle = levels.mean(dim=(2, 3), keepdim=True)
        contrast = levels.std(dim=(2, 3), keepdim=True)
        normalised = (levels - middle) / (contrast + LEAST_CONTRAST)
        vectors: Tensor = self.head(self.features(normalised))
        return nn.functional.normalize(vectors, dim=1)


def hardest_in_batch(references: Tensor, photos: Tensor, same: Tensor) -> Tensor:
    """The triplet margin loss of pairs of unit vectors, [n, d] each, row by row.

    Of each pair's two patches, the negative is what is nearest to either among all others. ``same``,
    bool [n, n], are the rows that are none, as they show the same spot.
    """
    positive = _distances(references, photos).diagonal()
    far = 4.0 * same
    across = _distances(references, photos) + far
    among = [_distances(each, each) + far for each in (references, photos)]
    nearest = [across.amin(dim=0), across.amin(dim=1), *(each.amin(dim=1) for each in among)]
    negative = torch.stack(nearest).amin(dim=0)
    return (MARGIN + positive - negative).clamp(min=0).mean()


def _distances(one: Tensor, other: Tensor) -> Tensor:
    return (2 - 2 * one @ other.T).clamp(min=1e-6).sqrt()


def same_spots(pictures: npt.NDArray[np.int64], spots: npt.NDArray[np.float32]) -> Tensor:
    """Which of patches, by the numbers of their pictures and where they are, show the same: [n, n]."""
    numbers, places = torch.from_numpy(pictures), torch.from_numpy(spots)
    return (numbers[:, None] == numbers) & (torch.cdist(places, places) < SAME_SPOT)


@torch.no_grad()
def described(network: DescriptorNetwork, patches: Picture) -> Tensor:
    """The descriptors of any number of patches, uint8 [n, 24, 24]: float32 [n, 48]."""
    device = next(network.eval().parameters()).device
    parts = torch.from_numpy(patches).to(device).split(AT_ONCE)  # type: ignore[no-untyped-call]
    return torch.cat([network(part) for part in parts]).cpu()
