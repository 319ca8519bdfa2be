"""A proposed budget lets declared traffic through and promises no more than its limits keep."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.extraction.budget_proposal import days_needed, propose_budget
from medward.attacks.extraction.in_domain_cell import answers_text, days_text
from medward.attacks.extraction.theft_curve import AnswersNeeded
from medward.attacks.validation.traffic import DeclaredTraffic, unproposed_note
from medward.guard.accounts.budget import PriceRequest, budgets_for, charge_accounts, most_answers
from medward.guard.errors import MedwardError
from medward.guard.policy import BudgetPolicy, Policy
from medward.guard.release.capacity import label_bits, rounded_bits
from medward.guard.types import Level

LABELS = ((Level.LABEL, 1.0),)
ROUNDED = ((Level.ROUNDED, rounded_bits(2, 2)), (Level.LABEL, 1.0))
FOURTEEN = ((Level.ROUNDED, rounded_bits(14, 2)), (Level.LABEL, label_bits(14)))
PRICES = st.sampled_from([LABELS, ROUNDED, FOURTEEN])


def needed(within, reached=10_000):
    return AnswersNeeded(within=within, reached=reached, own_labels=reached, measured=reached)


@cache
def traffic(answers, accounts):
    return DeclaredTraffic(answers=answers, accounts=accounts)


def left_on(budget, day, accounts, offers, asks, states):
    """What leaves when `accounts` of one organisation each ask about so many new inputs on a day, at which levels."""
    levels = []
    for account in range(accounts):
        path = budgets_for(budget, ("org", f"key-{account}"), "r")
        rows = [PriceRequest(f"{day}-{account}-{row}", offers) for row in range(asks)]
        after, (told, _) = charge_accounts(list(path.values()), day, rows, [states.get(key) for key in path])
        states.update(zip(path, after, strict=True))
        levels += told
    return levels


@given(prices=PRICES, answers=st.integers(1, 30), accounts=st.integers(1, 6), within=st.integers(0, 10**6))
def test_declared_traffic_leaves_at_its_finest_level_on_every_day(prices, answers, accounts, within):
    found = propose_budget(needed(within), prices, traffic(answers, accounts), days=30)
    states: dict = {}
    for day in range(3):
        assert set(left_on(found.budget, day, accounts, prices, answers, states)) == {prices[0][0]}


@given(prices=PRICES, answers=st.integers(1, 40), accounts=st.integers(1, 9), within=st.integers(0, 10**6))
def test_what_is_kept_is_what_the_limits_keep(prices, answers, accounts, within):
    found = propose_budget(needed(within), prices, traffic(answers, accounts), days=30)
    cheapest = prices[-1][1]
    ever = most_answers(found.budget, cheapest, 10**6, organisation=True)
    assert found.keeps == (ever <= within)
    assert found.answers == most_answers(found.budget, cheapest, 30, organisation=True)
    read = Policy.from_toml(f'on_error = "flag"\n{found.to_toml()}').budget
    assert read == found.budget
    assert all(len(line) <= 120 for line in found.to_toml().splitlines())


def test_a_cap_that_ordinary_traffic_allows_is_proposed_in_all_and_one_that_it_does_not_by_day_alone():
    kept = propose_budget(needed(1200), LABELS, traffic(10, 4), days=30)
    assert (kept.keeps, kept.budget.total_bits, kept.budget.daily_bits, kept.budget.parents) == (True, 300, 10, 4)
    assert "and ever" in kept.to_toml()
    assert kept.to_toml().startswith("# in policy.toml replace these keys of [budget]\n")
    assert "an organisation gets 1,200 answers in 30 days at most\n" in kept.to_toml(), (
        "of one price there is one number"
    )
    lost = propose_budget(needed(1199), LABELS, traffic(10, 4), days=30)
    assert (lost.keeps, lost.budget.total_bits, lost.answers) == (False, 0, 1200)
    assert "No limit that this traffic allows" in lost.to_toml()
    coarse = propose_budget(needed(1200), ROUNDED, traffic(10, 4), days=30)
    assert not coarse.keeps, "who is told labels only gets several times as many"
    assert coarse.answers > 1200 * 6
    said = coarse.to_toml()
    assert "gets 1,200 answers with scores in 30 days at most" in said
    assert f"or {coarse.answers:,.0f} as labels (1 bit each where scores take {ROUNDED[0][1]:.3g})" in said
    assert "\ntotal_bits = 0  # no limit\n" in said


def test_answers_without_a_price_are_not_limited():
    assert propose_budget(needed(5), (), traffic(1, 1), days=30) is None
    assert propose_budget(needed(5), ((Level.LABEL, 0.0),), traffic(1, 1), days=30) is None


LIMITS = st.just(0.0) | st.floats(0.5, 40)


@given(
    daily=LIMITS,
    total=LIMITS,
    parents=st.sampled_from([0.0, 1.0, 2.5, 10.0]),
    share=st.sampled_from([0.0, 0.5]),
    prices=PRICES,
    days=st.integers(1, 4),
    coarse=st.booleans(),
)
def test_nobody_gets_more_answers_than_the_budget_says(daily, total, parents, share, prices, days, coarse):
    budget = BudgetPolicy(daily_bits=daily, total_bits=total, parents=parents, label_share=share)
    offers = prices[-1:] if coarse else prices
    states: dict = {}
    told = dict.fromkeys(range(4), 0)
    for day in range(days):
        for account in told:
            path = budgets_for(budget, ("org", f"key-{account}"), "r")
            rows = [PriceRequest(f"{day}-{account}-{row}", offers) for row in range(60)]
            after, (levels, _) = charge_accounts(list(path.values()), day, rows, [states.get(key) for key in path])
            states.update(zip(path, after, strict=True))
            told[account] += sum(level < Level.WITHHELD for level in levels)
    cheapest = min(bits for _, bits in prices)
    assert max(told.values()) <= most_answers(budget, cheapest, days)
    assert sum(told.values()) <= most_answers(budget, cheapest, days, organisation=True)


def test_the_bound_on_answers_is_met_by_who_asks_for_labels_only():
    budget = BudgetPolicy(daily_bits=5, total_bits=12, parents=2, label_share=0.5)
    states: dict = {}
    levels = [level for day in range(4) for level in left_on(budget, day, 3, LABELS, 20, states)]
    assert sum(level is Level.LABEL for level in levels) == 24 == most_answers(budget, 1.0, 4, organisation=True)
    assert [most_answers(budget, 1.0, days) for days in (1, 2, 3, 4)] == [5, 10, 12, 12]
    assert most_answers(BudgetPolicy(), 1.0, 9) == math.inf
    assert most_answers(budget.model_copy(update={"parents": 0.0}), 1.0, 9, organisation=True) == math.inf


def test_days_are_counted_at_the_caps():
    budget = BudgetPolicy(daily_bits=5, parents=2)
    assert [days_needed(budget, 1.0, 21, organisation=each) for each in (False, True)] == [5, 3]
    assert days_needed(BudgetPolicy(total_bits=5), 1.0, 6, organisation=False) == math.inf
    assert days_needed(BudgetPolicy(daily_bits=5, total_bits=9), 1.0, 9, organisation=False) == 2
    assert days_needed(BudgetPolicy(daily_bits=0.5), 1.0, 1, organisation=False) == math.inf
    assert days_needed(BudgetPolicy(), 1.0, 10**6, organisation=True) == 1
    assert [days_text(each) for each in (1, 2000, math.inf)] == [
        "needs 1 day",
        "needs 2,000 days",
        "never gets so many",
    ]
    assert [answers_text(each) for each in (1, 1200.0, math.inf)] == [
        "1 answer",
        "1,200 answers",
        "any number of answers",
    ]


def test_traffic_is_said_whole_or_not_at_all():
    assert DeclaredTraffic.said(None, None) is None
    assert DeclaredTraffic.said(20, 3) == traffic(20, 3)
    for given_, missing in (((20, None), "accounts"), ((None, 3), "traffic")):
        with pytest.raises(MedwardError, match=f"without {missing}; give both"):
            DeclaredTraffic.said(*given_)
    for wrong in (0, -1, 2.5, True, np.inf, 10**7):
        with pytest.raises(MedwardError, match="whole number from 1 to 1000000"):
            DeclaredTraffic(answers=wrong, accounts=1)


def test_traffic_that_brings_no_proposal_says_why():
    left_out = unproposed_note(traffic(20, 3), ["pgd"], {"uap": "", "in-domain-soft": ""})
    assert left_out == "no budget proposed: in-domain-soft was left out; run --attacks in-domain-soft"
    unasked = unproposed_note(traffic(20, 3), ["pgd"], {})
    assert unasked == "no budget proposed: no thief of ordinary cases was run; run --attacks in-domain-soft"
    assert unproposed_note(traffic(20, 3), ["pgd", "in-domain-hard"], {}) == ""
    assert unproposed_note(None, [], {"in-domain-soft": ""}) == ""
