"""Probabilities rounded to a few decimals, with the same decision: the largest classes, or the side of a threshold."""

from __future__ import annotations

import math

import numpy as np

from medward.guard.release.scores import NDArrayBool
from medward.guard.types import Array


def round_keeping_winners(values: Array, best: NDArrayBool, decimals: int) -> Array:
    """Round ``(n, K)`` to `decimals`; where a loser would tie with the winners, the winners rise by one unit."""
    rounded = np.round(values, decimals)
    top = np.where(best, rounded, -np.inf).max(axis=1, keepdims=True)
    challenger = np.where(best, -np.inf, rounded).max(axis=1, keepdims=True)
    raised = np.where(challenger >= top, np.round(challenger + 10.0**-decimals, decimals), top)
    return np.asarray(np.where(best, raised, rounded))


def round_keeping_side(values: Array, positive: NDArrayBool, threshold: float, decimals: int) -> Array:
    """Round ``(n, 2)`` to `decimals`, on the side of the threshold that the mask `positive (n,)` says; rows sum to 1.

    Where the nearest step of the second class lies on the other side, the last step on the right one leaves: there
    always is one, for 0 is below every threshold and 1 above.
    """
    steps = int(10**decimals)
    least = math.ceil(threshold * steps)  # the first step that reads as positive, but for an error of the product
    least += int(least / steps < threshold) - int((least - 1) / steps >= threshold)
    nearest = np.round(np.asarray(values, np.float64)[:, 1] * steps)
    chosen = np.where(positive, np.maximum(nearest, least), np.minimum(nearest, least - 1))
    return np.stack([(steps - chosen) / steps, chosen / steps], axis=1)
