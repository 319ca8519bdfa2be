"""Residual networks, with squeeze-and-excitation or without.

Reference: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, with the stride in the
3x3 convolution; Hu, Shen, Sun, "Squeeze-and-excitation networks", CVPR 2018.
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

REDUCTION = 16


def resnet(
    shape: tuple[int, ...],
    classes: int,
    *,
    depths: Sequence[int],
    width: int,
    stem: int,
    expansion: int = 1,
    pool: bool,
    excite: bool = False,
) -> nn.Sequential:
    """Stages of `depths` blocks, `width` doubling at each; `expansion` 4 makes bottlenecks, 1 basic blocks.

    `stem` is the first kernel, of stride 2; with `pool` a max-pooling halves the image once more.
    """
    layers = [input_scaling(shape[0]), *convolution_block(shape[0], width, stem, stride=2)]
    if pool:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    before = width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_block(before, width << stage, expansion, stride, excite))
            before = (width << stage) * expansion
    return nn.Sequential(*layers, *pooled_head(before, classes))


def _block(inputs: int, width: int, expansion: int, stride: int, excite: bool) -> Residual:
    outputs = width * expansion
    if expansion == 1:
        body = [*convolution_block(inputs, width, stride=stride), *convolution_block(width, outputs, activation=None)]
    else:
        body = [
            *convolution_block(inputs, width, 1),
            *convolution_block(width, width, stride=stride),
            *convolution_block(width, outputs, 1, activation=None),
        ]
    if excite:
        body.append(SqueezeExcite(outputs, max(4, outputs // REDUCTION)))
    same = stride == 1 and inputs == outputs
    shortcut = None if same else nn.Sequential(*convolution_block(inputs, outputs, 1, stride=stride, activation=None))
    return Residual(nn.Sequential(*body), shortcut, nn.ReLU())
