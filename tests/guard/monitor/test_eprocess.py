from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.monitor.eprocess import MEMORY, STAKES, EProcess, log_wealth
from guard.screen.conformal import GRID
from guard.types import Action, Observation

LADDER = ((0.01, Action.COARSEN), (0.0001, Action.WITHHOLD))


def run(p_values, *, levels=GRID, ladder=LADDER, late=False):
    monitor = EProcess(levels=levels, ladder=ladder, late=late)
    state, verdicts = monitor.start(), []
    for i, p in enumerate(p_values):
        state, verdict = monitor.step(state, Observation(float(p), str(i)))
        verdicts.append(verdict)
    return state, verdicts


@given(st.lists(st.sampled_from([*GRID, 1.0]), min_size=1, max_size=60))
def test_wealth_is_the_average_of_the_bettors_products(p_values):
    bettors = [(w, tau) for w in STAKES for tau in GRID]
    products = [math.prod((1 - w) + w * (p <= tau) / tau for p in p_values) for w, tau in bettors]
    state, _ = run(p_values)
    assert math.isclose(math.exp(log_wealth(state["n"], state["hits"], GRID)), np.mean(products), rel_tol=1e-9)


@given(st.lists(st.sampled_from([*GRID, 1.0]), min_size=1, max_size=40))
def test_late_wealth_is_the_average_over_bettors_and_starting_times(p_values):
    parts = [
        math.prod((1 - w) + w * (p <= tau) / tau for p in p_values[start:]) / ((start + 1) * (start + 2))
        for w in STAKES
        for tau in GRID
        for start in range(len(p_values))
    ]
    _, verdicts = run(p_values, late=True)
    wealth = math.fsum(parts) / len(STAKES) / len(GRID)
    assert math.isclose(math.exp(verdicts[-1].evidence["log_e"]), wealth, rel_tol=1e-9)


def test_an_account_that_turns_bad_is_noticed_by_late_bettors_only():
    p_values = [1.0] * 2000 + [0.01] * 12
    assert run(p_values, late=True)[1][-1].action >= Action.COARSEN
    assert run(p_values)[1][-1].action is Action.ALLOW
    pure, late = (sum(v.action is Action.ALLOW for v in run([0.01] * 20, late=each)[1]) for each in (False, True))
    assert late <= pure + 1, "who is bad from the start gains a query at most"


def test_a_state_kept_without_starting_times_starts_anew_with_them_and_keeps_its_alarm():
    bad, _ = run([0.005] * 10)
    resumed = EProcess(levels=GRID, ladder=LADDER, late=True).resume(bad)
    assert resumed["n"] == 0
    assert resumed["peak"] == bad["peak"] > 0


@pytest.mark.parametrize("late", [False, True])
def test_benign_accounts_ever_alarm_no_more_than_alpha(late):
    # p-values exactly at their levels: the worst benign case the guarantee allows.
    rng = np.random.default_rng(0)
    alpha, accounts, queries = 0.1, 200, 300
    cells = np.searchsorted(GRID, rng.random((accounts, queries)))
    p_values = np.array([*GRID, 1.0])[cells]
    ladder = ((alpha, Action.FLAG),)
    alarmed = sum(run(row, ladder=ladder, late=late)[1][-1].action is Action.FLAG for row in p_values)
    assert alarmed / accounts <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / accounts)


def test_a_naive_count_test_looked_at_after_every_query_would_alarm_far_more_often():
    # Negative control for anytime validity: a fixed-sample 10 % binomial test, peeked at, breaks its level.
    from scipy import stats

    rng = np.random.default_rng(0)
    hits = (rng.random((300, 400)) <= 0.1).cumsum(axis=1)
    cut = stats.binom.isf(0.1, np.arange(1, 401), 0.1)
    assert (hits > cut).any(axis=1).mean() > 0.3


def test_strange_queries_alarm_in_a_handful_and_diluted_ones_later():
    _, pure = run([0.01] * 20)
    first = next(i for i, v in enumerate(pure, 1) if v.action >= Action.COARSEN)
    assert first <= 5
    rng = np.random.default_rng(1)
    _, diluted = run(np.where(rng.random(400) < 0.1, 0.01, 1.0))
    assert any(v.action >= Action.COARSEN for v in diluted)


def test_the_alarm_climbs_the_ladder_and_never_comes_down():
    _, verdicts = run([0.005] * 10 + [1.0] * 500)
    actions = [v.action for v in verdicts]
    assert actions == sorted(actions)
    assert actions[-1] is Action.WITHHOLD
    assert verdicts[-1].evidence["log_e"] < verdicts[-1].evidence["peak"]


def test_retrying_one_odd_image_is_not_an_attack():
    monitor = EProcess(levels=GRID, ladder=LADDER)
    state = monitor.start()
    for _ in range(1000):
        state, verdict = monitor.step(state, Observation(0.005, "same"))
    assert verdict.action is Action.ALLOW
    assert state["n"] == 1000


def test_benign_accounts_that_mostly_repeat_themselves_alarm_no_more_than_alpha():
    # Ten ordinary inputs are 90 % of the traffic: leaving repeats out would make the rest strange too often.
    rng = np.random.default_rng(0)
    alpha, accounts, alarmed = 0.1, 150, 0
    for _ in range(accounts):
        monitor, verdict = EProcess(levels=GRID, ladder=((alpha, Action.FLAG),)), None
        state = monitor.start()
        for i in range(300):
            usual = rng.random() < 0.9
            p = 1.0 if usual else np.array([*GRID, 1.0])[np.searchsorted(GRID, rng.random() * 0.1)]
            state, verdict = monitor.step(state, Observation(float(p), str(rng.integers(10)) if usual else f"new {i}"))
        alarmed += verdict.action is Action.FLAG
    assert alarmed / accounts <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / accounts)


def test_state_is_small_json_whatever_the_history():
    short, _ = run([1.0] * (MEMORY + 1))
    long, _ = run([0.1, 1.0, 1.0, 1.0] * 1000)
    assert json.loads(json.dumps(long)) == long
    assert len(json.dumps(long)) < len(json.dumps(short)) + 100 < 700


def test_a_new_calibration_starts_new_counts_but_clears_no_alarm():
    state, verdicts = run([0.01] * 30)
    assert verdicts[-1].action is Action.WITHHOLD
    recalibrated = EProcess(levels=(0.1, 0.2), ladder=LADDER, calibration="second")
    resumed = recalibrated.resume(json.loads(json.dumps(state)))
    assert resumed["n"] == 0
    assert recalibrated.verdict(resumed).action is Action.WITHHOLD
    assert EProcess(levels=GRID, ladder=LADDER).resume(state) == state
    assert recalibrated.resume(None) == recalibrated.start()


def test_step_is_pure():
    monitor = EProcess(levels=GRID, ladder=LADDER)
    state = monitor.start()
    before = json.dumps(state)
    assert monitor.step(state, Observation(0.01, "a")) == monitor.step(state, Observation(0.01, "a"))
    assert json.dumps(state) == before
