"""What is said of an account: as its verdicts said it, from the store alone."""

from __future__ import annotations

import numpy as np
import pytest

from medward.guard.accounts.stores import MemoryStore
from medward.guard.accounts.suspension import suspend_account
from medward.guard.policy import Policy
from medward.guard.types import Action, Query

BENIGN = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32)
THEFT = 60 + np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
POLICY = Policy(on_error="withhold", screen={"action": "flag"}, budget={"total_bits": 1000})


@pytest.fixture
def guard(make_guard):
    return make_guard(POLICY, store=MemoryStore())


def ask(guard, rows, *who):
    for row in rows:
        answer = guard.answer(Query(principal=who, inputs=row[None]))
    return answer


def test_an_overview_says_what_the_verdicts_of_the_last_answer_said(guard):
    ask(guard, BENIGN, "clinic", "good")
    last = ask(guard, THEFT, "clinic", "thief")
    found = {each.account: each for each in guard.accounts.overviews()}
    assert list(found) == ["clinic", "clinic/good", "clinic/thief"]
    said = {each.account: each for each in last.verdicts if each.part == "e-process"}
    for name in ("clinic", "clinic/thief"):
        verdict, seen = said[name], found[name]
        assert (seen.queries, seen.log_e, seen.peak) == tuple(verdict.evidence[each] for each in ("n", "log_e", "peak"))
        assert seen.action == verdict.action
    assert found["clinic/thief"].action is Action.WITHHOLD
    assert found["clinic"].action is Action.FLAG, "parents flag by default"
    assert found["clinic/good"].action is Action.ALLOW
    assert found["clinic/good"].queries == len(BENIGN)
    assert [each.acted_upon for each in found.values()] == [False, False, True]


def test_an_overview_says_what_is_left_of_a_budget_and_none_without_one(guard, make_guard):
    last = ask(guard, BENIGN, "clinic", "good")
    spent = {each.account: each.evidence for each in last.verdicts if each.part == "leakage"}
    for name in spent:
        seen = guard.accounts.overview(name)
        assert (seen.bits_total, seen.bits_left) == (spent[name]["bits_total"], spent[name]["left"])
    free = make_guard(Policy(on_error="withhold"))
    ask(free, BENIGN[:1], "a")
    assert free.accounts.overview("a").bits_left is None


def test_reading_changes_nothing_and_knows_nobody_who_never_asked(guard):
    ask(guard, BENIGN[:3], "a", "b")
    kept = {key: guard.store.get(key) for key in guard.store.state_keys()}
    assert guard.accounts.overview("c") is None
    assert len([*guard.accounts.overviews()]) == 2
    assert kept == {key: guard.store.get(key) for key in guard.store.state_keys()}


def test_a_suspension_shows_on_the_account_and_on_those_below_it_though_they_never_asked(guard):
    class Log:
        def append(self, record):
            pass

    ask(guard, BENIGN[:2], "a", "b")
    suspend_account(guard.store, Log(), ("a",), reason="lost key", operator="jo")
    suspend_account(guard.store, Log(), ("new",), reason="not yet", operator="jo")
    assert guard.accounts.overview("a/b").suspension.reason == "lost key"
    assert guard.accounts.overview("a/b").acted_upon
    new = guard.accounts.overview("new")
    assert (new.queries, new.content["suspended"]["by"]) == (0, "jo")
