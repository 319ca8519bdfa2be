"""A plain convolutional network."""

from __future__ import annotations

from torch import nn

from medward.attacks.benchmarks.networks.layers import convolution_block, input_scaling, pooled_head

_FEATURES = 64


def cnn(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Four convolutions, about 60,000 weights; standardises its input; ends in ``Linear(64, classes)``."""
    channels, height, _ = shape
    return nn.Sequential(
        input_scaling(channels),
        *convolution_block(channels, 16, stride=2 if height > 32 else 1),
        *convolution_block(16, 32, stride=2),
        *convolution_block(32, 64, stride=2),
        *convolution_block(64, _FEATURES),
        *pooled_head(_FEATURES, classes),
    )
