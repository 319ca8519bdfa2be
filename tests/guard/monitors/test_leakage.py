from __future__ import annotations

import json
import math
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.accounts.budget import (
    REMEMBERED_ANSWERS,
    Leakage,
    PriceRequest,
    budgets_for,
    charge_accounts,
    utc_day,
)
from medward.guard.accounts.stores import MemoryStore
from medward.guard.errors import MedwardError
from medward.guard.policy import BudgetPolicy
from medward.guard.types import Action, Level

FINE = ((Level.ROUNDED, 6.658), (Level.LABEL, 1.0))
COARSE = FINE[1:]
KEY = ("org", "ward", "key")

digests = st.integers(0, 30).map(str)
asks = st.lists(st.builds(PriceRequest, digests, st.sampled_from([FINE, COARSE, ()])), max_size=40)
limits = st.floats(0, 60)
budgets = st.builds(Leakage, daily=limits, total=limits, label_share=st.sampled_from([0.0, 0.5, 0.9]))
days = st.lists(st.tuples(st.integers(0, 4), asks), max_size=5)


def fresh(count, offers=FINE, start=0):
    """Asks about inputs that were never asked about."""
    return [PriceRequest(f"{start + i}", offers) for i in range(count)]


@given(budget=budgets, history=days)
def test_what_is_told_never_exceeds_a_limit_and_no_bit_comes_back(budget, history):
    state, told, ever, seen = None, {}, 0.0, set()
    for day, asked in history:
        before = budget.resume(state, day)
        state, levels = budget.step(state, day, asked)
        assert state["total"] >= before["total"]
        assert state["today"] >= before["today"]
        for ask, level in zip(asked, levels, strict=True):
            if level < Level.WITHHELD and ask.digest not in seen:
                ever += dict(ask.offers)[level]
                told[state["day"]] = told.get(state["day"], 0.0) + dict(ask.offers)[level]
                seen.add(ask.digest)
    spent = 0 if state is None else state["total"] / 1000
    assert ever <= spent + 1e-6  # nothing new left uncharged
    assert not budget.total or spent <= budget.total
    assert not budget.daily or max(told.values(), default=0) <= budget.daily + 1e-6


@given(budget=budgets, asked=asks)
def test_a_batch_is_as_good_as_its_rows_one_by_one(budget, asked):
    together, levels = budget.step(None, 1, asked)
    state, alone = budget.start(), []
    for ask in asked:
        state, (level,) = budget.step(json.loads(json.dumps(state)), 1, [ask])
        alone.append(level)
    assert alone == levels
    assert {**state, "day": 1} == {**together, "day": 1}


@given(limit=st.floats(0.1, 60), more=st.floats(0, 60), past=asks, ask=st.builds(PriceRequest, digests, st.just(FINE)))
def test_a_larger_limit_never_gives_a_coarser_answer_to_the_same_past(limit, more, past, ask):
    state, _ = Leakage(total=limit).step(None, 0, past)
    low, high = Leakage(total=limit).allowed(state, ask), Leakage(total=limit + more).allowed(state, ask)
    assert high <= low


@given(asked=asks)
def test_without_a_limit_everything_leaves_as_offered(asked):
    _, levels = Leakage().step(None, 0, asked)
    assert levels == [ask.finest for ask in asked]


def test_scores_then_labels_then_nothing():
    _, levels = Leakage(total=40, label_share=0.5).step(None, 0, fresh(30))
    assert levels == [Level.ROUNDED] * 3 + [Level.LABEL] * 20 + [Level.WITHHELD] * 7
    _, greedy = Leakage(total=40, label_share=0).step(None, 0, fresh(30))
    assert greedy == [Level.ROUNDED] * 6 + [Level.WITHHELD] * 24


def test_a_new_day_gives_a_new_daily_limit_and_a_clock_that_runs_backwards_none():
    budget = Leakage(daily=2, total=5)
    state, first = budget.step(None, 10, fresh(3, COARSE))
    state, back = budget.step(state, 9, fresh(1, COARSE, start=10))
    state, back_again = budget.step(state, 10, fresh(1, COARSE, start=20))
    state, second = budget.step(state, 11, fresh(3, COARSE, start=30))
    _, third = budget.step(state, 12, fresh(3, COARSE, start=40))
    answered = [sum(level is Level.LABEL for level in levels) for levels in (first, back, back_again, second, third)]
    assert answered == [2, 0, 0, 2, 1]


@pytest.mark.parametrize("wrong", [10 + 3650, 0, -5, 11])
def test_a_query_on_a_wrong_day_locks_nobody_out_and_gives_nothing_back(wrong):
    """Told on day 10, on the wrong one, on 10 and the wrong one again, then on the days that follow."""
    budget = Leakage(daily=4)
    days = (10, wrong, 10, wrong, 12, 13, 14)
    state, told = None, []
    for i, day in enumerate(days):
        state, levels = budget.step(json.loads(json.dumps(state)), day, fresh(5, COARSE, start=100 * i))
        told.append(sum(level is Level.LABEL for level in levels))
    assert told[0] == 4
    assert told[1] in (0, 4)  # a later day may be tomorrow, an earlier one never comes
    assert told[2:4] == [0, 0]
    assert told[5:] == [4, 4]


def test_the_limit_of_the_count_of_days_a_clock_that_runs_through_weeks_twice_gives_them_twice_and_nothing_in_all():
    state, told, budget = None, [], Leakage(daily=2, total=29)
    for turn, day in enumerate([*range(1, 13), 1, 2, 3, 4]):
        state, levels = budget.step(state, day, fresh(5, COARSE, start=10 * turn))
        told.append(sum(level is Level.LABEL for level in levels))
    assert told == [2] * 12 + [0, 2, 2, 1], "a day older than the last eight is forgotten; what is spent in all is not"


def test_a_state_of_an_older_version_goes_on():
    state = {"release": "", "day": 10, "today": 2000, "total": 2000, "recent": []}
    after, levels = Leakage(daily=4).step(state, 10, fresh(3, COARSE))
    assert (levels.count(Level.LABEL), after["today"]) == (2, 4000)


def test_a_repeat_is_free_at_its_level_and_as_a_label_but_not_at_a_finer_one():
    budget = Leakage(total=100)
    state, _ = budget.step(None, 0, [PriceRequest("a", FINE), PriceRequest("b", COARSE)])
    spent = state["total"]
    state, levels = budget.step(
        state,
        0,
        [PriceRequest("a", FINE), PriceRequest("a", COARSE), PriceRequest("b", COARSE), PriceRequest("a", FINE)],
    )
    assert (state["total"], levels) == (spent, [Level.ROUNDED, Level.LABEL, Level.LABEL, Level.ROUNDED])
    state, _ = budget.step(state, 0, [PriceRequest("b", FINE)])
    assert state["total"] == spent + 6658


def test_a_repeat_leaves_even_when_the_budget_is_spent_and_something_new_does_not():
    budget = Leakage(total=1)
    _, levels = budget.step(None, 0, [PriceRequest("a", COARSE), PriceRequest("b", COARSE), PriceRequest("a", COARSE)])
    assert levels == [Level.LABEL, Level.WITHHELD, Level.LABEL]


def test_a_repeat_is_paid_again_once_forgotten_or_under_another_release():
    budget = Leakage(release="one")
    state, _ = budget.step(None, 0, fresh(1 + REMEMBERED_ANSWERS))
    assert budget.step(state, 0, fresh(1))[0]["total"] == state["total"] + 6658
    assert budget.step(state, 0, fresh(1, start=1))[0]["total"] == state["total"]
    assert Leakage(release="two").step(state, 0, fresh(1, start=1))[0]["total"] == state["total"] + 6658


def test_what_others_withhold_costs_nothing():
    state, levels = Leakage(total=1).step(None, 0, fresh(9, ()))
    assert (state["total"], levels) == (0, [Level.WITHHELD] * 9)


def test_a_state_is_small():
    state, _ = Leakage(total=1e9).step(None, 20000, [PriceRequest(f"{i:016x}", FINE) for i in range(1000)])
    assert len(json.dumps(state)) < 1024


@pytest.mark.parametrize("bits", [-1.0, math.nan, math.inf])
def test_an_answer_that_carries_no_number_of_bits_is_refused(bits):
    with pytest.raises(MedwardError, match="carries 0 bits or more"):
        Leakage(total=1).step(None, 0, [PriceRequest("a", ((Level.LABEL, bits),))])


POLICY = BudgetPolicy(total_bits=10, parents=3, label_share=0)


def told(store, principal, asked, policy=POLICY):
    """As the serving path charges: every account in one transaction."""
    budgets = budgets_for(policy, principal, "r")
    return store.transact_all(list(budgets), partial(charge_accounts, list(budgets.values()), 1, asked))


def spent(store, name):
    return (store.get(f"{name}//leakage") or {"total": 0})["total"] / 1000


def test_every_account_of_a_path_is_charged_for_what_left():
    store = MemoryStore()
    levels, verdicts = told(store, KEY, fresh(6))
    assert levels == [Level.ROUNDED] + [Level.LABEL] * 3 + [Level.WITHHELD] * 2
    assert [spent(store, name) for name in ("org", "org/ward", "org/ward/key")] == [9.658] * 3
    assert [verdict.source for verdict in verdicts] == [f"leakage:{n}" for n in ("org", "org/ward", "org/ward/key")]
    assert [verdict.action for verdict in verdicts] == [Action.ALLOW, Action.ALLOW, Action.WITHHOLD]
    assert verdicts[-1].evidence == pytest.approx({"bits_today": 9.658, "bits_total": 9.658, "left": 0.342})


def test_accounts_that_share_an_organisation_share_its_limit():
    store, answered = MemoryStore(), 0
    for key in range(20):
        levels, verdicts = told(store, ("org", f"key-{key}"), fresh(10, COARSE, start=10 * key))
        answered += sum(level is Level.LABEL for level in levels)
    assert answered == 30
    assert [verdict.action for verdict in verdicts] == [Action.WITHHOLD, Action.ALLOW]
    assert spent(store, "org/key-19") == 0


def test_organisations_without_a_limit_are_not_counted():
    store = MemoryStore()
    policy = BudgetPolicy(total_bits=10, parents=0)
    _, verdicts = told(store, KEY, fresh(2, COARSE), policy)
    assert [verdict.source for verdict in verdicts] == ["leakage:org/ward/key"]
    assert spent(store, "org") == 0


def test_without_limits_there_is_nothing_to_charge():
    assert budgets_for(BudgetPolicy(), KEY, "r") == {}


def test_a_reset_of_the_monitors_gives_no_bit_back():
    store = MemoryStore()
    told(store, KEY, fresh(10, COARSE))
    store.delete("/".join(KEY))
    levels, _ = told(store, KEY, fresh(1, COARSE, start=50))
    assert levels == [Level.WITHHELD]


def test_days_are_those_of_utc():
    assert [utc_day(seconds) for seconds in (-1.0, 0.0, 86399.9, 86400.0)] == [-1, 0, 0, 1]
