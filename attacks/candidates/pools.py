"""Pools of confidences (`guard.release.pooling`), read off released answers, so that shadows can be pooled alike.

The surest answers of a decision share one value, and none is above it. That shows: so many at the largest value, and
nothing just below.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medward.guard.release.pooling import ConfidencePools, pool_side, pool_winners
from medward.guard.release.quantise import LEAST_ROWS
from medward.guard.release.scores import largest_classes
from medward.guard.tasks.decision import decisions
from medward.guard.types import Array, Ints

_GAP = 2.5  # steps of rounding below a pool, in which nothing is


def read_pools(
    likely: Array, threshold: float | Sequence[float] | None, decimals: int | None
) -> ConfidencePools | None:
    """The pools behind released probabilities ``(n, K)``, rounded to `decimals`; None where none shows.

    Exact answers have none: pools come before rounding.

    A `threshold` for each column says that these are findings. A decision whose answers show no pool has one that
    changes nothing.
    """
    if decimals is None or not len(likely):
        return None
    own, decided = decided_confidences(likely, threshold)
    sides = likely.shape[1] if threshold is None or isinstance(threshold, float) else 2
    step = 10.0**-decimals
    found = np.array([[_pool_of(own[m, decided[m] == side], step) for side in range(sides)] for m in range(len(own))])
    cuts, means = found[..., 0], found[..., 1]
    return ConfidencePools(cuts, means, 1.0) if (cuts < 1).any() else None


def pool_values(values: Array, threshold: float | Sequence[float] | None, pools: ConfidencePools) -> Array:
    """Exact probabilities ``(..., K)`` as a release with `pools` would have pooled them."""
    rows = values.reshape(-1, values.shape[-1])
    if threshold is None:
        pooled = pool_winners(rows, largest_classes(rows), pools)
    elif isinstance(threshold, float):
        pooled = pool_side(rows, decisions(rows, "probabilities", threshold) == 1, threshold, pools)
    else:
        pairs = (np.stack([1 - each, each], axis=1) for each in rows.T)
        pooled = np.stack(
            [
                pool_side(pair, pair[:, 1] >= point, point, pools, column)[:, 1]
                for column, (pair, point) in enumerate(zip(pairs, threshold, strict=True))
            ],
            axis=1,
        )
    return np.asarray(pooled.reshape(values.shape))


def pooled_rows(likely: Array, threshold: float | Sequence[float] | None, pools: ConfidencePools) -> NDArray[np.bool_]:
    """Which released rows ``(n,)`` hold a confidence of a pool, so that a change of the input may tell more."""
    own, decided = decided_confidences(likely, threshold)
    columns = np.arange(len(own))[:, None]
    inside = (own >= pools.cuts[columns, decided]) & (pools.cuts[columns, decided] < 1)
    return np.asarray(inside.any(axis=0))


def decided_confidences(likely: Array, threshold: float | Sequence[float] | None) -> tuple[Array, Ints]:
    """The probability ``(m, n)`` of what each row decided, and the decision: one column of classes, or each finding."""
    if threshold is None or isinstance(threshold, float):
        decided = decisions(likely, "probabilities", threshold)
        return likely[np.arange(len(likely)), decided][None], decided[None]
    present = likely >= np.asarray(threshold)
    return np.where(present, likely, 1 - likely).T, present.T.astype(np.int64)


def _pool_of(confidences: Array, step: float) -> tuple[float, float]:
    """The cut and the value of a pool; (1, 1), which changes nothing, where no pool shows."""
    if not len(confidences):
        return 1.0, 1.0
    top = float(confidences.max())
    inside = confidences > top - step / 2
    below = float(confidences[~inside].max(initial=0.0))
    if inside.sum() < LEAST_ROWS or top - below < _GAP * step:
        return 1.0, 1.0
    return below + step / 2, top
