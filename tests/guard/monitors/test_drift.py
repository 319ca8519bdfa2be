"""Counts made up by hand or drawn from binomials; the logs of real guards are in `tests/integrations`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medward.attacks.intervals import clopper_pearson
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.audit.drift import ENOUGH_ACCOUNTS, FEWEST_ACCOUNTS, Event, bet_events, count_events, read_drift
from medward.guard.policy import Policy
from medward.guard.statistics.binomial import log_tail, rate_limits

LEVELS = (0.02, 0.04, 0.08)
WATCHED = tuple(
    Event(part=part, at=level, level=level, allowed=level) for part in ("strange", "shared") for level in LEVELS
)
CALM, MOVED, THIEF = 0.005, 0.15, 0.9


def drawn(rates, queries, seed=0):
    """Hits and queries ``(A, E)``: account by account the rate of "strange" at every level; "shared" is calm."""
    n = np.broadcast_to(np.asarray(queries), len(rates))
    rng = np.random.default_rng(seed)
    strange = rng.binomial(n, rates)[:, None].repeat(len(LEVELS), axis=1)
    shared = rng.binomial(n, CALM)[:, None].repeat(len(LEVELS), axis=1)
    return np.hstack([strange, shared]), n[:, None].repeat(len(WATCHED), axis=1)


def reading(rates, queries=200, alarmed=(), **settings):
    return read_drift(WATCHED, *drawn(rates, queries), [a in alarmed for a in range(len(rates))], **settings)


@given(n=st.integers(1, 3000), share=st.floats(0, 1), p=st.floats(1e-4, 0.9))
def test_the_tail_is_the_binomial_s(n, share, p):
    hits = round(share * n)
    exact = max(float(stats.binom.logsf(hits - 1, n, p)), -600)  # below that scipy's underflows
    assert max(log_tail(hits, n, p), -600) == pytest.approx(exact, rel=1e-6, abs=1e-9)


@given(n=st.integers(1, 2000), share=st.floats(0, 1))
def test_limits_are_those_of_clopper_and_pearson(n, share):
    exact = clopper_pearson(round(share * n), n)
    assert rate_limits(round(share * n), n) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_without_queries_nothing_is_known():
    assert rate_limits(0, 0) == (0.0, 1.0)


def test_events_are_what_the_parts_bet_on_and_only_some_drift_is_allowed(linear_profile):
    parts = AccountMonitors.of(Policy(on_error="flag"), linear_profile, 2).combined.parts
    found = bet_events(parts)
    assert {event.part for event in found} == {part.name for part in parts}
    ranks = [event for event in found if event.part == "strange"]
    (limits,) = next(part for part in parts if part.name == "strange").limits
    assert [event.level for event in ranks] == list(limits)
    assert [event.label for event in ranks] == [f"above rank {2**place}" for place in range(len(limits))]
    assert all(event.allowed == event.level for event in found if event.part in ("strange", "shared", "embedding"))
    assert all(event.allowed == min(1, 4 * event.level) for event in found if event.part in ("coverage", "probing"))
    still = AccountMonitors.of(Policy(on_error="flag", monitor={"drift": 0}), linear_profile, 2).combined.parts
    assert all(event.allowed == event.level for event in bet_events(still))


def test_hits_are_counted_by_part_and_a_part_that_failed_saw_nothing():
    watched = (*WATCHED, Event(part="coverage", at=3, cells=frozenset({3.0}), level=0.1, allowed=0.1))
    hits, n = count_events(watched, {"strange": [0.02, 1.0, 0.08], "coverage": [3.0, -1.0, 2.0]})
    assert hits.tolist() == [1, 1, 2, 0, 0, 0, 1]
    assert n.tolist() == [3, 3, 3, 0, 0, 0, 3]


def test_calm_accounts_are_nothing_to_report():
    found = reading([CALM] * 10)
    assert (found.kind, found.standing, found.moved, found.spreads) == ("nothing", (), (), ())


@pytest.mark.parametrize("thieves", [(3,), (0, 9), (1, 3, 5, 7, 9)])
def test_up_to_half_of_the_accounts_stand_out_while_the_others_are_calm(thieves):
    found = reading([THIEF if a in thieves else CALM for a in range(10)])
    assert (found.kind, found.standing, found.moved) == ("attack", thieves, ())
    assert found.spreads[0].others[1] == 200 * (10 - len(thieves))
    assert found.spreads[0].tenth == pytest.approx(1 / len(thieves), rel=0.1)


def test_an_alarm_alone_makes_an_account_stand_out():
    assert reading([CALM] * 10, alarmed=(4,)).standing == (4,)


def test_most_accounts_together_are_drift_however_many_queries_each_has():
    for queries, accounts in ((200, 10), (2000, 3), (8, 400)):
        found = reading([MOVED] * accounts, queries)
        assert (found.kind, found.standing, found.moved) == ("drift", (), ("strange",))
        spread = found.spreads[0]
        assert spread.above == pytest.approx(spread.alike, rel=0.2)


def test_alarms_no_further_out_than_the_drift_are_part_of_it():
    assert reading([MOVED] * 10, alarmed=(1, 2, 3)).kind == "drift"


def test_a_thief_beyond_the_drift_is_both_and_one_within_it_hides():
    both = reading([THIEF, *[MOVED] * 9], alarmed=(0,))
    assert (both.kind, both.standing, both.moved) == ("both", (0,), ("strange",))
    assert reading([1.3 * MOVED, *[MOVED] * 9]).kind == "drift"


def test_what_no_drift_explains_stands_out_in_any_drift():
    found = reading([MOVED] * 10, alarmed=(1, 2), apart=[a == 2 for a in range(10)])
    assert (found.kind, found.standing, found.moved) == ("both", (2,), ("strange",))


def test_one_busy_account_is_no_drift_of_most():
    found = reading([0.12, *[CALM] * 9], [3000, *[100] * 9])
    assert (found.kind, found.standing, found.moved) == ("attack", (0,), ())


def test_an_account_mildly_above_what_is_allowed_stands_out_where_the_others_are_just_below():
    hits, n = np.array([[2400], *[[60]] * 9]), np.array([[20000], *[[1000]] * 9])
    found = read_drift((Event(part="strange", at=0.08, level=0.08, allowed=0.08),), hits, n, [False] * 10)
    assert (found.kind, found.standing, found.moved) == ("attack", (0,), ())
    assert (found.spreads[0].above, found.spreads[0].worst) == (1, 1)
    assert found.spreads[0].others == (540, 9000)


def test_too_little_is_said_to_be_too_little():
    assert reading([CALM] * 10, (ENOUGH_ACCOUNTS - 1) // 10).kind == "unclear"
    assert reading([CALM] * 10, ENOUGH_ACCOUNTS // 10).kind == "nothing"
    assert reading([THIEF, *[CALM] * 9], 10).kind == "attack"  # little, but enough for that


@pytest.mark.parametrize("accounts", range(1, FEWEST_ACCOUNTS))
def test_too_few_accounts_leave_nothing_to_compare(accounts):
    assert reading([MOVED] * accounts, 1000).kind == "unclear"
    assert reading([CALM] * accounts, 1000).kind == "nothing"


def test_an_organisation_that_alarmed_without_any_account_is_not_nothing():
    assert reading([CALM] * 10, parents=True).kind == "unclear"


def test_no_accounts_at_all():
    assert read_drift(WATCHED, np.zeros((0, 6), int), np.zeros((0, 6), int), []).kind == "unclear"


@given(data=st.data())
def test_the_reading_does_not_depend_on_the_order_of_accounts(data):
    rates = data.draw(st.lists(st.sampled_from([CALM, 0.05, MOVED, THIEF]), min_size=1, max_size=12))
    queries = data.draw(st.lists(st.integers(1, 300), min_size=len(rates), max_size=len(rates)))
    alarmed = np.array(data.draw(st.lists(st.booleans(), min_size=len(rates), max_size=len(rates))))
    order = np.array(data.draw(st.permutations(range(len(rates)))))
    hits, n = drawn(rates, queries)
    first, then = read_drift(WATCHED, hits, n, alarmed), read_drift(WATCHED, hits[order], n[order], alarmed[order])
    assert (first.kind, first.moved) == (then.kind, then.moved)
    assert sorted(order[list(then.standing)].tolist() if then.standing else []) == list(first.standing)
    assert [spread.event for spread in first.spreads] == [spread.event for spread in then.spreads]


def test_accounts_at_exactly_what_is_allowed_are_hardly_ever_reported():
    rng, wrong, tries = np.random.default_rng(5), 0, 400
    for _ in range(tries):
        hits = (rng.random((10, 150, 1)) <= LEVELS).sum(axis=1)
        n = np.full((10, 6), 150)
        wrong += read_drift(WATCHED, np.hstack([hits, hits]), n, [False] * 10).kind != "nothing"
    assert wrong <= 12  # 4 expected at most; 12 or more have probability 1e-3
    assert stats.binom.sf(12, tries, 0.01) < 1e-3


def test_a_reading_of_many_accounts_is_finite():
    found = reading([THIEF, *[MOVED] * 300], 20)
    assert all(math.isfinite(spread.worst) and 0 <= spread.worst <= spread.tenth <= 1 for spread in found.spreads)
