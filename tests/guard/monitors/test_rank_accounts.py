"""The rank bet, simulated over calibration draws and accounts: who alarms, who is noticed, and what breaks it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.models import LinearModel, benign_rows
from support.rank_accounts import largest_wealth, repeats_within
from support.sights import sight_of

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.accounts.stores import MemoryStore
from medward.guard.monitors import repeats
from medward.guard.monitors.table import calibration_shares
from medward.guard.policy import Policy
from medward.guard.statistics.rank_eprocess import RankEProcess, rank_cuts
from medward.guard.types import Action, Outputs

RISK, WEIGHT = 7e-4, calibration_shares()["strange"]
ALPHAS, DELTA = (0.05, 0.2), 0.01
ACCOUNTS, QUERIES = 2000, 150


# Ville's inequality, over calibration draws and accounts


def allowed(alpha):
    return alpha + DELTA + 3 * math.sqrt(alpha * (1 - alpha) / ACCOUNTS)


def rates(*args, **settings):
    found = largest_wealth(*args, risk=DELTA, **settings)[:, -1]
    return [float((found >= 1 / alpha).mean()) for alpha in ALPHAS]


def drawn(rng, values, size):
    """Scores of so many values, the larger ones rarer; 0 for no two alike."""
    if not values:
        return rng.normal(size=size)
    weights = 0.5 ** np.arange(values)
    return rng.choice(values, p=weights / weights.sum(), size=size).astype(float)


@pytest.mark.parametrize("n", [10, 60])
@pytest.mark.parametrize("values", [0, 2, 3, 5])
def test_benign_accounts_ever_reach_the_wealth_no_more_often_than_alpha(values, n):
    rng = np.random.default_rng(n)
    known, asked = drawn(rng, values, (ACCOUNTS, n)), drawn(rng, values, (ACCOUNTS, QUERIES))
    for alpha, rate in zip(ALPHAS, rates([known], asked), strict=True):
        assert rate <= allowed(alpha)


@pytest.mark.parametrize("broken", [{"short": 1}, {"paid": 1.5}])
@pytest.mark.parametrize("n", [10, 60])
def test_counts_that_are_one_short_or_pay_that_is_half_more_break_it(broken, n):
    rng = np.random.default_rng(n)
    known, asked = rng.normal(size=(ACCOUNTS, n)), rng.normal(size=(ACCOUNTS, QUERIES))
    for alpha, rate in zip(ALPHAS, rates([known], asked, **broken), strict=True):
        assert rate > allowed(alpha)


def test_small_strata_hold_it_whichever_an_account_asks_of():
    rng = np.random.default_rng(0)
    shifts = np.array([0.0, 4.0, 2.0])
    known = [rng.normal(size=(ACCOUNTS, n)) + shift for shift, n in zip(shifts, (12, 3, 7), strict=True)]
    strata = np.where(np.arange(ACCOUNTS)[:, None] % 2, 1, rng.integers(3, size=(ACCOUNTS, QUERIES)))
    asked = rng.normal(size=strata.shape) + shifts[strata]
    for alpha, rate in zip(ALPHAS, rates(known, asked, strata), strict=True):
        assert rate <= allowed(alpha)
    together = [np.concatenate(known, axis=1)]
    assert rates(together, asked)[1] > allowed(ALPHAS[1]), "half of them ask of one stratum, judged beside all rows"


@pytest.mark.parametrize("rows", [40, 400])
def test_rows_that_are_asked_again_hold_it(rows):
    """A hospital of few distinct inputs, other ones for each draw: what an account remembers wins nothing."""
    rng = np.random.default_rng(rows)
    known, asked = rng.integers(rows, size=(ACCOUNTS, 60)), rng.integers(rows, size=(ACCOUNTS, QUERIES))
    for alpha, rate in zip(ALPHAS, rates([known * 1.0], asked * 1.0, repeated=repeats_within(asked)), strict=True):
        assert rate <= allowed(alpha)


def test_drift_up_to_the_slack_holds_it_and_beyond_breaks_it():
    rng, slack = np.random.default_rng(0), 0.3
    known, asked = rng.normal(size=(ACCOUNTS, 60)), rng.normal(size=(ACCOUNTS, QUERIES))
    for moved in (np.full_like(asked, slack), rng.choice([0, slack], size=asked.shape)):
        for alpha, rate in zip(ALPHAS, rates([known], asked + moved, slack=slack), strict=True):
            assert rate <= allowed(alpha)
    for alpha, rate in zip(ALPHAS, rates([known], asked + 6 * slack, slack=slack), strict=True):
        assert rate > allowed(alpha)


def test_the_simulated_accounts_are_the_product_s():
    rng = np.random.default_rng(3)
    known = [np.round(rng.normal(size=(4, n)), 1) for n in (30, 6)]
    strata, asked = rng.integers(2, size=(4, 60)), np.round(rng.normal(size=(4, 60)) + 0.5, 1)
    again = rng.random((4, 60)) < 0.2
    found = np.log(np.maximum(largest_wealth(known, asked, strata, risk=RISK, slack=0.1, repeated=again), 1e-9))
    part = RankEProcess(name="strange", sizes=(30, 6), risk=RISK)
    for account in range(4):
        cuts = [rank_cuts(own[account]) for own in known]
        state, most = part.start(), -math.inf
        for n, (score, own, seen) in enumerate(zip(asked[account], strata[account], again[account], strict=True), 1):
            cell = part.cells.repeat if seen else part.cells.encode(float(score), cuts[own], 0.1)
            state = part.step(state, n, cell, int(own))
            most = max(most, part.log_e(state))
        assert found[account, -1] == pytest.approx(most, abs=1e-4)


# What is noticed


def noticed(n, share, queries, *, limited=True, accounts=100):
    """The query at which thieves whose inputs outrank all are at 1 / .001; infinite where they are never."""
    rng = np.random.default_rng(0)
    asked = np.where(rng.random((accounts, queries)) < share, 99.0, rng.normal(size=(accounts, queries)))
    found = largest_wealth([rng.normal(size=(accounts, n))], asked, risk=RISK, limited=limited) * WEIGHT >= 1000
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1.0, np.inf)


@pytest.mark.parametrize(("n", "pure", "tenth"), [(120, 8, 300), (500, 6, 80), (1500, 6, 60)])
def test_thieves_are_noticed_pure_and_diluted(n, pure, tenth):
    assert np.median(noticed(n, 1.0, 20)) <= pure
    assert np.median(noticed(n, 0.1, 300)) < tenth
    assert np.isinf(noticed(n, 0.0, 300)).all(), "who asks nothing strange is not"


def test_without_the_limits_a_thief_s_past_would_argue_some_away():
    found = [noticed(120, 0.1, 1200, limited=limited, accounts=300) for limited in (True, False)]
    late, later = (np.isinf(each).mean() for each in found)
    assert late <= 0.02 < 0.05 < later


# Through an account's monitors


@pytest.fixture(scope="module")
def qa_rows():
    rng = np.random.default_rng(5)
    return rng.normal(size=(4000, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [17, 25, 50])
def test_a_fixed_set_sent_twenty_times_alarms_nobody(linear_profile, qa_rows, size, monkeypatch):
    """Two of its rows are among the strangest of 4,000 benign ones."""
    policy = Policy(on_error="flag")
    outputs = Outputs(LinearModel().predict(qa_rows).scores)
    order = np.argsort(linear_profile.strangeness(qa_rows, outputs))
    rows = qa_rows[[*order[-2:], *np.random.default_rng(size).choice(order[:-200], size - 2, replace=False)]]
    sight = sight_of(policy, linear_profile, rows, Outputs(LinearModel().predict(rows).scores))
    monitors = AccountMonitors.of(policy, linear_profile, 1)

    def peak():
        state = None
        for _ in range(20):
            state, (_, verdict, _) = monitors.watch([f"{row}" for row in range(size)], sight, state)
        return verdict

    assert peak().action is Action.ALLOW
    monkeypatch.setattr(repeats, "REMEMBERED_INPUTS", 16)
    assert peak().evidence["peak"] > math.log(1000), "a memory of 16 took it for a thief"


def test_an_account_of_an_older_release_starts_anew_and_its_alarm_stands(linear_profile):
    policy, store = Policy(on_error="flag"), MemoryStore()
    monitors = AccountMonitors.of(policy, linear_profile, 1)
    rows = benign_rows(LinearModel)[:1].astype(np.float32)
    sight = sight_of(policy, linear_profile, rows, Outputs(LinearModel().predict(rows).scores))
    old = {
        "recent": [["0123456789abcdef", ""], ["fedcba9876543210", "f" * 16]],
        "e-process": {"calibration": "0" * 12, "n": 40, "peak": 12.5, "parts": {"strange": "AAAAAA==", "shared": ""}},
    }
    store.transact("key", lambda _: (old, None))
    state, (before, verdict, _) = monitors.watch(["0123456789abcdef"], sight, store.get("key"))
    assert before is verdict.action is Action.WITHHOLD
    assert (verdict.evidence["n"], verdict.evidence["peak"]) == (1, 12.5)
    assert state["e-process"]["parts"]["strange"]["counts"]["0"][0] == 1, "the older memory is not read, so it is new"
    assert monitors.watch(["0123456789abcdef"], sight, state)[0]["e-process"]["parts"]["strange"]["counts"]["0"][0] == 1
