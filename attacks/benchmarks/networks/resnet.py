"""Residual networks, with squeeze-and-excitation or without.

Reference: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, with the stride in the
3x3 convolution; Hu, Shen, Sun, "Squeeze-and-excitation networks", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from attacks.benchmarks.networks.layers import Residual, SqueezeExcite, conv, head, scaled

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
    layers = [scaled(shape[0]), *conv(shape[0], width, stem, stride=2)]
    if pool:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    before = width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_block(before, width << stage, expansion, stride, excite))
            before = (width << stage) * expansion
    return nn.Sequential(*layers, *head(before, classes))


def _block(inputs: int, width: int, expansion: int, stride: int, excite: bool) -> Residual:
    outputs = width * expansion
    if expansion == 1:
        body = [*conv(inputs, width, stride=stride), *conv(width, outputs, activation=None)]
    else:
        body = [*conv(inputs, width, 1), *conv(width, width, stride=stride), *conv(width, outputs, 1, activation=None)]
    if excite:
        body.append(SqueezeExcite(outputs, max(4, outputs // REDUCTION)))
    same = stride == 1 and inputs == outputs
    shortcut = None if same else nn.Sequential(*conv(inputs, outputs, 1, stride=stride, activation=None))
    return Residual(nn.Sequential(*body), shortcut, nn.ReLU())
