"""A plain convolutional network."""

from __future__ import annotations

from torch import nn

from attacks.benchmarks.networks.layers import conv, head, scaled

FEATURES = 64


def cnn(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Four convolutions, about 60,000 weights; standardises its input; ends in ``Linear(64, classes)``."""
    channels, height, _ = shape
    return nn.Sequential(
        scaled(channels),
        *conv(channels, 16, stride=2 if height > 32 else 1),
        *conv(16, 32, stride=2),
        *conv(32, 64, stride=2),
        *conv(64, FEATURES),
        *head(FEATURES, classes),
    )
