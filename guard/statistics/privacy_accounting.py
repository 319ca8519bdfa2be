"""What a training with differential privacy spent: epsilon at delta, noise for a target, and ceilings on any attacker.

Everything is read from the privacy loss distribution of the Poisson-subsampled Gaussian mechanism under adding or
removing one unit, composed over the steps and rounded against the claim. The library is imported where it is used:
serving needs none of this.

References: Abadi et al., "Deep learning with differential privacy", CCS 2016 (the mechanism). Doroshenko et al.,
"Connect the dots: tighter discrete approximations of privacy loss distributions", PoPETs 2022 (the accountant, as
dp-accounting has it). Dong, Roth and Su, "Gaussian differential privacy", JRSS B 2022 (the trade-off curve).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

from medward.guard.certificate import PrivacyCertificate
from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra

ACCOUNTANT = "privacy loss distribution (dp-accounting)"
MOST_DELTA = 1e-5
_INTERVAL, _COARSE = 1e-4, 1e-3  # of the discretised privacy loss, when it is read and while noise is searched for
_PRECISION = 1e-3  # relative, of calibrated noise
_CLAIMED = 0.01  # relative: how far accountants may differ
_LEAST_NOISE, _MOST_NOISE = 0.1, 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianMechanism:
    """A Gaussian mechanism adds noise of `noise_multiplier` clips to a sum over a Poisson sample, `steps` times.

    Each unit is in a sample with probability `sample_rate`, apart from all others. `other_mechanisms` are noise
    multipliers of Gaussian mechanisms that looked at all units once.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    other_mechanisms: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for value in (self.noise_multiplier, *self.other_mechanisms):
            if not 0 < value < math.inf:
                raise MedwardError(f"noise multiplier: must be a finite number above 0, got {value:g}")
        if not 0 < self.sample_rate <= 1:
            raise MedwardError(f"sample rate: must be above 0 and at most 1, got {self.sample_rate:g}")
        if self.steps < 0:
            raise MedwardError(f"steps: must be 0 or more, got {self.steps}")


def certified_mechanism(certificate: PrivacyCertificate) -> GaussianMechanism:
    """The mechanism that a certificate says was run."""
    return GaussianMechanism(
        noise_multiplier=certificate.noise_multiplier,
        sample_rate=certificate.sample_rate,
        steps=certificate.steps,
        other_mechanisms=certificate.other_mechanisms,
    )


def check_claim(certificate: PrivacyCertificate) -> None:
    """Refuse a certificate that claims less than the mechanism it names spends, as one that was edited may."""
    spent = spent_epsilon(certified_mechanism(certificate), certificate.delta)
    if spent > certificate.epsilon * (1 + _CLAIMED):
        raise MedwardError(
            f"certificate: claims epsilon {certificate.epsilon:.4g} at delta {certificate.delta:g}, and the mechanism "
            f"that it names spends {spent:.4g}; protect the model anew with the certificate that training wrote"
        )


def spent_epsilon(mechanism: GaussianMechanism, delta: float, *, quickly: bool = False) -> float:
    """The epsilon that `mechanism` has at `delta`, rounded against the claim; 0 where nothing ran.

    `quickly` rounds on a coarser grid, in a tenth of the time, as is enough while a training runs.
    """
    _check_delta(delta)
    loss = _privacy_loss(mechanism, _COARSE if quickly else _INTERVAL)
    return 0.0 if loss is None else float(loss.get_epsilon_for_delta(delta))


@functools.lru_cache(maxsize=64)
def calibrated_noise(
    target_epsilon: float,
    delta: float,
    *,
    sample_rate: float,
    steps: int,
    other_mechanisms: tuple[float, ...] = (),
) -> float:
    """The least noise multiplier, to a thousandth, under which `steps` spend at most `target_epsilon` at `delta`.

    Raises `MedwardError` for a target that no noise reaches, as where `other_mechanisms` alone spend more.
    """
    if not 0 < target_epsilon < math.inf:
        raise MedwardError(f"target epsilon: must be a finite number above 0, got {target_epsilon:g}")
    given = GaussianMechanism(
        noise_multiplier=_MOST_NOISE, sample_rate=sample_rate, steps=steps, other_mechanisms=other_mechanisms
    )

    def reaches(noise: float, interval: float | None = None) -> bool:
        tried = _privacy_loss(replace(given, noise_multiplier=noise), interval or _COARSE)
        return bool(tried is None or tried.get_epsilon_for_delta(delta) <= target_epsilon)

    _check_delta(delta)
    if not reaches(_MOST_NOISE):
        raise MedwardError(
            f"target epsilon: {target_epsilon:g} at delta {delta:g} is not reached by any noise multiplier up to "
            f"{_MOST_NOISE:g} over {steps} steps; ask for more, or take fewer steps and fewer other mechanisms"
        )
    high = 1.0
    while not reaches(high):
        high *= 2
    low = high / 2
    while low > _LEAST_NOISE and reaches(low):
        low, high = low / 2, low
    while high > low * (1 + _PRECISION):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if reaches(middle) else (middle, high)
    while not reaches(high, _INTERVAL):
        high *= 1 + _PRECISION
    return high


def true_positive_ceiling(mechanism: GaussianMechanism, false_positive_rate: float) -> float:
    """The highest true positive rate that any test for one unit has at `false_positive_rate`, whatever it knows.

    By the trade-off curve of the whole mechanism, whose supporting lines are its (epsilon, delta) at every epsilon; one
    such pair alone bounds much less.
    """
    if not 0 <= false_positive_rate <= 1:
        raise MedwardError(f"false positive rate: must be from 0 to 1, got {false_positive_rate:g}")
    ceiling: float = 1.0
    for epsilon, delta in _profile(mechanism):
        above = delta + math.exp(epsilon) * false_positive_rate
        below = 1 - math.exp(-epsilon) * (1 - false_positive_rate - delta)
        ceiling = min(ceiling, above, below)
    return float(max(ceiling, false_positive_rate))


def automatic_delta(units: int) -> float:
    """The delta for so many units where none is said: 1e-5, or 1 / (10 n^1.1) where that is less."""
    return min(MOST_DELTA, 1 / (10 * math.pow(units, 1.1)))


def check_delta(delta: float, units: int) -> None:
    """Refuse a `delta` under which revealing one of `units` whole would count as private."""
    _check_delta(delta)
    if delta >= 1 / units:
        raise MedwardError(
            f"delta: must be below 1 / {units} units = {1 / units:.2g}, got {delta:g}; leave it out for "
            f"{automatic_delta(units):.2g}"
        )


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise MedwardError(f"delta: must be above 0 and below 1, got {delta:g}")


@functools.lru_cache(maxsize=64)
def _profile(mechanism: GaussianMechanism) -> tuple[tuple[float, float], ...]:
    """(epsilon, delta) pairs from epsilon 0 to where delta is next to nothing."""
    loss = _privacy_loss(mechanism)
    if loss is None:
        return ((0.0, 0.0),)
    most = max(float(loss.get_epsilon_for_delta(1e-12)), 1e-3)
    grid = [most * place / 2000 for place in range(2001)]
    return tuple(zip(grid, map(float, loss.get_delta_for_epsilon(grid)), strict=True))


@functools.lru_cache(maxsize=64)
def _privacy_loss(mechanism: GaussianMechanism, interval: float = _INTERVAL) -> Any:
    """The privacy loss distribution of `mechanism`; None where nothing ran."""
    parts = [_one_step(noise, 1.0, interval) for noise in mechanism.other_mechanisms]
    if mechanism.steps:
        one = _one_step(mechanism.noise_multiplier, mechanism.sample_rate, interval)
        parts.append(one.self_compose(mechanism.steps))
    return functools.reduce(lambda first, second: first.compose(second), parts) if parts else None


@functools.lru_cache(maxsize=16)
def _one_step(noise_multiplier: float, sample_rate: float, interval: float) -> Any:
    """The privacy loss distribution of one step."""
    library = require_extra("dp_accounting.pld.privacy_loss_distribution", "private")
    return library.from_gaussian_mechanism(
        standard_deviation=noise_multiplier, sampling_prob=sample_rate, value_discretization_interval=interval
    )
