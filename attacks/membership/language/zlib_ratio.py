"""Zlib: how likely a text is to the model for how little it compresses.

Reference: Carlini et al., "Extracting training data from large language models", USENIX Security 2021; the mean
cross-entropy over the bytes of the compressed text, as in Duan et al., "Do membership inference attacks work on large
language models?", COLM 2024.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.tokens import TokenStatistics, mean_losses
from medward.guard.types import Array


def zlib_scores(target: Sequence[TokenStatistics], texts: Sequence[str]) -> Array:
    """Minus the mean cross-entropy over the bytes ``(n,)`` that zlib makes of each text."""
    return -mean_losses(target) / compressed_lengths(texts)


def compressed_lengths(texts: Sequence[str]) -> Array:
    """The bytes ``(n,)`` of each text after zlib."""
    return np.array([float(len(zlib.compress(text.encode()))) for text in texts])
