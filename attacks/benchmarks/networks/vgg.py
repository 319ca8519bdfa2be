"""VGG-style networks: plain 3x3 convolutions and max-pooling, with batch normalisation and a mean before the logits.

Reference: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015,
table 1; the mean in place of the wide linear layers is Hirano et al.'s (BMC Medical Imaging 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from medward.attacks.benchmarks.networks.layers import convolution_block, input_scaling, pooled_head


def vgg(shape: tuple[int, ...], classes: int, *, stages: Sequence[Sequence[int]]) -> nn.Sequential:
    """`stages` of convolutions of these widths; each but the last ends by halving the image."""
    layers: list[nn.Module] = [input_scaling(shape[0])]
    before = shape[0]
    for number, widths in enumerate(stages):
        if number:
            layers.append(nn.MaxPool2d(2))
        for width in widths:
            layers += convolution_block(before, width)
            before = width
    return nn.Sequential(*layers, *pooled_head(before, classes))
