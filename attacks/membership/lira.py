"""LiRA: is the model surer of this record than models that never saw it, and as sure as models that did?

The signal phi of a record under shadow models is close to a Gaussian, one for those that learned it and one for those
that did not. Offline the score is how far the model's phi lies in the upper tail of the second; online it is the log
likelihood ratio of the two.

Reference: Carlini, Chien, Nasr, Song, Terzis and Tramer, "Membership inference attacks from first principles", IEEE S&P
2022, with one pooled variance a side when shadows are few.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from medward.attacks.membership.evidence import LEAST_VARIANCE, Evidence, pooled_variance, side_moments
from medward.guard.types import Array

FEW = 32
"""With fewer shadows of a side than this, a variance for each record is too noisy."""


def offline_lira(evidence: Evidence) -> Array:
    """The score -log Pr[N(mean, variance) > phi] ``(n,)`` under Gaussians of the shadows that did not learn a row."""
    mean, variance = fit_side(evidence.shadows, ~evidence.included)
    return np.asarray(-log_ndtr(-(evidence.phi - mean) / np.sqrt(variance)))


def online_lira(evidence: Evidence) -> Array:
    """The score log N(phi; in) - log N(phi; out) ``(n,)``, each side fitted to the shadows of that side."""
    inside = fit_side(evidence.shadows, evidence.included)
    outside = fit_side(evidence.shadows, ~evidence.included)
    return gaussian_log_density(evidence.phi, *inside) - gaussian_log_density(evidence.phi, *outside)


def fit_side(shadows: Array, mask: NDArray[np.bool_]) -> tuple[Array, Array]:
    """The mean and variance ``(n,)`` of phi over the shadows in `mask (K, n)`; one pooled variance below `FEW`."""
    count, mean, squares = side_moments(shadows, mask)
    if count.min(initial=len(shadows)) < FEW:
        return mean, np.full(mean.shape, pooled_variance(count, squares))
    return mean, np.maximum(squares / (count - 1), LEAST_VARIANCE)


def gaussian_log_density(values: Array, mean: Array, variance: Array) -> Array:
    """The log density ``(n,)`` of Gaussians."""
    return np.asarray(-0.5 * (np.log(2 * np.pi * variance) + (values - mean) ** 2 / variance))
