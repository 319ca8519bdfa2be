"""Calibration-conditional conformal p-values on a grid.

Split-conformal p-values are valid on average over calibration sets; over thousands of queries judged against
*one* calibration set the error compounds. Here each grid level tau gets a threshold t(tau) such that, with
probability >= 1 - delta over the calibration draw, P(score > t(tau)) <= tau **for all grid levels at once**.
The p-value of a score is the smallest tau whose threshold it exceeds, else 1.

The threshold is an order statistic: the mass strictly above the k-th largest of n i.i.d. scores is stochastically
at most Beta(k, n - k + 1), ties or not, so k is the largest with
P(Beta(k, n - k + 1) > tau) = P(Bin(n, tau) < k) <= delta_j, the delta_j summing to delta.

Reference: Bates, Candes, Lei, Romano, Sesia, "Testing for outliers with conformal p-values", Annals of
Statistics 51(1), 2023, sec. 3 (calibration-conditional validity); Wilks 1941 for the order-statistic bound.
Assumes calibration and benign traffic are i.i.d. from one site; drift is reported, not absorbed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.statistics.binomial import tolerance_rank
from medward.guard.types import Array, Ints

_FIRST = 0.7  # of the risk goes to the smallest level, the others share the rest: what is far out decides soonest
_MOST = 0.2  # the largest level
_STEPS = (1.0, 2.0, 4.0, 8.0)
LEVEL_DECIMALS = 4
CAUTION = 1.5  # a level within a rare class is held to that much less
LARGEST = 0.25  # level within a class that its rows must be able to bound


def grid_for(n: int, risk: float, steps: tuple[float, ...] = _STEPS, most: float = _MOST) -> tuple[float, ...]:
    """The smallest tail that `n` rows can bound at its part of `risk`, and its multiples, up to `most`."""
    smallest = -math.expm1(math.log(split_risk(risk, len(steps))[0]) / max(n, 1))
    rounded = math.ceil(smallest * 10**LEVEL_DECIMALS) / 10**LEVEL_DECIMALS
    return tuple(round(step * rounded, LEVEL_DECIMALS) for step in steps if step * rounded <= most)


def split_risk(risk: float, count: int) -> tuple[float, ...]:
    """The part of `risk` that each of `count` levels may spend, from the smallest level on."""
    return (risk,) if count == 1 else (_FIRST * risk, *[(1 - _FIRST) * risk / (count - 1)] * (count - 1))


def rows_needed(risk: float) -> int:
    """How few rows can bound a tail of `_MOST` at `risk`."""
    return math.ceil(math.log(split_risk(risk, len(_STEPS))[0]) / math.log1p(-_MOST))


def rank_within(n: int, level: float) -> int:
    """Which of the `n` largest scores of one class cuts off `level` of it, with `CAUTION`; 0 when none does."""
    return int(level * (n + 1) / CAUTION + 1e-9)


def raised_cut(cut: float, known: Array, level: float) -> float:
    """`cut`, or what cuts off `level` of one class, whose scores are ``known (n,)``, where that is higher.

    Where the class has too few rows for the level it is the largest of its scores, which cuts off `level_within`.
    """
    if not len(known):
        return cut
    place = len(known) - max(1, rank_within(len(known), level))
    return max(cut, float(np.partition(known, place)[place]))


def level_within(n: int, level: float) -> float:
    """How often, `CAUTION` times, an input of a class of `n` rows exceeds a cut that is `raised_cut` for `level`."""
    return level if rank_within(n, level) else min(1.0, CAUTION / (n + 1))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Score thresholds, one per usable grid level, strictest (smallest tau) first.

    `levels (J,)` ascending, `cuts (J,)` non-increasing. With probability >= 1 - `risk` over the calibration draw,
    P(score > cuts[j]) <= levels[j] for every j. `rare` are what the levels are in the strata 1, 2, ...
    """

    levels: tuple[float, ...]
    cuts: tuple[float, ...]
    risk: float
    n: int
    rare: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def calibrate(cls, scores: Array, *, risk: float, grid: tuple[float, ...] = ()) -> Thresholds:
        """Learn thresholds from benign `scores (n,)` on `grid`, else on the finest that n supports.

        Raises `MedwardError` when n supports no level at all.
        """
        n = len(scores)
        ordered = np.sort(np.asarray(scores, np.float64))[::-1]
        if not np.isfinite(ordered).all():
            raise MedwardError("calibration: screen scores must be finite, got NaN or infinity")
        grid = grid or grid_for(n, risk)
        spent = split_risk(risk, len(grid)) if grid else ()
        ranks = {tau: tolerance_rank(n, tau, part) for tau, part in zip(grid, spent, strict=True)}
        usable = {tau: rank for tau, rank in ranks.items() if rank > 0}
        if not usable:
            need = rows_needed(risk)
            raise MedwardError(f"calibration: {n} benign rows cannot support risk {risk:g}; give at least {need}")
        return cls(
            levels=tuple(usable),
            cuts=tuple(float(ordered[rank - 1]) for rank in usable.values()),
            risk=risk,
            n=n,
        )

    @classmethod
    def stratified(cls, scores: Array, strata: Ints, count: int, *, risk: float) -> Thresholds:
        """`calibrate`, and in each of the `count` `strata (n,)` of benign `scores (n,)` how likely a cut is exceeded.

        That is c (h + 1) / (m + 1) where h of its m rows exceed it and c is `CAUTION`: on average over calibration
        draws a benign input of the stratum exceeds it 1 / c as often.
        """
        own = [scores[strata == stratum] for stratum in range(1, count)]
        found = cls.calibrate(scores, risk=risk)
        rare = tuple(
            tuple(min(1.0, CAUTION * (int((each > cut).sum()) + 1) / (len(each) + 1)) for cut in found.cuts)
            for each in own
        )
        return replace(found, rare=rare)

    @property
    def fingerprint(self) -> str:
        """Names these thresholds in the states of the monitors that bet on them."""
        what = (self.levels, self.cuts, *([self.rare] if self.rare else []))
        return hashlib.blake2b(repr(what).encode(), digest_size=6).hexdigest()

    def p_values(self, scores: Array) -> Array:
        """Map scores ``(n,)`` to p-values on the grid; NaN is as strange as can be."""
        cuts, p_values = _steps(self.levels, self.cuts)
        found: Array = p_values[cuts.searchsorted(scores)]  # by how many cuts are below each score: for NaN, all
        return found


@lru_cache(256)
def _steps(levels: tuple[float, ...], cuts: tuple[float, ...]) -> tuple[Array, Array]:
    """Cuts, ascending, and the p-value of a score that exceeds none of them, one, ..., all."""
    return np.array(cuts[::-1], np.float64), np.array([1.0, *reversed(levels)])
