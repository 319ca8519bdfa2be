"""A second accountant, of other authors and another method, that must agree before a claim is made.

Reference: Gopi, Lee and Wutschitz, "Numerical composition of differential privacy", NeurIPS 2021, as Opacus has it.
"""

from __future__ import annotations

import functools
import warnings

from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra
from medward.guard.statistics.privacy_accounting import GaussianMechanism, spent_epsilon

MOST_APART = 0.01  # relative


@functools.lru_cache(maxsize=64)
def cross_checked_epsilon(mechanism: GaussianMechanism, delta: float) -> float:
    """Epsilon of `mechanism` at `delta`. Raises `MedwardError` where two accountants differ by over a hundredth."""
    first = spent_epsilon(mechanism, delta)
    second = numerical_epsilon(mechanism, delta, error=max(first, 1e-3) * MOST_APART / 4)
    if abs(first - second) > MOST_APART * max(first, second):
        raise MedwardError(
            f"epsilon: two accountants differ, {first:.4g} and {second:.4g} at delta {delta:g}; claim neither, and "
            "train with other settings (more noise, fewer steps)"
        )
    return first


def numerical_epsilon(mechanism: GaussianMechanism, delta: float, *, error: float) -> float:
    """Epsilon of `mechanism` at `delta` by Opacus' accountant, an upper bound within `error`."""
    accountant = require_extra("opacus.accountants", "private").PRVAccountant()
    accountant.history = [
        *((noise, 1.0, 1) for noise in mechanism.other_mechanisms),
        *([(mechanism.noise_multiplier, mechanism.sample_rate, mechanism.steps)] if mechanism.steps else []),
    ]
    if not accountant.history:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, about tails that round to 0
        return float(accountant.get_epsilon(delta, eps_error=error))
