"""Vision transformer, pre-norm, with a class token; cut into patches, or with convolutions in front for small data.

Reference: Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, eq. 1 to 4; Xiao et al., "Early
convolutions help transformers see better", NeurIPS 2021, for the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medward.attacks.benchmarks.networks.layers import Residual, SelfAttention, convolution_block, input_scaling


def vit(
    shape: tuple[int, ...],
    classes: int,
    *,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    hidden: int,
    early: Sequence[int] = (),
) -> nn.Sequential:
    """`depth` blocks over patches of `patch` pixels a side; pixels beyond whole patches are not seen.

    `early` are the widths of 3x3 convolutions of stride 2 before the patches are cut.
    """
    layers: list[nn.Module] = [input_scaling(shape[0])]
    before, height, length = shape
    for channels in early:
        layers += convolution_block(before, channels, stride=2)
        before, height, length = channels, (height + 1) // 2, (length + 1) // 2
    return nn.Sequential(
        *layers,
        nn.Conv2d(before, width, patch, stride=patch),
        Tokens(width, (height // patch) * (length // patch)),
        *(_block(width, heads, hidden) for _ in range(depth)),
        nn.LayerNorm(width),
        First(),
        nn.Linear(width, classes),
    )


class Tokens(nn.Module):
    """A map ``(n, d, h, w)`` as tokens ``(n, 1 + h w, d)``: a learned one first, positions added."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        """Raises RuntimeError for another size of image than the network was built for."""
        tokens = x.flatten(2).transpose(1, 2)
        return torch.cat([self.first.expand(len(x), -1, -1), tokens], dim=1) + self.position


class First(nn.Module):
    """Class token: a learned vector in front of the patches."""

    def forward(self, x: Tensor) -> Tensor:
        """``(n, t, d)`` to ``(n, d)``."""
        return x[:, 0]


def _block(width: int, heads: int, hidden: int) -> nn.Sequential:
    mlp = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)]
    return nn.Sequential(
        Residual(nn.Sequential(nn.LayerNorm(width), SelfAttention(width, heads))),
        Residual(nn.Sequential(nn.LayerNorm(width), *mlp)),
    )
