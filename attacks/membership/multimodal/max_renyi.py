"""MaxRényi-K %: where a model is least sure of what follows, is it still surer than of what it never saw?

The Rényi entropy of order alpha of a prediction p is log(sum p^alpha) / (1 - alpha); 1 is Shannon's, infinity
-log max p. The score needs no ground truth, so it works on the rows of an image, which have no words.

Reference: Li, Wu, Chen, Tonin, Abad Rocamora and Cevher, "Membership inference attacks against large vision-language
models", NeurIPS 2024, sec. 5.1; clamping and rounding of K as their code does.
"""

from __future__ import annotations

import math

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.types import Array

RENYI_ORDERS = (0.5, 1.0, 2.0, math.inf)
LARGEST_PERCENTS = (0, 10, 100)
_LEAST = 1e-10  # of a probability


def max_renyi_score(probabilities: Array, *, alpha: float, percent: float) -> float:
    """Minus the mean of the largest `percent` % of the entropies of ``probabilities (T, V)``; larger says member.

    At 0 % it is the largest alone.
    """
    return -largest_mean(renyi_entropies(probabilities, alpha), percent)


def renyi_entropies(probabilities: Array, alpha: float) -> Array:
    """The Rényi entropy ``(T,)`` in nats of each row of ``probabilities (T, V)``, clamped.

    It falls with `alpha`, from log V for an even guess at most to 0 for a sure one, but for the clamping.
    Raises `MedwardError` unless alpha > 0.
    """
    if not alpha > 0:
        raise MedwardError(f"renyi entropy: alpha must be above 0, got {alpha}; 1 is Shannon's entropy")
    p = clamped_probabilities(probabilities)
    if math.isinf(alpha):
        return np.asarray(-np.log(p.max(axis=1)))
    if alpha == 1:
        return np.asarray(-(p * np.log(p)).sum(axis=1))
    return np.asarray(np.log((p**alpha).sum(axis=1)) / (1 - alpha))


def clamped_probabilities(probabilities: Array) -> Array:
    """Probabilities ``(T, V)`` in double precision, each at least 1e-10 from 0 and 1; refuses none, and NaN."""
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not p.size or np.isnan(p).any():
        raise MedwardError(f"renyi entropy: needs rows of probabilities without NaN, got shape {p.shape}")
    return np.clip(p, _LEAST, 1 - _LEAST)


def largest_mean(values: Array, percent: float) -> float:
    """The mean of the largest `percent` % of ``values (T,)``, their count rounded down, but of one at least."""
    if not 0 <= percent <= 100:
        raise MedwardError(f"largest share: percent must lie between 0 and 100, got {percent}")
    count = max(1, int(len(values) * percent / 100))
    return float(np.sort(values)[-count:].mean())
