import math

import numpy as np
from baselines.prada import EVERY, FEWEST, Prada, PradaState, normality


def run(rule, rows, labels):
    state, alarms = rule.start(), []
    for row, label in zip(rows, labels, strict=True):
        state, over = rule.step(state, row, label)
        alarms.append(over)
    return state, alarms


def line(gaps):
    """Points on a line, each farther than the one before by one of `gaps`."""
    return np.cumsum(gaps)[:, None]


def test_the_set_grows_by_what_is_farther_than_the_mean_less_the_deviation():
    rows = np.array([[0.0], [4.0], [4.5], [10.0]])
    state, _ = run(Prada(), rows, [0, 0, 0, 0])
    grown = state.grown[0]
    # 4 joins (cut 0), cut = max(0, mean(0, 4) - std(0, 4)) = 0; 0.5 joins; 5.5 joins
    assert grown.joined.tolist() == [0.0, 4.0, 0.5, 5.5]
    assert grown.cut == max(0.0, np.mean([0, 4, 0.5, 5.5]) - np.std([0, 4, 0.5, 5.5]))
    state, _ = run(Prada(), np.array([[0.0], [4.0], [8.0], [12.0], [16.0], [20.0], [20.5]]), [0] * 7)
    assert state.grown[0].cut > 0.5
    assert len(state.grown[0].members) == 6, "what is nearer than the cut must not join"
    assert state.noted[0][-1] == 0.5, "but is noted"


def test_classes_have_sets_of_their_own():
    state, _ = run(Prada(), np.array([[0.0], [1.0], [3.0]]), [0, 1, 1])
    assert state.noted == {1: (2.0,)}


def test_normal_distances_pass_and_two_kinds_of_distances_alarm():
    rng = np.random.default_rng(0)
    normal = line(rng.normal(10, 0.5, 400))
    state, alarms = run(Prada(delta=0.95), normal, [0] * 400)
    assert state.w > 0.95
    assert not any(alarms)
    tight = np.where(rng.random(400) < 0.5, 10.0, 1.0)
    state, alarms = run(Prada(delta=0.95), line(tight), [0] * 400)
    assert any(alarms)
    assert min(np.flatnonzero(alarms)) >= FEWEST
    assert min(np.flatnonzero(alarms)) % EVERY == 0, "it tests at every tenth query"


def test_delta_decides():
    rng = np.random.default_rng(1)
    rows = line(rng.exponential(1.0, 300))
    state, _ = run(Prada(), rows, [0] * 300)
    assert 0.5 < state.w < 1
    assert run(Prada(delta=state.w + 1e-6), rows, [0] * 300)[1][-1]
    assert not run(Prada(delta=state.w - 1e-6), rows, [0] * 300)[1][-1]


def test_too_few_distances_say_nothing_and_rare_classes_take_no_part():
    assert math.isnan(normality({0: tuple(range(FEWEST))}))
    assert math.isnan(normality(dict.fromkeys(range(FEWEST), (1.0, 2.0, 3.0))))
    assert not math.isnan(normality({0: tuple(map(float, range(2 * FEWEST)))}))


def test_a_step_leaves_the_state_before_as_it_was():
    rule = Prada()
    before, _ = run(rule, np.arange(5.0)[:, None], [0] * 5)
    kept = PradaState(before.n, dict(before.grown), dict(before.noted), before.w)
    rule.step(before, np.array([9.0]), 0)
    assert before.grown == kept.grown
    assert before.noted == kept.noted
