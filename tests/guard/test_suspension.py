"""What a person decides about an account: it is refused at once, by every guard on the store, until that is lifted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medward.guard.accounts.stores import CorruptStateError, MemoryStore
from medward.guard.accounts.suspension import (
    KEPT,
    SUSPENSIONS,
    SuspendedError,
    SuspensionWatch,
    lift_suspension,
    suspend_account,
    suspensions,
)
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.types import Query

ROW = np.zeros((1, 3), np.float32)
WHY = {"reason": "key was posted in a chat", "operator": "jo"}


class Log(list):
    """A log that can be away."""

    def __init__(self, *, away=False):
        super().__init__()
        self.away = away

    def append(self, record):
        if self.away:
            raise UnavailableError("audit: away")
        super().append(json.loads(json.dumps(record)))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def store():
    return MemoryStore()


def ask(guard, *who):
    return guard.answer(Query(principal=who, inputs=ROW))


def test_a_suspended_account_and_all_below_it_are_refused_and_nobody_else(make_guard, store):
    asked, log = [], Log()
    guard = make_guard(store=store, audit=log)
    suspend_account(store, log, ("Hospital-A", "ward"), **WHY)
    for who in (("hospital-a", "ward"), ("hospital-a", "ward", "key")):
        with pytest.raises(SuspendedError, match="hospital-a/ward is suspended; ask whoever operates"):
            ask(guard, *who)
    asked += [ask(guard, *who) for who in (("hospital-a",), ("hospital-a", "ward-2"), ("hospital-b", "ward"))]
    assert [record.get("event") for record in log] == ["account suspended", None, None, None]
    assert store.get("hospital-a/ward/key") is None, "nothing was judged or charged"


def test_a_guard_on_the_same_store_learns_of_it_within_its_time_and_of_its_end_too(make_guard, store, monkeypatch):
    clock = Clock()
    watch = SuspensionWatch(store, withhold=True, clock=clock)
    watch.check(["a"])
    suspend_account(store, Log(), ("a",), **WHY)
    watch.check(["a"])  # it goes by what it read last
    clock.now = KEPT
    with pytest.raises(SuspendedError):
        watch.check(["a"])
    lift_suspension(store, Log(), ("a",), **WHY)
    clock.now = 2 * KEPT
    watch.check(["a"])
    assert KEPT <= 1, "a suspended account is refused within a second"


def test_what_is_decided_is_on_record_with_why_and_who_before_it_holds(store):
    log = Log()
    suspend_account(store, log, ("a", "b"), reason="  looks\nlike theft ", operator="jo")
    lift_suspension(store, log, ("a", "b"), reason="it was a test", operator="kim")
    assert list(log) == [
        {"event": "account suspended", "principal": "a/b", "reason": "looks like theft", "operator": "jo"},
        {"event": "suspension lifted", "principal": "a/b", "reason": "it was a test", "operator": "kim"},
    ]
    with pytest.raises(UnavailableError):
        suspend_account(store, Log(away=True), ("a",), **WHY)
    assert suspensions(store) == {}


def test_a_reset_or_a_time_to_live_lifts_no_suspension(make_guard, store):
    guard = make_guard(store=store, audit=Log())
    suspend_account(store, Log(), ("a",), **WHY)
    guard.reset(("a",))
    with pytest.raises(SuspendedError):
        ask(guard, "a")


@pytest.mark.parametrize("said", ["", "  ", "x" * 501, "a\x00b", "a\u200bb"])
def test_a_reason_that_says_nothing_or_hides_something_is_refused(store, said):
    with pytest.raises(MedwardError, match="reason: give 1 to 500 printable characters"):
        suspend_account(store, Log(), ("a",), reason=said, operator="jo")


def test_lifting_what_does_not_stand_says_what_does(store):
    suspend_account(store, Log(), ("a",), **WHY)
    with pytest.raises(MedwardError, match="a/b: is not suspended, but a is"):
        lift_suspension(store, Log(), ("a", "b"), **WHY)
    with pytest.raises(MedwardError, match=r"^b: is not suspended$"):
        lift_suspension(store, Log(), ("b",), **WHY)


def test_while_the_store_is_away_what_was_read_last_holds(store):
    clock = Clock()
    suspend_account(store, Log(), ("a",), **WHY)
    watch = SuspensionWatch(store, withhold=True, clock=clock)
    watch.check(["b"])
    store.close()
    clock.now = 10.0
    watch.check(["b"])
    with pytest.raises(SuspendedError):
        watch.check(["a"])


@pytest.mark.parametrize("kept", [["a"], {"a": {"reason": "no operator"}}, {"a": 1}])
def test_suspensions_that_cannot_be_read_are_an_error_as_the_site_chose(make_guard, store, kept):
    store.transact(SUSPENSIONS, lambda _: (kept, None))
    with pytest.raises(CorruptStateError, match="//suspensions"):
        ask(make_guard(store=store), "b")
    assert ask(make_guard(Policy(on_error="flag"), store=store), "b").levels
