from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.statistics.eprocess import BETTORS, EProcess
from medward.guard.types import Action

GRID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
LADDER = ((0.01, Action.COARSEN), (0.0001, Action.WITHHOLD))


def run(p_values, *, levels=GRID, ladder=LADDER, contamination=0.0, ratio=1.0):
    part = EProcess(name="p", levels=levels, contamination=contamination, ratio=ratio)
    monitor = CombinedEProcess(parts=(part,), weights=(1.0,), ladder=ladder)
    state, verdicts = monitor.start(), []
    for p in p_values:
        state, verdict = monitor.step(state, Observation({"p": float(p)}))
        verdicts.append(verdict)
    return state, verdicts


@given(st.lists(st.sampled_from([*GRID, 1.0]), min_size=1, max_size=40))
def test_wealth_is_the_average_over_bettors_and_starting_times(p_values):
    shares = [np.array([lean**j for j in range(len(GRID))]) for lean, _ in BETTORS]
    parts = [
        math.prod(1 - w + w * ((p <= np.array(GRID)) / GRID @ v) / v.sum() for p in p_values[start:])
        / ((start + 1) * (start + 2))
        for v, (_, w) in zip(shares, BETTORS, strict=True)
        for start in range(len(p_values))
    ]
    _, verdicts = run(p_values)
    wealth = math.log(math.fsum(parts) / len(BETTORS))
    log_e = verdicts[-1].evidence["log_e"]
    assert wealth - 3e-7 * len(p_values) - 1e-9 <= log_e <= wealth + 1e-9, "rounded down, never up"


def test_an_account_that_turns_bad_late_is_noticed():
    assert run([1.0] * 2000 + [0.01] * 12)[1][-1].action >= Action.COARSEN


def test_under_drift_one_bets_and_is_paid_at_the_level_that_can_still_be_benign():
    _, plain = run([0.005, 1.0], levels=(0.005,))
    _, slack = run([0.005, 1.0], levels=(0.005,), contamination=0.01, ratio=3.0)
    _, level = run([0.005, 1.0], levels=(0.99 * 3 * 0.005 + 0.01,))
    assert slack[-1].evidence["log_e"] == level[-1].evidence["log_e"] < plain[-1].evidence["log_e"]


def test_wealth_is_capped_and_goes_on():
    _, verdicts = run([0.005] * 100, levels=(0.005,))
    assert 60 < verdicts[-1].evidence["log_e"] < 70
    assert math.isfinite(run([0.005] * 100 + [1.0] * 500, levels=(0.005,))[1][-1].evidence["log_e"])


@pytest.mark.parametrize(("contamination", "ratio"), [(0.0, 1.0), (0.05, 1.0), (0.02, 2.0)])
def test_benign_accounts_ever_alarm_no_more_than_alpha(contamination, ratio):
    # p-values exactly at the levels that the guarantee allows: the worst benign case.
    rng = np.random.default_rng(0)
    alpha, accounts, queries = 0.1, 100, 200
    worst = (1 - contamination) * ratio * np.array(GRID) + contamination
    p_values = np.array([*GRID, 1.0])[np.searchsorted(worst, rng.random((accounts, queries)))]
    ladder = ((alpha, Action.FLAG),)
    alarmed = [run(row, ladder=ladder, contamination=contamination, ratio=ratio)[1][-1].action for row in p_values]
    assert np.mean(alarmed) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / accounts)
    if contamination:
        bare = [run(row, ladder=ladder)[1][-1].action for row in p_values[:20]]
        assert np.mean(bare) > 0.5, "negative control: without the slack the same traffic breaks the bound"


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


def test_state_is_small_json_whatever_the_history():
    long, _ = run([0.1, 1.0, 1.0, 1.0] * 1000)
    assert json.loads(json.dumps(long)) == long
    assert len(json.dumps(long)) < 450


def test_an_alarm_survives_recalibration_and_the_counts_do_not():
    bad, verdicts = run([0.005] * 10)
    assert verdicts[-1].action is Action.WITHHOLD
    monitor = CombinedEProcess(
        parts=(EProcess(name="p", levels=(0.1, 0.2), calibration="second"),), weights=(1.0,), ladder=LADDER
    )
    resumed = monitor.resume(bad)
    assert resumed["n"] == 0
    assert monitor.verdict(resumed).action is Action.WITHHOLD
    assert monitor.resume(resumed) == resumed
