"""One aggregate of many updates, in one pass over the model and without a copy of it for each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.federated.geometry import block_columns
from medward.guard.federated.rules.base import AggregationPlan
from medward.guard.federated.update import Parameters, is_learned


def aggregated(start: Parameters, models: Sequence[Parameters], plan: AggregationPlan) -> list[np.ndarray]:
    """The new model: `start` and the planned aggregate of what `models` changed in it, in the dtypes of `start`.

    Counters and flags, which cannot be averaged, become the lower median of the models taken.
    No number leaves the range of its dtype: it stops at the largest.
    """
    taken = np.flatnonzero(plan.mixing.any(axis=0))
    return [_combined(array, [model[place] for model in models], plan, taken) for place, array in enumerate(start)]


def saturated(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`values` in a floating `dtype`; what is beyond its range becomes its largest number, with the sign."""
    most = np.finfo(dtype).max
    return np.asarray(np.clip(values, -most, most).astype(dtype, copy=False))


def _combined(
    origin: np.ndarray, sent: Sequence[np.ndarray], plan: AggregationPlan, taken: NDArray[np.intp]
) -> np.ndarray:
    if not is_learned(origin):
        return _lower_median(origin, [sent[row] for row in taken])
    flat, old = [sent[row].reshape(-1) for row in taken], origin.reshape(-1)
    mixing = plan.mixing[:, taken]
    rest = 1 - float(mixing.sum())
    columns = block_columns(len(taken) + 1, origin.size)
    held = np.empty((len(taken), columns))
    result = np.empty(origin.size, dtype=origin.dtype)
    for first in range(0, origin.size, columns):
        part = slice(first, first + columns)
        own, block = old[part].astype(np.float64), held[:, : len(old[part])]
        for row, values in zip(block, flat, strict=True):
            row[...] = values[part]
        if plan.weights is not None:  # of the models themselves, which saves a subtraction
            own *= rest
            own += mixing[0] @ block
        else:
            block -= own
            own += plan.combine(mixing @ block)
        result[part] = saturated(own, origin.dtype)
    return result.reshape(origin.shape)


def _lower_median(origin: np.ndarray, sent: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.sort(np.stack(sent), axis=0)[(len(sent) - 1) // 2] if sent else origin.copy())
