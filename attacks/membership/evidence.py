"""What membership scores are computed from: signals of the model in question, and of models whose rows are known.

Every score of `attacks.membership.scores` reads the same evidence, so a model is asked and shadows are trained once,
whatever the number of scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medward.guard.types import Array

LEAST_VARIANCE = 1e-6  # the least variance that a signal is believed to have


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Evidence is the signal phi ``(n,)`` of rows under the model, ``(K, n)`` under shadows, and who learned what.

    phi is log(p / (1 - p)) for a probability p of what is true; see `attacks.candidates.channels`. `included (K, n)`
    says which shadow learned which row. `features (n, ...)` are the rows as an attacker's own network reads them.
    `population` is the same of rows that the model did not learn, none of which is a candidate.
    """

    phi: Array
    shadows: Array
    included: NDArray[np.bool_]
    features: Array | None = None
    population: Evidence | None = None

    def take(self, rows: NDArray[np.generic]) -> Evidence:
        """The evidence on some of the rows, beside the same population."""
        return Evidence(
            phi=self.phi[rows],
            shadows=self.shadows[:, rows],
            included=self.included[:, rows],
            features=None if self.features is None else self.features[rows],
            population=self.population,
        )

    def without_target(self) -> Evidence | None:
        """The evidence that never saw the model: the first shadow is in its place, or the population's median signal.

        Whoever scores well on it reads the rows and not the model. None when there are too few shadows to spare one,
        and no population.
        """
        if len(self.shadows) > 2:
            population = None if self.population is None else self.population._without_first()
            if population is not None:
                population = population.take(np.flatnonzero(~population.included.all(axis=0)))
            return replace(self._without_first(), population=population)
        if not len(self.shadows) and self.population is not None:
            return replace(self, phi=np.full_like(self.phi, np.median(self.population.phi)))
        return None

    def _without_first(self) -> Evidence:
        return replace(self, phi=self.shadows[0], shadows=self.shadows[1:], included=self.included[1:])


def side_moments(values: Array, mask: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Per column of `values (K, n)` the count, the mean and the sum of squares about it, over rows in `mask`.

    The mean of no rows is NaN.
    """
    count = mask.sum(axis=0)
    mean = np.where(count > 0, np.where(mask, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    squares = (np.where(mask, values - mean, 0.0) ** 2).sum(axis=0)
    return count, mean, squares


def pooled_variance(count: Array, squares: Array) -> float:
    """One variance for all columns: the sums of squares over the degrees of freedom, no less than `LEAST_VARIANCE`."""
    return max(float(squares.sum() / max(np.maximum(count - 1, 0).sum(), 1)), LEAST_VARIANCE)


def regime_gap(phi: Array, shadows: Array) -> float:
    """How much surer a model is of rows ``(n,)`` than shadows ``(K, n)`` that learned half of them, as it did.

    It is the difference of median signals in interquartile ranges of the shadows', over rows that were answered. Far
    from 0 the shadows were not trained as the model was, and a likelihood ratio over both sides misleads.
    """
    known = np.isfinite(phi)
    if not known.any() or not len(shadows):
        return 0.0
    low, middle, high = np.quantile(shadows[:, known], [0.25, 0.5, 0.75])
    return float((np.median(phi[known]) - middle) / max(high - low, LEAST_VARIANCE))
