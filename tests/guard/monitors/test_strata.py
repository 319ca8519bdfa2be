"""Rare classes: which are judged on their own, and that being so judged only ever lowers what a query pays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.monitors.coverage import Coverage
from medward.guard.monitors.shared_perturbation import SharedPerturbation, VectorSeen
from medward.guard.statistics.binomial import upper_bounds
from medward.guard.statistics.conformal import CAUTION, LARGEST, Thresholds, rank_within
from medward.guard.statistics.eprocess import EProcess
from medward.guard.statistics.strata import RARE_SHARE, Strata, decided_classes
from medward.guard.types import Outputs


def strata_of(*rows):
    """Which stratum each class is of, with so many calibration rows."""
    fitted = Strata.fit(np.repeat(np.arange(len(rows)), rows), len(rows))
    return None if fitted is None else fitted.members.tolist()


def test_a_rare_class_is_a_stratum_of_its_own_and_frequent_ones_are_none():
    assert strata_of(170, 20, 14) == [0, 2, 1]
    assert strata_of(100, 100) is None
    assert strata_of(74, 26) is None
    assert strata_of(76, 24) == [0, 1]


def test_classes_with_too_few_rows_are_judged_with_the_next_rarest_or_beside_all_rows():
    assert strata_of(170, 20, 4) == [0, 1, 1]
    assert strata_of(170, 3, 3) == [0, 1, 1]
    assert strata_of(170, 2, 2) is None
    assert strata_of(170, 20, 0) == [0, 1, 1], "a class never seen in calibration is no hole"


@given(st.lists(st.integers(0, 300), min_size=2, max_size=8).filter(any))
def test_every_stratum_reaches_the_level_and_frequent_classes_stay_out(rows):
    found = strata_of(*rows) or [0] * len(rows)
    known = np.bincount(found, weights=rows)
    assert all(rank_within(int(each), LARGEST) for each in known[1:])
    assert all(stratum == 0 for stratum, n in zip(found, rows, strict=True) if n >= RARE_SHARE * sum(rows))


def test_the_class_of_a_row_is_the_model_s_decision():
    outputs = Outputs(np.array([[0.1, 0.9, 0.0], [2.0, -1.0, 1.0]]))
    assert decided_classes(outputs).tolist() == [1, 0]
    assert Strata(np.array([0, 3, 1])).of(outputs).tolist() == [3, 0]


@given(st.integers(0, 99), st.integers(5, 60))
def test_a_bet_pays_no_more_within_a_stratum_and_never_costs_all(seed, rare):
    rng = np.random.default_rng(seed)
    known, strata = rng.normal(size=400) + (np.arange(400) < rare), (np.arange(400) < rare).astype(int)
    found = Thresholds.stratified(known, strata, 2, risk=0.001)
    part = EProcess(name="p", levels=found.levels, rare=found.rare)
    for value in (*found.levels, 1.0):
        own, plain = np.array(part.factors(value, 1)), np.array(part.factors(value, 0))
        assert (own <= plain + 1e-12).all()
        assert (own > 0.09).all()
    assert max(part.factors(found.levels[0], 1)) > 1.1, "and strange inputs of the class are evidence still"


@given(st.lists(st.floats(0.001, 1), min_size=3, max_size=3).map(sorted), st.floats(1, 4))
def test_who_hits_every_level_as_often_as_the_class_does_earns_nothing(within, ratio):
    levels = (0.01, 0.02, 0.04)
    part = EProcess(name="p", levels=levels, rare=(tuple(within),), ratio=ratio)
    chances = np.diff([0.0, *np.maximum(within, np.array(levels) * ratio), 1.0])
    mean = sum(
        max(chance, 0) * np.array(part.factors(value, 1)) for chance, value in zip(chances, (*levels, 1.0), strict=True)
    )
    assert chances.min() < 0 or (mean <= 1 + 1e-9).all()


def test_within_a_class_a_level_holds_on_average_over_calibration_draws_and_that_of_all_rows_does_not():
    """The rare class is stranger than the others."""
    hits, within, levels = [], [], ()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        strata = (np.arange(400) < 32).astype(int)
        known, fresh = rng.normal(size=400) + 2 * strata, rng.normal(size=200) + 2
        found = Thresholds.stratified(known, strata, 2, risk=0.001)
        levels = found.levels
        hits.append([(fresh > cut).mean() for cut in found.cuts])
        within.append(found.rare[0])
    assert (np.mean(hits, axis=0) <= np.mean(within, axis=0) / CAUTION * 1.1).all()
    assert (np.mean(hits, axis=0) > np.array(levels)).all()


def test_a_direction_that_is_a_rare_class_s_own_is_no_evidence_against_it():
    rng, push = np.random.default_rng(0), np.array([6.0, 0, 0, 0], np.float32)
    strata = (np.arange(600) < 60).astype(int)
    reference = (rng.normal(size=(600, 4)) + np.outer(strata, push)).astype(np.float32)
    asked = (rng.normal(size=(80, 4)) + push).astype(np.float32)
    clinic = SharedPerturbation(reference=reference, risk=0.001, slack=0.0, strata=strata, count=2)
    _, own = clinic.judge(clinic.start(), [VectorSeen(row, "", 1) for row in asked])
    _, frequent = clinic.judge(clinic.start(), [VectorSeen(row, "", 0) for row in asked])
    _, beyond = clinic.judge(clinic.start(), [VectorSeen(row + push, "", 1) for row in asked])
    shown = [np.mean(np.array(each) < 1) for each in (own, frequent, beyond)]
    assert shown[0] < 0.15
    assert shown[1] > 0.4
    assert shown[2] > 0.8, "what goes beyond the class still is"


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_a_cell_is_bounded_by_the_class_where_it_is_likeliest(ratio):
    counts, rare = (90, 6, 4), (0, 6, 3)  # none of the class in the first cell: nothing is known of it there
    part = Coverage(counts=counts, rare=(rare,), risk=0.01, ratio=ratio)
    within = CAUTION * np.array([0, 7, 4]) / 10
    pooled = np.minimum(1, ratio * upper_bounds(counts, 0.01))
    assert part.bounds == pytest.approx(np.maximum(pooled, np.minimum(1, within)))
