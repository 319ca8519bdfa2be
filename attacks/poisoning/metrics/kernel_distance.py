"""Kernel distance: the squared maximum mean discrepancy of two sets of features, unbiased.

Reference: Binkowski et al., "Demystifying MMD GANs", ICLR 2018 (KID), with its polynomial kernel of degree three.
"""

from __future__ import annotations

import numpy as np

from medward.attacks.poisoning.metrics.frechet_distance import check_features
from medward.guard.types import Array


def kernel_distance(real: Array, made: Array) -> float:
    """The discrepancy of features (n, d) and (m, d); its mean is 0 for one distribution, so it may be below.

    Raises `MedwardError` for fewer than two rows or unequal widths.
    """
    check_features(real, made)
    within = _mean_of_pairs(_kernel(real, real)) + _mean_of_pairs(_kernel(made, made))
    return float(within - 2 * _kernel(real, made).mean())


def _kernel(left: Array, right: Array) -> Array:
    return np.asarray((np.asarray(left, np.float64) @ np.asarray(right, np.float64).T / left.shape[1] + 1) ** 3)


def _mean_of_pairs(kernel: Array) -> float:
    """The mean over pairs of different rows."""
    return float((kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)))
