"""Pools of confidences: decisions, order and the mean stay, twice is once, and nothing below the cut is touched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.answering import check_pools
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy, ReleasePolicy
from medward.guard.release.pooling import ConfidencePools, fit_pool, pool_winners
from medward.guard.release.scores import largest_classes
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.types import Level

FINE = 6  # decimals


def classes(k, threshold=None):
    return Classification(classes=tuple(map(str, range(k))), output="probabilities", threshold=threshold)


def released(task, scores, pools):
    return task.release(scores, Level.ROUNDED, ReleaseSettings(decimals=FINE, pools=pools))


@given(st.integers(2, 9), st.floats(0.05, 3), st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_pooling_keeps_decisions_order_and_sum_and_is_its_own_repeat(k, sharp, share, seed):
    rng = np.random.default_rng(seed)
    task, rows = classes(k), rng.dirichlet(np.full(k, sharp), 200)
    pools = task.fit_pools(rng.dirichlet(np.full(k, sharp), 300), share, 1.0)
    best = largest_classes(rows)
    once = pool_winners(rows, best, pools)
    np.testing.assert_array_equal(largest_classes(once), best)
    np.testing.assert_allclose(once.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_array_equal(pool_winners(once, best, pools), once)
    own, winner = rows.max(axis=1), rows.argmax(axis=1)
    for each in range(k):
        order = np.argsort(own[winner == each])
        assert (np.diff(once.max(axis=1)[winner == each][order]) >= 0).all()
    below = own < pools.cuts[0, winner]
    np.testing.assert_array_equal(once[below], rows[below])


def test_the_mean_of_unseen_confidences_stays_and_the_surest_are_alike():
    rng = np.random.default_rng(0)
    task = classes(3)
    rows = task.likely(rng.dirichlet(np.full(3, 0.3), 2000), ReleaseSettings())
    pools = task.fit_pools(rows, 0.9, 1.0)
    once = pool_winners(rows, largest_classes(rows), pools)
    assert once.max(axis=1).mean() == pytest.approx(rows.max(axis=1).mean(), abs=1e-9)
    assert len(np.unique(once.max(axis=1))) < 0.11 * len(rows)
    surest = np.array([[1 - 2e-9, 1e-9, 1e-9], [0.0, 0.0, 1.0]])
    shown = released(task, surest, pools)
    np.testing.assert_allclose(shown.max(axis=1), pools.means[0, [0, 2]], atol=1e-6)


def test_a_decision_that_calibration_hardly_knows_leaves_as_if_just_reached():
    rng = np.random.default_rng(1)
    likely = rng.uniform(0, 0.02, 400)
    task = classes(2, 0.05)
    pools = task.fit_pools(np.stack([1 - likely, likely], axis=1), 0.9, 1.0)
    shown = released(task, np.array([[0.01, 0.99], [0.93, 0.07], [0.999, 0.001]]), pools)
    np.testing.assert_allclose(shown[:2, 1], 0.05, atol=1e-6)
    assert shown[2, 1] == pytest.approx(1 - pools.means[0, 0], abs=1e-6)
    assert fit_pool(np.array([0.9] * 4), 0.5, 0.3) == (0.3, 0.3)
    assert fit_pool(np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), 0.1, 0.0) == pytest.approx((0.6, 0.8))


def test_findings_are_pooled_each_on_its_own_side():
    rng = np.random.default_rng(2)
    task = Multilabel(findings=("a", "b"), output="probabilities", thresholds=(0.5, 0.1))
    pools = task.fit_pools(rng.random((500, 2)), 0.5, 1.0)
    shown = released(task, np.array([[0.999, 0.0001], [0.55, 0.12]]), pools)
    np.testing.assert_allclose(shown[0], [0.875, 0.025], atol=0.02)
    np.testing.assert_allclose(shown[1], [0.55, 0.12], atol=1e-6)


def test_pools_are_read_back_and_refused_where_they_are_none():
    pools = ConfidencePools(np.array([[0.5, 0.6]]), np.array([[0.7, 0.8]]), 0.9, 2.0)
    again = ConfidencePools.from_arrays(pools.arrays())
    assert (again.share, again.temperature) == (0.9, 2.0)
    np.testing.assert_array_equal(again.means, pools.means)
    for wrong in (
        {"means": np.array([[0.4, 0.8]])},
        {"cuts": np.array([0.5, 0.6])},
        {"means": np.full((1, 2), np.nan)},
    ):
        with pytest.raises(MedwardError, match="none of probabilities"):
            ConfidencePools.from_arrays({**pools.arrays(), **wrong})


def test_a_policy_that_pools_needs_pools_fitted_for_it():
    pools = ConfidencePools(np.zeros((1, 2)), np.ones((1, 2)), 0.9)
    check_pools(ReleasePolicy(), None)
    check_pools(ReleasePolicy(pooled=0.9), pools)
    with pytest.raises(MedwardError, match="no pools"):
        check_pools(ReleasePolicy(pooled=0.9), None)
    for other in (ReleasePolicy(pooled=0.8), ReleasePolicy(pooled=0.9, temperature=2)):
        with pytest.raises(MedwardError, match=r"was fitted for 0\.9 at 1"):
            check_pools(other, pools)
    with pytest.raises(MedwardError, match=r"between 0\.8 and 1"):
        Policy(on_error="flag", release={"pooled": 0.5})
    with pytest.raises(MedwardError, match="does nothing at level full"):
        Policy(on_error="flag", release={"pooled": 0.9, "level": "full"})


def test_a_policy_of_before_keeps_its_name_and_pooling_gives_another():
    plain = Policy(on_error="withhold")
    before = plain.model_dump(mode="json")
    del before["release"]["pooled"]
    assert Policy(**before).fingerprint == plain.fingerprint
    assert Policy(on_error="withhold", release={"pooled": 0.85}).fingerprint != plain.fingerprint
    assert Policy.from_toml(Policy(on_error="flag", release={"pooled": 0.85}).to_toml()).release.pooled == 0.85


def test_protecting_fits_what_the_policy_pools_and_the_guard_applies_it():
    from support.models import LinearModel, benign_rows

    from medward.guard.profile import Profile

    model = LinearModel()
    rows = benign_rows(LinearModel)
    profile = Profile.fit(model, rows, risk=0.01, secret=0, pooled=0.9)
    again = Profile.from_arrays(profile.to_arrays())
    np.testing.assert_array_equal(again.pools.cuts, profile.pools.cuts)
    assert Profile.fit(model, rows, risk=0.01, secret=0).pools is None
    fine = dataclasses.replace(ReleaseSettings(), decimals=4, pools=again.pools)
    scores = model.predict(rows).scores
    task = model.spec.task
    shown, plain = (task.release(scores, Level.ROUNDED, each) for each in (fine, ReleaseSettings(decimals=4)))
    np.testing.assert_array_equal(task.decide(shown), task.decide(scores))
    assert len(np.unique(shown.max(axis=1))) < len(np.unique(plain.max(axis=1)))
