"""Calibration-conditional conformal p-values on a grid.

Split-conformal p-values are valid on average over calibration sets; over thousands of queries judged against
*one* calibration set the error compounds. Here each grid level tau gets a threshold t(tau) such that, with
probability >= 1 - delta over the calibration draw, P(score > t(tau)) <= tau **for all grid levels at once**.
The p-value of a score is the smallest tau whose threshold it exceeds, else 1.

The threshold is an order statistic: the mass strictly above the k-th largest of n i.i.d. scores is stochastically
at most Beta(k, n - k + 1), ties or not, so k is the largest with
P(Beta(k, n - k + 1) > tau) = P(Bin(n, tau) < k) <= delta / J.

Reference: Bates, Candes, Lei, Romano, Sesia, "Testing for outliers with conformal p-values", Annals of
Statistics 51(1), 2023, sec. 3 (calibration-conditional validity); Wilks 1941 for the order-statistic bound.
Assumes calibration and benign traffic are i.i.d. from one site; drift is reported, not absorbed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from guard.errors import MedwardError
from guard.types import Array

GRID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
STEPS = (1.0, 2.0, 4.0, 8.0)
LEVEL_DECIMALS = 4


def grid_for(n: int, risk: float, steps: tuple[float, ...] = STEPS, most: float = 0.2) -> tuple[float, ...]:
    """The smallest tail that `n` rows can bound at `risk` for each of `steps`, and its multiples, up to `most`."""
    smallest = -math.expm1(math.log(risk / len(steps)) / max(n, 1))
    rounded = math.ceil(smallest * 10**LEVEL_DECIMALS) / 10**LEVEL_DECIMALS
    return tuple(round(step * rounded, LEVEL_DECIMALS) for step in steps if step * rounded <= most)


def tolerance_rank(n: int, tau: float, risk: float) -> int:
    """The largest k with P(Bin(n, tau) < k) <= risk; 0 when even the largest score cannot bound the tail."""
    below, k = 0.0, 0
    while k <= n:
        log_term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(log_term + k * math.log(tau) + (n - k) * math.log1p(-tau))
        if below > risk:
            break
        k += 1
    return k


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Score thresholds, one per usable grid level, strictest (smallest tau) first.

    `levels (J,)` ascending, `cuts (J,)` non-increasing. With probability >= 1 - `risk` over the calibration draw,
    P(score > cuts[j]) <= levels[j] for every j.
    """

    levels: tuple[float, ...]
    cuts: tuple[float, ...]
    risk: float
    n: int

    @classmethod
    def calibrate(cls, scores: Array, *, risk: float, grid: tuple[float, ...] = GRID) -> Thresholds:
        """Learn thresholds from benign `scores (n,)`; levels that n cannot support are dropped.

        Raises `MedwardError` when n supports no level at all.
        """
        n = len(scores)
        ordered = np.sort(np.asarray(scores, np.float64))[::-1]
        if not np.isfinite(ordered).all():
            raise MedwardError("calibration: screen scores must be finite, got NaN or infinity")
        ranks = {tau: tolerance_rank(n, tau, risk / len(grid)) for tau in grid}
        usable = {tau: rank for tau, rank in ranks.items() if rank > 0}
        if not usable:
            need = math.ceil(math.log(risk / len(grid)) / math.log1p(-max(grid)))
            raise MedwardError(f"calibration: {n} benign rows cannot support risk {risk:g}; give at least {need}")
        return cls(
            levels=tuple(usable),
            cuts=tuple(float(ordered[rank - 1]) for rank in usable.values()),
            risk=risk,
            n=n,
        )

    @property
    def fingerprint(self) -> str:
        """Names these thresholds in the states of the monitors that bet on them."""
        return hashlib.blake2b(repr((self.levels, self.cuts)).encode(), digest_size=6).hexdigest()

    def p_values(self, scores: Array) -> Array:
        """Map scores ``(n,)`` to p-values on the grid; NaN is as strange as can be."""
        p = np.ones(len(scores))
        for level, cut in zip(reversed(self.levels), reversed(self.cuts), strict=True):
            p[~(np.asarray(scores, np.float64) <= cut)] = level
        return p
