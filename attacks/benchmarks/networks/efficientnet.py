"""EfficientNet: inverted residuals with squeeze-and-excitation; no dropout, no dropped paths.

Reference: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019,
table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from medward.attacks.benchmarks.networks.layers import (
    Residual,
    SqueezeExcite,
    convolution_block,
    input_scaling,
    pooled_head,
)

Stage = tuple[int, int, int, int, int]
"""Expansion, channels, blocks, stride, kernel."""

B0: tuple[Stage, ...] = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def efficientnet(
    shape: tuple[int, ...], classes: int, *, stages: Sequence[Stage], stem: int, features: int
) -> nn.Sequential:
    """A stem of stride 2 and `stem` channels, `stages`, and a 1x1 convolution to `features`."""
    layers = [input_scaling(shape[0]), *convolution_block(shape[0], stem, stride=2, activation=nn.SiLU)]
    before = stem
    for expansion, width, depth, stride, kernel in stages:
        for block in range(depth):
            layers.append(_block(before, width, expansion, stride if block == 0 else 1, kernel))
            before = width
    return nn.Sequential(
        *layers, *convolution_block(before, features, 1, activation=nn.SiLU), *pooled_head(features, classes)
    )


def _block(inputs: int, outputs: int, expansion: int, stride: int, kernel: int) -> nn.Module:
    wide = inputs * expansion
    widen = convolution_block(inputs, wide, 1, activation=nn.SiLU) if expansion > 1 else []
    body = nn.Sequential(
        *widen,
        *convolution_block(wide, wide, kernel, stride=stride, groups=wide, activation=nn.SiLU),
        SqueezeExcite(wide, max(1, inputs // 4), nn.SiLU),
        *convolution_block(wide, outputs, 1, activation=None),
    )
    return Residual(body) if stride == 1 and inputs == outputs else body
