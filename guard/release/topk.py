"""Only the k largest rounded probabilities leave; NaN, null over HTTP, stands for every other class.

A share of the rest would read like something the model said of that class. Null cannot be misread. Ties for the first
place all leave, be they more than k; of classes that tie for the last place, the first ones in the model's order do.
"""

from __future__ import annotations

import numpy as np

from medward.guard.release.scores import NDArrayBool
from medward.guard.types import Array


def keep_top(values: Array, best: NDArrayBool, k: int) -> Array:
    """`values (n, K)` where they are among a row's k largest or in the mask `best (n, K)`; NaN elsewhere.

    `best` must hold a row's largest values, or the class it decides. What leaves depends on `values` and `best` alone.
    """
    order = np.argsort(-values, axis=1, kind="stable")
    places = np.argsort(order, axis=1, kind="stable")
    return np.asarray(np.where((places < k) | best, values, np.nan))


def spread_rest(scores: Array) -> Array:
    """A client's best guess ``(n, K)`` at rows of which only some classes left: the others share the rest of 1 evenly.

    Every share is below the smallest value shown, or 0 where that is 0, so that the largest classes stay what they are.
    Other rows stay as they are, those of which nothing left too.
    """
    hidden = np.isnan(scores)
    part = hidden.any(axis=1, keepdims=True) & ~hidden.all(axis=1, keepdims=True)
    shown = np.where(hidden, 0.0, scores)
    rest = np.clip(1 - shown.sum(axis=1, keepdims=True), 0.0, None) / np.maximum(hidden.sum(axis=1, keepdims=True), 1)
    least = np.where(hidden, np.inf, scores).min(axis=1, keepdims=True)
    share = np.maximum(0.0, np.minimum(rest, np.nextafter(least, -np.inf)))
    return np.asarray(np.where(hidden & part, share, scores))
