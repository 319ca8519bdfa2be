"""Epsilon, calibrated noise and the ceilings of the trade-off curve, against figures that others computed."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
from support.certificates import privacy_certificate

from medward.guard.errors import MedwardError
from medward.guard.statistics.privacy_accounting import (
    GaussianMechanism,
    automatic_delta,
    calibrated_noise,
    check_claim,
    check_delta,
    spent_epsilon,
    true_positive_ceiling,
)

DELTA = 1e-5
NORMAL = NormalDist()


def mechanism(noise=1.0, rate=0.05, steps=300, other=()):
    return GaussianMechanism(noise_multiplier=noise, sample_rate=rate, steps=steps, other_mechanisms=other)


@pytest.mark.parametrize(  # measured with riskcal 1.5.1
    ("noise", "epsilon", "ceilings"), [(1.0, 5.80, (0.027, 0.116, 0.422)), (1.5, 2.89, (0.008, 0.048, 0.263))]
)
def test_epsilon_and_ceilings_are_those_of_another_implementation(noise, epsilon, ceilings):
    assert spent_epsilon(mechanism(noise), DELTA) == pytest.approx(epsilon, abs=0.006)
    found = [true_positive_ceiling(mechanism(noise), rate) for rate in (0.001, 0.01, 0.1)]
    assert found == pytest.approx(ceilings, abs=6e-4)


def test_one_full_gaussian_has_its_closed_form():
    mu = 1 / 1.3
    one = mechanism(1.3, rate=1.0, steps=1)
    epsilon = spent_epsilon(one, DELTA)
    delta = NORMAL.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * NORMAL.cdf(-mu / 2 - epsilon / mu)
    assert delta == pytest.approx(DELTA, rel=1e-3)
    for rate in (0.001, 0.01, 0.1, 0.5, 0.9):
        assert true_positive_ceiling(one, rate) == pytest.approx(NORMAL.cdf(NORMAL.inv_cdf(rate) + mu), abs=1e-3)


def test_other_mechanisms_are_composed_and_only_cost_more():
    alone, counted = mechanism(), mechanism(other=(10.0,))
    assert spent_epsilon(alone, DELTA) < spent_epsilon(counted, DELTA) < spent_epsilon(alone, DELTA) + 1
    assert true_positive_ceiling(counted, 0.01) > true_positive_ceiling(alone, 0.01)
    only = replace(counted, steps=0)
    assert spent_epsilon(only, DELTA) == pytest.approx(spent_epsilon(mechanism(10.0, 1.0, 1), DELTA))
    assert spent_epsilon(replace(alone, steps=0), DELTA) == 0


@pytest.mark.parametrize(
    ("target", "rate", "steps", "other"),
    [(1, 0.05, 200, ()), (3, 0.25, 60, (10.0,)), (8, 1.0, 20, ())],
)
def test_calibrated_noise_never_spends_more_than_asked_and_hardly_less(target, rate, steps, other):
    noise = calibrated_noise(target, DELTA, sample_rate=rate, steps=steps, other_mechanisms=other)
    spent = spent_epsilon(mechanism(noise, rate, steps, other), DELTA)
    assert 0.98 * target < spent <= target


def test_what_cannot_be_accounted_is_refused():
    with pytest.raises(MedwardError, match="not reached by any noise"):
        calibrated_noise(0.1, DELTA, sample_rate=0.1, steps=10, other_mechanisms=(1.0,))
    for bad in ({"noise": 0.0}, {"noise": math.inf}, {"rate": 0.0}, {"rate": 1.1}, {"steps": -1}, {"other": (0.0,)}):
        with pytest.raises(MedwardError, match="must be"):
            mechanism(**bad)
    for bad in (0.0, 1.0):
        with pytest.raises(MedwardError, match="delta"):
            spent_epsilon(mechanism(), bad)
    with pytest.raises(MedwardError, match="target epsilon"):
        calibrated_noise(math.inf, DELTA, sample_rate=0.1, steps=10)


def test_delta_is_far_below_one_in_so_many_units():
    assert automatic_delta(200) == DELTA
    assert automatic_delta(10**6) == pytest.approx(10 ** (-1 - 6.6))
    check_delta(0.009, 100)
    with pytest.raises(MedwardError, match=r"below 1 / 100 units"):
        check_delta(0.01, 100)


def test_a_certificate_that_claims_less_than_its_mechanism_spends_is_refused():
    spent = spent_epsilon(mechanism(), DELTA)
    said = {"noise_multiplier": 1.0, "sample_rate": 0.05, "steps": 300, "delta": DELTA}
    check_claim(privacy_certificate(epsilon=spent, **said))
    for forged in ({"epsilon": 0.5}, {"epsilon": spent, "other_mechanisms": (1.0,)}, {"epsilon": spent, "delta": 1e-9}):
        with pytest.raises(MedwardError, match=r"certificate: claims epsilon .* and the mechanism"):
            check_claim(privacy_certificate(**said | forged))
