from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.statistics.eprocess import EProcess
from medward.guard.types import Action

LEVELS = (0.01, 0.1)
PARTS = tuple(EProcess(name=name, levels=LEVELS) for name in "ab")
BOTH = CombinedEProcess(parts=PARTS, weights=(0.7, 0.3), ladder=((0.01, Action.COARSEN),))


def run(rows, monitor=BOTH):
    state, verdict = monitor.start(), monitor.verdict(monitor.start())
    for row in rows:
        state, verdict = monitor.step(state, Observation(row))
    return state, verdict


P = st.sampled_from([*LEVELS, 1.0])


@given(st.lists(st.tuples(P, P), max_size=20))
def test_wealth_is_the_weighted_mean_and_the_shares_say_whose_it_is(rows):
    state, verdict = run([{"a": a, "b": b} for a, b in rows])
    wealth = [w * math.exp(part.log_e(state["parts"][part.name])) for w, part in zip((0.7, 0.3), PARTS, strict=True)]
    assert verdict.evidence["log_e"] == pytest.approx(math.log(sum(wealth)), abs=1e-9)
    shares = [verdict.evidence["share:a"], verdict.evidence["share:b"]]
    assert shares == pytest.approx([each / sum(wealth) for each in wealth])
    assert verdict.evidence["n"] == len(rows)


def test_two_weak_witnesses_alarm_together_before_either_would_alone():
    def needed(rows, monitor):
        return next(n for n in range(1, 60) if run(rows * n, monitor)[1].action)

    alone = [CombinedEProcess(parts=(part,), weights=(1.0,), ladder=((0.005, Action.COARSEN),)) for part in PARTS]
    both = [{"a": 0.1, "b": 0.1}]
    assert needed(both, BOTH) <= min(needed([{name: 0.1}], each) for name, each in zip("ab", alone, strict=True))


def test_a_part_that_saw_nothing_keeps_its_wealth_and_takes_nothing_from_the_other():
    state, verdict = run([{"a": 0.01, "b": 1.0}] * 3)
    after, later = BOTH.step(state, Observation({"a": 0.01}))
    assert after["parts"]["b"] == state["parts"]["b"]
    assert later.evidence["log_e"] > verdict.evidence["log_e"]


def test_benign_accounts_ever_alarm_no_more_than_alpha_even_if_the_parts_agree():
    rng, alpha, accounts = np.random.default_rng(0), 0.1, 100
    monitor = CombinedEProcess(parts=PARTS, weights=(0.5, 0.5), ladder=((alpha, Action.FLAG),))
    for dependent in (True, False):
        u = rng.random((accounts, 100, 2))
        p = np.array([*LEVELS, 1.0])[np.searchsorted(LEVELS, u[..., [0, 0]] if dependent else u)]
        alarmed = [run([{"a": a, "b": b} for a, b in account], monitor)[1].action for account in p]
        assert np.mean(alarmed) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / accounts)


def test_one_new_calibration_starts_all_parts_anew_and_clears_no_alarm():
    state, verdict = run([{"a": 0.01, "b": 1.0}] * 10)
    assert verdict.action is Action.COARSEN
    other = CombinedEProcess(
        parts=(PARTS[0], EProcess(name="b", levels=LEVELS, calibration="new")), weights=(0.7, 0.3), ladder=BOTH.ladder
    )
    resumed = other.resume(state)
    assert resumed["parts"] == other.start()["parts"]
    assert other.verdict(resumed).action is Action.COARSEN
    assert BOTH.resume(state) == state
