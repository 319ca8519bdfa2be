"""Release levels: full, rounded, label only, withheld. The set of largest classes is the same at every level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guard.types import Array, Ints, Level, OutputKind

NDArrayBool = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def probabilities(scores: Array, output: OutputKind) -> Array:
    """Scores ``(n, K)`` as float64 probabilities; softmax for logits."""
    scores = np.asarray(scores, np.float64)
    if output == "probabilities":
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def winners(scores: Array) -> NDArrayBool:
    """Which classes are largest, ties included: a mask ``(n, K)``."""
    return np.asarray(scores == scores.max(axis=1, keepdims=True))


def round_keeping_winners(values: Array, best: NDArrayBool, decimals: int) -> Array:
    """Round ``(n, K)`` to `decimals`; where a loser would tie with the winners, the winners rise by one unit."""
    rounded = np.round(values, decimals)
    top = np.where(best, rounded, -np.inf).max(axis=1, keepdims=True)
    challenger = np.where(best, -np.inf, rounded).max(axis=1, keepdims=True)
    raised = np.where(challenger >= top, np.round(challenger + 10.0**-decimals, decimals), top)
    return np.asarray(np.where(best, raised, rounded))


@dataclass(frozen=True, slots=True)
class ReleaseLevels:
    """The output filter. Guarantee: `winners` of what is released equals `winners` of the model's scores."""

    output: OutputKind
    decimals: int = 2
    name: str = "release"

    def labels(self, scores: Array) -> Ints:
        """The model's own decision ``(n,)``: the first largest class."""
        return np.asarray(np.argmax(scores, axis=1), np.int64)

    def release(self, scores: Array, level: Level) -> Array:
        """Scores at `level`: the model's own, rounded probabilities, or NaN."""
        if level is Level.FULL:
            return scores
        if level is Level.ROUNDED:
            return round_keeping_winners(probabilities(scores, self.output), winners(scores), self.decimals)
        return np.full(np.shape(scores), np.nan)
