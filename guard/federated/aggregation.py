"""One aggregate of many updates, in one pass over the model and without a copy of it for each client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.federated.geometry import block_columns
from medward.guard.federated.rules.base import AggregationPlan
from medward.guard.federated.update import ModelParameters, is_learned
from medward.guard.types import Array

_SMALL = 1e-30  # coefficients below it would lose digits in float32


def aggregated(start: ModelParameters, models: Sequence[ModelParameters], plan: AggregationPlan) -> list[np.ndarray]:
    """The new model: `start` and the planned aggregate of what `models` changed in it, in the dtypes of `start`.

    Counters and flags, which cannot be averaged, become the lower median of the models taken.
    No number leaves the range of its dtype: it stops at the largest.
    """
    taken: list[int] = np.flatnonzero(plan.mixing.any(axis=0)).tolist()
    results = _empty_like(start)
    for place, (array, result) in enumerate(zip(start, results, strict=True)):
        sent = [models[row][place] for row in taken]
        if is_learned(array):
            _combine(array, sent, plan, taken, result)
        else:
            result[...] = _lower_median(sent) if sent else array
    return results


def saturated(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`values` in a floating `dtype`; what is beyond its range becomes its largest number, with the sign."""
    most = np.finfo(dtype).max
    return np.asarray(np.clip(values, -most, most).astype(dtype, copy=False))


def _empty_like(start: ModelParameters) -> list[np.ndarray]:
    """Arrays of the forms of `start` in one piece of memory: its pages are large, and come three times as fast."""
    sizes = [-(-array.nbytes // 64) * 64 for array in start]
    ends, memory = np.cumsum(sizes, dtype=np.int64), np.empty(sum(sizes), np.uint8)
    return [
        memory[end - size : end - size + array.nbytes].view(array.dtype).reshape(array.shape)
        for array, size, end in zip(start, sizes, ends, strict=True)
    ]


def _combine(
    origin: np.ndarray,
    sent: Sequence[np.ndarray],
    plan: AggregationPlan,
    taken: list[int],
    result: np.ndarray,
) -> None:
    """Write `origin` with the combined changes into `result`."""
    flat, old, new = [array.reshape(-1) for array in sent], origin.reshape(-1), result.reshape(-1)
    columns = block_columns(len(taken) + 1, origin.size)
    small = plan.mixing[(plan.mixing != 0) & (np.abs(plan.mixing) < _SMALL)]
    held = np.empty((len(taken), columns), np.float64 if small.size else np.promote_types(origin.dtype, np.float32))
    for first in range(0, origin.size, columns):
        part = slice(first, first + columns)
        models, block = [values[part] for values in flat], held[:, : len(old[part])]
        moved = _moved(old[part], models, plan.mixing[:, taken], plan.combine, block)
        if not np.isfinite(moved).all():  # numbers so large that float32 does not hold their differences
            moved = _moved(old[part], models, plan.mixing[:, taken], plan.combine, np.empty(block.shape))
        new[part] = moved if moved.dtype == new.dtype else saturated(moved, new.dtype)


def _moved(
    old: np.ndarray,
    models: Sequence[np.ndarray],
    mixing: Array,
    combine: Callable[[Array], Array],
    changes: NDArray[Any],
) -> NDArray[Any]:
    """`old` and the combined changes, in the precision of `changes` (n, b), which is written to."""
    with np.errstate(over="ignore", invalid="ignore"):
        for row, values in zip(changes, models, strict=True):
            np.subtract(values, old, out=row, dtype=changes.dtype)
        moved = combine(mixing.astype(changes.dtype) @ changes)
        moved += old
    return moved


def _lower_median(sent: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.sort(np.stack(sent), axis=0)[(len(sent) - 1) // 2])
