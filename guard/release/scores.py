"""What every output filter reads: rows of scores, and which of their classes are largest."""

from __future__ import annotations

import numpy as np

from medward.guard.types import Array, OutputKind

NDArrayBool = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def probabilities(scores: Array, output: OutputKind) -> Array:
    """Scores ``(n, K)`` as float64 probabilities; softmax for logits."""
    scores = np.asarray(scores, np.float64)
    if output == "probabilities":
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def largest_classes(scores: Array) -> NDArrayBool:
    """Which classes are largest, ties included: a mask ``(n, K)``."""
    return np.asarray(scores == scores.max(axis=1, keepdims=True))
