"""What the families share: the input's scaling, the heads, and the few blocks torch does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def input_scaling(channels: int) -> nn.BatchNorm2d:
    """The first layer of every network: learns the mean and spread of the input, nothing else."""
    return nn.BatchNorm2d(channels, affine=False)


def pooled_head(features: int, classes: int) -> list[nn.Module]:
    """Mean over the image, then logits."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]


def convolution_block(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> list[nn.Module]:
    """Convolution, batch normalisation and, unless None, `activation`."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return layers if activation is None else [*layers, activation()]


class Residual(nn.Module):
    """``after(shortcut(x) + body(x))``; no shortcut is the identity, no after nothing."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways."""
        out: Tensor = self.after(self.shortcut(x) + self.body(x))
        return out


class SqueezeExcite(nn.Module):
    """Scales each channel by what all channels say on average (Hu et al., CVPR 2018, eq. 2 to 4)."""

    def __init__(self, channels: int, hidden: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            activation(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        out: Tensor = x * self.gate(x)
        return out


class Dense(nn.Module):
    """Appends what `body` makes of `x` to the channels of `x`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """``(n, C, H, W)`` to ``(n, C + growth, H, W)``."""
        return torch.cat([x, self.body(x)], dim=1)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of ``(n, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scale(nn.Module):
    """One learned factor per channel of the last axis (Touvron et al., ICCV 2021, "LayerScale")."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        return x * self.factor


class SelfAttention(nn.Module):
    """Scaled dot-product self-attention over tokens ``(n, t, d)`` (Vaswani et al., NeurIPS 2017, eq. 1)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        n, tokens, width = x.shape
        parts = self.inward(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        out: Tensor = self.outward(mixed.transpose(1, 2).reshape(n, tokens, width))
        return out
