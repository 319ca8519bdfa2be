"""Probabilities rounded to a few decimals, with the same largest classes."""

from __future__ import annotations

import numpy as np

from guard.release.scores import NDArrayBool
from guard.types import Array


def round_keeping_winners(values: Array, best: NDArrayBool, decimals: int) -> Array:
    """Round ``(n, K)`` to `decimals`; where a loser would tie with the winners, the winners rise by one unit."""
    rounded = np.round(values, decimals)
    top = np.where(best, rounded, -np.inf).max(axis=1, keepdims=True)
    challenger = np.where(best, -np.inf, rounded).max(axis=1, keepdims=True)
    raised = np.where(challenger >= top, np.round(challenger + 10.0**-decimals, decimals), top)
    return np.asarray(np.where(best, raised, rounded))
