"""Frechet distance between the normal distributions that fit two sets of features.

Reference: Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", NeurIPS
2017.
"""

from __future__ import annotations

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.types import Array


def frechet_distance(real: Array, made: Array) -> float:
    """The squared distance of the means plus that of the covariances (n, d), 0 for equal ones.

    With few rows it is biased upwards: read it beside `real_floor`. NaN where a feature is not finite. Raises
    `MedwardError` for fewer than two rows or unequal widths.
    """
    check_features(real, made)
    if not (np.isfinite(real).all() and np.isfinite(made).all()):
        return float("nan")
    (mean, spread), (other, width) = (_moments(np.asarray(each, np.float64)) for each in (real, made))
    root = _root(spread)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ width @ root), 0)).sum()
    return max(0.0, float((mean - other) @ (mean - other) + np.trace(spread) + np.trace(width) - 2 * shared))


def check_features(real: Array, made: Array) -> None:
    """Raise `MedwardError` unless both are matrices of two rows or more and of one width."""
    if real.ndim != 2 or made.ndim != 2 or real.shape[1] != made.shape[1] or min(len(real), len(made)) < 2:
        raise MedwardError(
            f"features: needs two matrices of 2 rows or more with as many columns, got {real.shape} and {made.shape}"
        )


def _moments(features: Array) -> tuple[Array, Array]:
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
