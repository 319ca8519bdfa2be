"""Queries that are answered together count as if they came one after the other, and none fails with another."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medward.guard import defenses
from medward.guard.accounts.monitors import AccountMonitors, observe_batch
from medward.guard.accounts.stores import CorruptStateError, MemoryStore
from medward.guard.accounts.suspension import SuspendedError, suspend_account
from medward.guard.errors import MedwardError, ModelError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.request import keyed_digests
from medward.guard.types import Answer, Level, Query

ROWS = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
ODD = 60 + np.random.default_rng(2).normal(size=(30, 3)).astype(np.float32)
WHO = [("a",), ("a", "b"), ("a", "c"), ("d", "e", "f")]
POISON = np.float32(77)


class Records(list):
    def append(self, record):
        super().append(json.loads(json.dumps(record)))


class PoisonedModel:
    """The model of a spec that fails where any row has a certain value; `asked` counts rows of each call."""

    def __init__(self, model, error=ValueError):
        self._model, self._error, self.asked, self.spec = model, error, [], model.spec

    def predict(self, inputs):
        self.asked.append(len(inputs))
        if (np.asarray(inputs) == POISON).any():
            raise self._error("poison")
        return self._model.predict(inputs)


def query(rows, who=("a", "b"), number=0):
    return Query(principal=who, inputs=rows, id=f"query-{number}")


def told(answer):
    """All of an answer but the last digits of its scores."""
    assert isinstance(answer, Answer), answer
    return (
        answer.id,
        answer.labels.tolist(),
        answer.levels,
        answer.scores.tolist(),
        [each.content for each in answer.verdicts],
    )


def states(store):
    return {key: store.get(key) for key in sorted(store.state_keys())}


def alike(one, other):
    """Whether they are equal but for the last digits of numbers, and of those packed into a text."""
    if isinstance(one, float) and isinstance(other, float):
        return np.isclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            alike(one[key], other[key]) for key in one if key not in ("means", "directions")
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(
        st.tuples(st.sampled_from(WHO), st.lists(st.integers(0, 49), min_size=1, max_size=4)), min_size=1, max_size=8
    ),
    parents=st.sampled_from(["flag", "withhold"]),
    budget=st.sampled_from([0.0, 6.0]),
)
def test_together_is_as_one_after_the_other(make_guard, asked, parents, budget):
    """Answers, records and states; rows come again, accounts share parents, and some are thieves'."""
    policy = Policy.model_validate(
        {
            "on_error": "withhold",
            "screen": {"action": "flag"},
            "monitor": {"parents": parents},
            "budget": {"daily_bits": budget},
        }
    )
    pool = np.concatenate([ROWS, ODD[:10]])
    queries = [query(pool[rows], who, number) for number, (who, rows) in enumerate(asked)]
    found = []
    for together in (True, False):
        log, store = Records(), MemoryStore()
        guard = make_guard(policy, store=store, audit=log, clock=lambda: 0.0)
        answers = guard.answer_all(queries) if together else [guard.answer(each) for each in queries]
        found.append(([told(each) for each in answers], list(log), states(store)))
    together, apart = found
    assert alike(together, apart)


def test_a_thief_is_withheld_within_one_batch(make_guard):
    """Its later queries of the batch see what its earlier ones did; those of others do not."""
    alarms = []
    guard = make_guard(
        Policy.model_validate({"on_error": "withhold", "screen": {"action": "flag"}}), on_alarm=alarms.append
    )
    queries = [query(row[None], ("thief",)) for row in ODD] + [query(ROWS[:1], ("clinic",))]
    levels = [each.levels[0] for each in guard.answer_all(queries)]
    assert levels[0] is Level.ROUNDED
    assert levels[-2] is Level.WITHHELD
    assert levels[:-1] == sorted(levels[:-1])
    assert levels[-1] is Level.ROUNDED
    assert len(alarms) == len({each.action for each in alarms}), "each rung is told once"


def test_what_is_refused_at_the_door_takes_nothing_from_others(make_guard):
    log = Records()
    guard = make_guard(audit=log)
    suspend_account(guard.store, Records(), ("s",), reason="asked by its owner", operator="on duty")
    found = guard.answer_all(
        [query(ROWS[:1]), query(ROWS[:1, :2]), query(ROWS[:1], ("s", "t")), "no query", query(ROWS[1:2])]
    )
    assert [type(each) for each in found] == [Answer, MedwardError, SuspendedError, MedwardError, Answer]
    assert len(log) == 2


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_row_that_the_model_fails_on_fails_alone(make_guard, linear_model, error):
    log, model = Records(), PoisonedModel(linear_model, error)
    guard = make_guard(model=model, audit=log)
    poisoned = np.full((1, 3), POISON)
    found = guard.answer_all([query(ROWS[:2], number=0), query(poisoned, number=1), query(ROWS[2:3], number=2)])
    assert [type(each) for each in found] == [Answer, ModelError, Answer]
    assert sorted(each.get("event", "answered") for each in log) == ["answered", "answered", "model failed"]
    assert model.asked == [4, 2, 1, 1]


def test_the_model_is_asked_once(make_guard, linear_model):
    model = PoisonedModel(linear_model)
    make_guard(model=model).answer_all([query(ROWS[at : at + 2]) for at in range(5)])
    assert model.asked == [10]


def test_a_state_that_cannot_be_read_fails_for_its_account_alone(make_guard):
    class Torn(MemoryStore):
        def transact_all(self, keys, step, *, ttl=None):
            if "torn" in keys:
                raise CorruptStateError("store: the state of 'torn' is corrupt")
            return super().transact_all(keys, step, ttl=ttl)

    guard = make_guard(store=Torn())
    found = guard.answer_all([query(ROWS[:1], ("whole",)), query(ROWS[:1], ("torn",)), query(ROWS[1:2], ("whole",))])
    assert [each.levels[0] for each in found] == [Level.ROUNDED, Level.WITHHELD, Level.ROUNDED]
    assert guard.store.get("whole")["e-process"]["n"] == 2


def test_a_request_that_cannot_be_looked_at_fails_alone_and_counts_for_nobody(make_guard, monkeypatch):
    def failing(policy, profile, inputs, outputs):
        if (inputs == POISON).any():
            raise ZeroDivisionError
        return observe_batch(policy, profile, inputs, outputs)

    monkeypatch.setattr(defenses, "observe_batch", failing)
    guard = make_guard()
    poisoned = np.full((1, 3), POISON)
    found = guard.answer_all([query(ROWS[:1], ("a",)), query(poisoned, ("b",)), query(ROWS[1:2], ("a",))])
    assert [type(each) for each in found] == [Answer, ZeroDivisionError, Answer]
    assert guard.store.get("a")["e-process"]["n"] == 2
    assert guard.store.get("b") is None


def test_an_account_is_stepped_once_through_all_that_a_batch_asks_of_it(make_guard, monkeypatch):
    whole, calls = AccountMonitors.watch_all, []

    def counted(monitors, batches, state):
        calls.append(len(batches))
        return whole(monitors, batches, state)

    monkeypatch.setattr(AccountMonitors, "watch_all", counted)
    make_guard().answer_all([query(ROWS[at : at + 1], ("a", each)) for at, each in enumerate("bcb")])
    assert sorted(calls) == [1, 2, 3]  # c, b, and their parent


def test_a_query_that_no_state_can_step_through_fails_alone_in_its_batch(make_guard, monkeypatch):
    whole, poison = AccountMonitors.watch_all, set()

    def failing(monitors, batches, state):
        if any(poison & set(digests) for digests, _ in batches):
            raise ZeroDivisionError
        return whole(monitors, batches, state)

    monkeypatch.setattr(AccountMonitors, "watch_all", failing)
    guard = make_guard(salt=b"s")
    poison |= set(keyed_digests(ROWS[1:2], b"s"))
    found = guard.answer_all([query(ROWS[at : at + 1], ("a",)) for at in range(3)])
    assert [each.levels[0] for each in found] == [Level.ROUNDED, Level.WITHHELD, Level.ROUNDED]
    assert guard.store.get("a")["e-process"]["n"] == 2


BUDGETED = Policy.model_validate({"on_error": "withhold", "budget": {"daily_bits": 1000.0}})


def test_all_are_charged_in_one_transaction(make_guard):
    charged = []

    class Counted(MemoryStore):
        def transact_all(self, keys, step, *, ttl=None):
            charged.extend([[*keys]] if any("//leakage" in key for key in keys) else [])
            return super().transact_all(keys, step, ttl=ttl)

    guard = make_guard(BUDGETED, store=Counted())
    guard.answer_all([query(ROWS[at : at + 1], ("a", each)) for at, each in enumerate("bcb")])
    assert charged == [["a//leakage", "a/b//leakage", "a/c//leakage"]]
    spent = {key: guard.store.get(key)["total"] for key in charged[0]}
    assert spent["a//leakage"] == spent["a/b//leakage"] + spent["a/c//leakage"]
    assert spent["a/b//leakage"] == 2 * spent["a/c//leakage"] > 0


def test_a_budget_that_cannot_be_read_fails_for_its_account_alone(make_guard):
    class Torn(MemoryStore):
        def transact_all(self, keys, step, *, ttl=None):
            if "torn//leakage" in keys:
                raise CorruptStateError("store: the state of 'torn//leakage' is corrupt")
            return super().transact_all(keys, step, ttl=ttl)

    guard = make_guard(BUDGETED, store=Torn())
    found = guard.answer_all([query(ROWS[:1], ("whole",)), query(ROWS[:1], ("torn",)), query(ROWS[1:2], ("whole",))])
    assert [each.levels[0] for each in found] == [Level.ROUNDED, Level.WITHHELD, Level.ROUNDED]


def test_a_store_that_is_away_withholds_all_and_is_asked_once(make_guard):
    class Away(MemoryStore):
        asked = 0

        def transact_all(self, keys, step, *, ttl=None):
            Away.asked += 1
            raise UnavailableError("store is away")

    found = make_guard(store=Away()).answer_all([query(ROWS[:1], ("a",)), query(ROWS[:1], ("b",))])
    assert {each.levels[0] for each in found} == {Level.WITHHELD}
    assert Away.asked == 1, "an outage of seconds is waited for once"


def test_no_answer_leaves_without_its_record(make_guard):
    class Full:
        def append(self, record):
            if record["query"] == "query-1":
                raise UnavailableError("disk full")

    found = make_guard(audit=Full()).answer_all([query(ROWS[:1], number=at) for at in range(3)])
    assert [type(each) for each in found] == [Answer, UnavailableError, Answer]


def test_nothing_asked_is_nothing_answered(make_guard):
    assert make_guard().answer_all([]) == []
