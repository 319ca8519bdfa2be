"""A small network that trains well with bounds: few layers, rectifiers, no batch normalisation.

Two convolutions that halve the image and two linear layers, after "small" in Gowal et al., ICCV 2019, table 1. Larger
images are first averaged down to about 32 pixels a side, which loosens no bound; of a table two hidden layers.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from medward.guard.errors import MedwardError

ArchitectureName = Literal["own", "small", "wide"]
"""Which network is trained: the user's own, or one of ours of a width of `WIDTHS`."""
WIDTHS: dict[ArchitectureName, int] = {"small": 1, "wide": 4}
_SIDE = 32
_CHANNELS, _HIDDEN = 16, 64
_CONVOLUTIONS = {2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}  # by the axes of a row
_AVERAGES = {2: nn.AvgPool1d, 3: nn.AvgPool2d, 4: nn.AvgPool3d}


def known_architecture(name: str) -> ArchitectureName:
    """The architecture called `name`. Raises `MedwardError` for one that there is not."""
    if name == "own" or name in WIDTHS:
        return cast(ArchitectureName, name)
    raise MedwardError(f"architecture: there is no {name!r}; there are own, {', '.join(WIDTHS)}")


class Standardised(nn.Module):
    """A standardised tensor has `mean` taken away and is divided by `std`, or the other way round with `inverse`."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, *, inverse: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.inverse = inverse

    def forward(self, x: Tensor) -> Tensor:
        """Values of any shape that `mean` broadcasts to."""
        return x * self.std + self.mean if self.inverse else (x - self.mean) / self.std


def certified_network(x: Tensor, outputs: int, *, width: int = 1) -> nn.Sequential:
    """Ours for rows like `x (n, *shape)`, from which inputs are standardised, to scores ``(n, outputs)``; untrained.

    Weights are drawn from torch's global random state. Raises `MedwardError` for rows of no known shape.
    """
    if x.ndim == 2:
        hidden = width * _HIDDEN
        return nn.Sequential(
            Standardised(x.mean(dim=0), x.std(dim=0).clamp_min(1e-6)),
            *(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
            nn.Linear(hidden, outputs),
        )
    if x.ndim - 1 not in _CONVOLUTIONS:
        raise MedwardError(f"architecture: ours take rows of one to four axes, got {tuple(x.shape[1:])}")
    convolution, channels = _CONVOLUTIONS[x.ndim - 1], width * _CHANNELS
    shrunk = [max(1, side // _SIDE) for side in x.shape[2:]]
    layers: list[nn.Module] = [
        Standardised(x.mean(), x.std().clamp_min(1e-6)),
        *([_AVERAGES[x.ndim - 1](shrunk)] if max(shrunk) > 1 else []),
        *(convolution(x.shape[1], channels, 3, stride=2, padding=1), nn.ReLU()),
        *(convolution(channels, 2 * channels, 3, stride=2, padding=1), nn.ReLU()),
        nn.Flatten(),
    ]
    with torch.no_grad():
        features = nn.Sequential(*layers)(x[:1]).shape[1]
    return nn.Sequential(*layers, nn.Linear(features, width * _HIDDEN), nn.ReLU(), nn.Linear(width * _HIDDEN, outputs))
