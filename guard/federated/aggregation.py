"""One aggregate of many updates, in one pass over the model and without a copy of it for each client."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.guard.federated.geometry import BLOCK, Floats, Geometry, update_blocks
from medward.guard.federated.rules.base import Plan
from medward.guard.federated.update import Parameters, is_learned


def round_geometry(start: Parameters, models: Sequence[Parameters], history: Floats | None = None) -> Geometry:
    """The geometry of what `models` changed in `start`; a reference model, where there is one, comes last."""
    return Geometry(lambda: update_blocks(start, models), len(models), history)


def aggregated(start: Parameters, models: Sequence[Parameters], plan: Plan) -> list[np.ndarray]:
    """The new model: `start` and the planned aggregate of what `models` changed in it, in the dtypes of `start`.

    Counters and flags, which cannot be averaged, become the median of the clients'.
    """
    return [
        _combined(array, [np.asarray(model[place]) for model in models], plan)
        if is_learned(array)
        else np.median([model[place] for model in models], axis=0).astype(array.dtype)
        for place, array in enumerate(start)
    ]


def _combined(origin: np.ndarray, sent: Sequence[np.ndarray], plan: Plan) -> np.ndarray:
    result = np.empty(origin.size, dtype=origin.dtype)
    flat, old = [array.reshape(-1) for array in sent], origin.reshape(-1)
    for first in range(0, origin.size, BLOCK):
        part = slice(first, first + BLOCK)
        if plan.weights is not None:
            result[part] = _weighted(old[part], [array[part] for array in flat], plan.weights)
        else:
            changes = np.stack([array[part] for array in flat]).astype(np.float64) - old[part]
            result[part] = old[part] + plan.combine(plan.mixing @ changes)
    return result.reshape(origin.shape)


def _weighted(old: np.ndarray, sent: Sequence[np.ndarray], weights: Floats) -> Floats:
    """The weighted sum of changes to `old`, added to it: clients of weight zero are not read."""
    total = old * (1 - weights.sum())
    step = np.empty(len(old))
    for array, weight in zip(sent, weights, strict=True):
        if weight != 0:
            total += np.multiply(array, weight, out=step, dtype=np.float64)
    return total
