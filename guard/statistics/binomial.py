"""Exact binomial tails, and the bounds on rates that follow from them.

Reference: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26, 1934; Wilks 1941 for the rank of a tolerance limit.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from medward.guard.types import Array

_BISECTIONS = 50
_SMALL_RISK = 0.05  # up to which all risks share what was added up


def log_tail(hits: int, n: int, p: float) -> float:
    """Log of P(Bin(n, p) >= hits)."""
    if hits <= 0 or p >= 1:
        return 0.0
    if hits > n or p <= 0:
        return -math.inf
    if hits <= n * p:
        return math.log1p(-math.exp(log_tail(n - hits + 1, n, 1 - p)))
    known = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    first = known + hits * math.log(p) + (n - hits) * math.log1p(-p)
    term = total = 1.0
    for k in range(hits, n):
        term *= (n - k) / (k + 1) * p / (1 - p)
        total += term
        if term < 1e-17 * total:
            break
    return min(0.0, first + math.log(total))


def rate_limits(hits: int, n: int, risk: float = 0.05) -> tuple[float, float]:
    """Exact two-sided limits of a rate, `hits` of `n` independent queries."""
    return (_lower(hits, n, risk / 2), 1 - _lower(n - hits, n, risk / 2)) if n else (0.0, 1.0)


def tolerance_rank(n: int, tau: float, risk: float) -> int:
    """The largest k with P(Bin(n, tau) < k) <= risk; 0 when even the largest score cannot bound the tail."""
    return bisect_right(_lower_tails(n, tau, _SMALL_RISK if risk <= _SMALL_RISK else 1.0), risk)


@lru_cache(128)
def _lower_tails(n: int, tau: float, most: float) -> Sequence[float]:
    """P(Bin(n, tau) <= k) for k = 0, 1, ..., n, up to the first that is above `most`."""
    below, tails = 0.0, array("d")
    for k in range(n + 1):
        log_term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(log_term + k * math.log(tau) + (n - k) * math.log1p(-tau))
        tails.append(below)
        if below > most:
            break
    return tails


@lru_cache(64)
def upper_bounds(counts: tuple[int, ...], risk: float) -> Array:
    """Bounds ``(K,)`` above all K probabilities at once, with probability 1 - `risk` over multinomial `counts`."""
    n, c = sum(counts), np.array(counts)
    known = np.array([math.lgamma(i + 1) for i in range(n + 1)])
    binomials = known[n] - known - known[::-1]
    low, high = np.zeros(len(c)), np.ones(len(c))
    i = np.arange(n + 1)
    for _ in range(_BISECTIONS):
        p = np.clip((low + high) / 2, 1e-12, 1 - 1e-12)
        terms = np.exp(binomials + i * np.log(p)[:, None] + (n - i) * np.log1p(-p)[:, None])
        below = np.where(i <= c[:, None], terms, 0).sum(axis=1)
        low, high = np.where(below > risk / len(c), p, low), np.where(below > risk / len(c), high, p)
    return np.where(c == n, 1.0, high)


def _lower(hits: int, n: int, risk: float) -> float:
    low, high = 0.0, hits / n
    for _ in range(_BISECTIONS if hits else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if log_tail(hits, n, middle) < math.log(risk) else (low, middle)
    return low
