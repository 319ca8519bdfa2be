from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medward.guard.errors import MedwardError
from medward.guard.statistics.binomial import tolerance_rank
from medward.guard.statistics.conformal import Thresholds, split_risk

GRID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@given(n=st.integers(1, 2000), tau=st.sampled_from(GRID), risk=st.sampled_from([1e-5, 1e-3, 0.05]))
def test_tolerance_rank_is_the_largest_that_bounds_the_tail(n, tau, risk):
    k = tolerance_rank(n, tau, risk)
    # The tail mass above the k-th largest of n uniforms is Beta(k, n - k + 1).
    if k:
        assert stats.beta.sf(tau, k, n - k + 1) <= risk * (1 + 1e-9)
    if k < n:
        assert stats.beta.sf(tau, k + 1, n - k) > risk * (1 - 1e-9)


@given(st.floats(1e-9, 0.5), st.integers(1, 9))
def test_the_levels_spend_the_risk_and_no_more(risk, count):
    parts = split_risk(risk, count)
    assert len(parts) == count
    assert sum(parts) == pytest.approx(risk)
    assert min(parts) > 0


def test_thresholds_hold_at_every_level_at_once_with_the_stated_risk():
    # On uniform scores the true tail above a cut c is 1 - c: count calibration draws where any level fails.
    rng = np.random.default_rng(0)
    draws, failed = 2000, 0
    for _ in range(draws):
        thresholds = Thresholds.calibrate(rng.random(200), risk=0.1)
        failed += any(1 - cut > level for level, cut in zip(thresholds.levels, thresholds.cuts, strict=True))
    assert failed / draws <= 0.1
    assert failed > 0  # the bound is not vacuous


def test_thresholds_hold_with_ties_too():
    # Scores on five values: a cut that coincides with an atom must not let the atom's mass through.
    rng = np.random.default_rng(1)
    values, failed = np.arange(5) / 5, 0
    for _ in range(500):
        thresholds = Thresholds.calibrate(rng.choice(values, 200), risk=0.1)
        tails = [(values > cut).mean() for cut in thresholds.cuts]
        failed += any(tail > level for tail, level in zip(tails, thresholds.levels, strict=True))
    assert failed / 500 <= 0.1


def test_ordinary_conformal_thresholds_would_not_hold_conditionally():
    # Negative control: the usual (n+1)-quantile exceeds its level for about half of all calibration draws.
    rng = np.random.default_rng(0)
    exceeded = np.mean([1 - np.sort(rng.random(200))[-20] > 0.1 for _ in range(500)])
    assert exceeded > 0.3


def test_p_values_are_the_smallest_level_exceeded():
    thresholds = Thresholds(levels=(0.01, 0.1), cuts=(5.0, 2.0), risk=0.001, n=10)
    got = thresholds.p_values(np.array([1.9, 2.0, 4.9, 5.0, np.nan]))
    assert got.tolist() == [1.0, 1.0, 0.1, 0.1, 0.01]


def test_too_few_rows_are_refused_with_the_number_needed():
    with pytest.raises(MedwardError, match="give at least 33") as caught:
        Thresholds.calibrate(np.arange(32.0), risk=0.001)
    assert "32 benign rows" in str(caught.value)
    Thresholds.calibrate(np.arange(33.0), risk=0.001)
