"""How sure the difference of two attacks is that scored the same candidates of the same targets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 300


def difference_interval(
    ours: Array,
    theirs: Array,
    truth: NDArray[np.bool_],
    figures: Callable[[Array, NDArray[np.bool_]], tuple[float, ...]],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Array:
    """The 95 % ends ``(2, k)`` of the mean over targets of ``figures(ours) - figures(theirs)``, k numbers.

    Scores are ``(targets, n)``, NaN for a candidate that an attack does not score. Candidates are drawn anew, each with
    all its scores on all targets: targets share their candidates and are no independent draws.
    """
    rng = np.random.default_rng(seed)
    gaps = [
        np.mean([_gap(ours[t, rows], theirs[t, rows], truth[t, rows], figures) for t in range(len(truth))], axis=0)
        for rows in (rng.integers(truth.shape[1], size=truth.shape[1]) for _ in range(resamples))
    ]
    return np.quantile(gaps, [0.025, 0.975], axis=0)


def _gap(
    ours: Array,
    theirs: Array,
    truth: NDArray[np.bool_],
    figures: Callable[[Array, NDArray[np.bool_]], tuple[float, ...]],
) -> Array:
    first, second = (
        np.array(figures(scores[known], truth[known]))
        for scores, known in ((ours, ~np.isnan(ours)), (theirs, ~np.isnan(theirs)))
    )
    return first - second
