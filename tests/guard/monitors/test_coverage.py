from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medward.guard.monitors.coverage import REPEATED, Coverage, cell_payoffs, tally_cells
from medward.guard.statistics.binomial import upper_bounds
from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.types import Action

K = 16
USUAL = np.full(K, 1 / K)


def watching(counts, risk=0.01, alpha=0.01, contamination=0.0):
    part = Coverage(counts=tuple(counts), risk=risk, contamination=contamination)
    return CombinedEProcess(parts=(part,), weights=(1.0,), ladder=((alpha, Action.FLAG),))


def queries(monitor, cells):
    """Until the alarm; one more than all if there is none."""
    state = monitor.start()
    for i, cell in enumerate(cells, 1):
        state, verdict = monitor.step(state, Observation({"coverage": float(cell)}))
        if verdict.action is Action.FLAG:
            return i
    return len(cells) + 1


def test_the_bounds_are_clopper_pearsons():
    counts = (0, 3, 40, 57)
    ours = upper_bounds(counts, 0.02)
    theirs = stats.beta.ppf(1 - 0.02 / 4, np.array(counts) + 1, 100 - np.array(counts))
    assert np.allclose(ours, theirs, atol=1e-9)
    assert (ours >= theirs - 1e-12).all()
    assert upper_bounds((7,), 0.02).tolist() == [1.0]


probabilities = st.lists(st.floats(0.001, 1), min_size=3, max_size=12).map(lambda x: np.array(x) / sum(x))


@given(probabilities, st.integers(0, 1000))
def test_no_benign_distribution_under_the_bounds_earns_by_the_bet(forecast, seed):
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(len(forecast)))
    bounds = np.minimum(truth * rng.uniform(1, 2, len(truth)) + 1e-6, 1)
    pays, least = cell_payoffs(forecast, bounds)
    assert 0 < least <= 1
    assert (pays >= least).all()
    assert truth @ pays <= 1 + 1e-9
    mass = np.clip(bounds, 0, 1)  # the worst of all distributions under the bounds
    worst = np.zeros(len(truth))
    for cell in np.argsort(-pays):
        worst[cell] = min(mass[cell], 1 - worst.sum())
    assert worst @ pays <= 1 + 1e-9


def test_against_a_plain_ratio_the_bet_stakes_nothing_on_an_ordinary_account():
    bounds = np.full(4, 0.4)
    pays, least = cell_payoffs(np.full(4, 0.25), bounds)
    assert (pays == 1).all()
    assert least == 1
    assert (cell_payoffs(np.array([0.9, 0.05, 0.03, 0.02]), bounds)[0] > 0.16).all(), (
        "the plain ratio would lose all but 0.05"
    )


def test_benign_accounts_ever_alarm_no_more_than_alpha_plus_delta_and_plain_frequencies_break_it():
    alpha, risk, accounts, rng = 0.1, 0.05, 50, np.random.default_rng(0)
    hits, bare = 0, 0
    for _ in range(accounts):
        p = rng.dirichlet(np.ones(K))
        counts = rng.multinomial(150, p)
        cells = rng.choice(K, 400, p=p)
        hits += queries(watching(counts, risk, alpha), cells) <= 400
        bare += queries(watching(counts, K / 2, alpha), cells) <= 400
    assert hits / accounts <= alpha + risk + 3 * math.sqrt(0.13 / accounts)
    assert bare / accounts > alpha + risk, "negative control: bounds that hold half of the time"


def test_sweeps_narrow_theft_and_rare_inputs_show():
    rng = np.random.default_rng(0)
    usual = np.array([0.2, 0.15, 0.15, *np.full(K - 3, 0.5 / (K - 3))])
    monitor = watching(rng.multinomial(1500, usual))
    assert queries(monitor, rng.choice(K, 3000, p=usual)) == 3001
    assert queries(monitor, rng.choice([1, 5], 200)) < 60
    assert queries(monitor, np.where(rng.random(800) < 0.3, 7, rng.choice(K, 800, p=usual))) < 150
    sweep = np.tile(rng.permutation(K), 100)
    assert queries(monitor, sweep) < 1000


def test_what_repeats_pays_the_least_and_is_not_learnt():
    part = Coverage(counts=tally_cells(range(K), K), risk=0.01)
    state = part.start()
    for n in range(1, 6):
        state = part.step(state, n, 3.0)
    after = part.step(state, 6, REPEATED)
    assert after["shares"] == state["shares"]
    assert part.log_e(after) <= min(part.log_e(part.step(state, 6, float(cell))) for cell in range(K))


def test_contamination_forgives_a_share_of_anything():
    rng, counts = np.random.default_rng(0), np.full(K, 100)
    cells = np.where(rng.random(1000) < 0.1, 3, rng.integers(K, size=1000))
    assert queries(watching(counts), cells) < 1000
    assert queries(watching(counts, contamination=0.1), cells) == 1001


def test_state_is_small_json_whatever_the_history():
    part, rng = Coverage(counts=(20,) * 64, risk=0.01), np.random.default_rng(0)
    state = part.start()
    for n, cell in enumerate(rng.integers(64, size=3000), 1):
        state = part.step(state, n, float(cell))
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 400
