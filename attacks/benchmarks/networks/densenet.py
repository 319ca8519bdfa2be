"""Densely connected networks.

Reference: Huang, Liu, van der Maaten, Weinberger, "Densely connected convolutional networks", CVPR 2017,
DenseNet-BC (bottleneck 4, compression 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from medward.attacks.benchmarks.networks.layers import Dense, convolution_block, input_scaling, pooled_head


def densenet(
    shape: tuple[int, ...], classes: int, *, blocks: Sequence[int], growth: int, stem: int, pool: bool
) -> nn.Sequential:
    """Blocks of `blocks` layers that add `growth` channels each; between blocks half the channels and pixels."""
    width = 2 * growth
    layers = [input_scaling(shape[0]), *convolution_block(shape[0], width, stem, stride=2)]
    if pool:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    for number, depth in enumerate(blocks):
        if number:
            layers += [*_before(width), nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
        for _ in range(depth):
            layers.append(_layer(width, growth))
            width += growth
    return nn.Sequential(*layers, *_before(width), *pooled_head(width, classes))


def _before(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width), nn.ReLU()]


def _layer(width: int, growth: int) -> Dense:
    last = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
    return Dense(nn.Sequential(*_before(width), *convolution_block(width, 4 * growth, 1), last))
