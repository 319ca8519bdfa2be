"""What every store promises, one table over all of them."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.redis_server import running

from medward.guard.accounts.stores import PURGE_EVERY, MemoryStore, SQLiteStore
from medward.guard.errors import MedwardError, UnavailableError
from medward.integrations.redis_store import RedisStore


def redis_store(folder, clock, server):
    client = server().client()
    client.flushall()
    clock.keeper = client
    return RedisStore(server().url, timeout=30)  # a busy machine is not what is tested


STORES = {
    "memory": lambda folder, clock, server: MemoryStore(clock=clock),
    "sqlite": lambda folder, clock, server: SQLiteStore(folder / "state.db", clock=clock),
    "redis": redis_store,
}
DAY = 86400.0
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Clock:
    """The stores' time; Redis keeps its own, so there time passes for its keys instead."""

    def __init__(self):
        self.now = 1000.0
        self.keeper = None

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds
        for key in self.keeper.keys() if self.keeper else ():
            if (left := self.keeper.pttl(key)) > 0:
                self.keeper.pexpire(key, int(left - 1000 * seconds))


@pytest.fixture
def clock():
    clock = Clock()
    yield clock
    if clock.keeper:
        clock.keeper.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Starts Redis when first asked for it, so that the other rows run where there is none."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(running(tmp_path_factory.mktemp("redis"))))


@pytest.fixture(params=STORES)
def store(request, tmp_path, clock, server):
    store = STORES[request.param](tmp_path, clock, server)
    yield store
    store.close()


def put(store, key, state, *, ttl=None):
    store.transact(key, lambda _: (state, None), ttl=ttl)


def increment(state):
    return (state or 0) + 1, state


def test_a_step_sees_the_state_before_it_and_its_result_is_returned(store):
    assert [store.transact("a", increment) for _ in range(3)] == [None, 1, 2]
    assert store.get("a") == 3


def test_keys_are_separate_and_an_unknown_key_is_none(store):
    put(store, "a", 1)
    put(store, "a/b", 2)
    assert (store.get("a"), store.get("a/b"), store.get("a/")) == (1, 2, None)


def test_delete_forgets_one_key_and_forgives_an_absent_one(store):
    put(store, "a", 1)
    put(store, "b", 2)
    store.delete("a")
    store.delete("a")
    assert (store.get("a"), store.get("b")) == (None, 2)
    assert store.transact("a", increment) is None


def test_a_step_that_raises_changes_nothing_and_its_exception_passes(store):
    class Odd(Exception):
        pass

    def step(state):
        state["n"] = 99
        raise Odd

    put(store, "a", {"n": 1})
    with pytest.raises(Odd):
        store.transact("a", step)
    assert store.get("a") == {"n": 1}
    put(store, "a", {"n": 2})
    assert store.get("a") == {"n": 2}


@pytest.mark.parametrize("state", [{1, 2}, float("nan"), float("inf"), object()])
def test_a_state_that_is_not_json_is_refused_and_changes_nothing(store, state):
    put(store, "a", 1)
    with pytest.raises(MedwardError, match="'a' must be finite JSON"):
        put(store, "a", state)
    assert store.get("a") == 1


def test_no_caller_can_change_a_state_it_holds_on_to(store):
    written = {"hits": [1]}
    put(store, "a", written)
    written["hits"].append(2)
    store.get("a")["hits"].append(3)
    seen = store.transact("a", lambda state: (state, state))
    seen["hits"].append(4)
    assert store.get("a") == {"hits": [1]}


def test_ttl_runs_from_the_last_write(store, clock):
    put(store, "a", 1, ttl=10)
    clock.advance(9)
    assert store.transact("a", increment, ttl=10) == 1
    clock.advance(9)
    assert store.get("a") == 2
    clock.advance(1)
    assert store.get("a") is None
    assert store.transact("a", increment) is None
    clock.advance(1e9)
    assert store.get("a") == 1


def test_expired_states_are_purged_and_live_ones_are_not(store, clock):
    for i in range(50):
        put(store, f"old-{i}", i, ttl=1)
    put(store, "live", "x", ttl=1000)
    put(store, "forever", "y")
    clock.advance(2)
    for _ in range(2 * PURGE_EVERY):
        store.transact("n", increment)
    clock.advance(-2)  # back in time an unpurged state would be visible again
    assert [store.get(f"old-{i}") for i in range(50)] == [None] * 50
    assert (store.get("live"), store.get("forever"), store.get("n")) == ("x", "y", 2 * PURGE_EVERY)


@pytest.mark.parametrize("name", ["memory", "sqlite"])  # Redis goes by a clock of its own
@pytest.mark.parametrize("wrong", [1000.0 + 3650 * DAY, -1e9, float("nan"), float("inf")])
def test_one_use_at_a_wrong_time_expires_nothing_and_keeps_nothing_for_ever(name, tmp_path, clock, wrong):
    store = STORES[name](tmp_path, clock, None)
    put(store, "a", 1, ttl=30 * DAY)
    right, clock.now = clock.now, wrong
    assert store.transact("a", increment, ttl=30 * DAY) == 1
    put(store, "b", 1, ttl=30 * DAY)
    for _ in range(PURGE_EVERY + 1):
        store.transact("c", increment)
    clock.now = right
    assert (store.get("a"), store.get("b")) == (2, 1)
    for _ in range(31):
        clock.now += DAY
        put(store, "d", 1)
    assert (store.get("a"), store.get("b")) == (None, None)
    store.close()


@pytest.mark.parametrize("wrong", [0.0, 4.07e9, float("nan")], ids=["1970", "2099", "no number"])
def test_now_goes_on_whatever_the_clock_of_a_process_says(store, clock, monkeypatch, wrong):
    put(store, "a", 1)
    before, right = store.now(), clock.now
    clock.now = wrong
    monkeypatch.setattr(time, "time", lambda: wrong)
    put(store, "b", 1)
    assert -1 <= store.now() - before <= DAY + 60
    clock.now = right
    put(store, "b", 1)
    assert -1 <= store.now() - before <= DAY + 60


@pytest.mark.parametrize("wrong", [0.0, 4.07e9], ids=["1970", "2099"])
@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_now_is_one_time_for_all_who_share_the_states(name, wrong, tmp_path, clock, server, monkeypatch):
    store = STORES[name](tmp_path, clock, server)
    put(store, "a", 1)
    late = Clock()
    late.now = wrong
    monkeypatch.setattr(time, "time", late)
    other = RedisStore(server().url, timeout=30) if name == "redis" else SQLiteStore(store.path, clock=late)
    put(other, "b", 1)
    assert abs(other.now() - store.now()) <= DAY + 60
    put(store, "c", 1)
    assert abs(other.now() - store.now()) <= DAY + 60
    other.close()
    store.close()


def test_eight_threads_lose_no_increment(store):
    def step(state):
        time.sleep(0)  # let another thread in
        return increment(state)

    def work():
        for _ in range(100):
            store.transact("a", step)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("a") == 800


def increment_all(states):
    return [(state or 0) + 1 for state in states], states


def test_all_keys_of_a_path_are_stepped_together_in_their_order(store):
    put(store, "a/b", 5)
    assert store.transact_all(("a", "a/b", "all"), increment_all) == [None, 5, None]
    assert store.transact_all(("all", "a/b"), increment_all) == [1, 6]
    assert [store.get(key) for key in ("a", "a/b", "all")] == [1, 7, 2]
    assert store.transact("a/b", increment) == 7


def test_a_failing_step_over_many_keys_changes_none_of_them(store):
    store.transact_all(("a", "b"), increment_all)
    for states in ([9, float("nan")], [9], [9, 9, 9]):
        with pytest.raises(MedwardError):
            store.transact_all(("a", "b"), lambda _, states=states: (states, None))
    with pytest.raises(MedwardError, match="distinct"):
        store.transact_all(("a", "a"), increment_all)
    assert (store.get("a"), store.get("b")) == (1, 1)


def test_ttl_runs_for_all_keys(store, clock):
    store.transact_all(("a", "b"), increment_all, ttl=10)
    clock.advance(5)
    store.transact_all(("b", "c"), increment_all, ttl=10)
    clock.advance(6)
    assert [store.get(key) for key in "abc"] == [None, 2, 1]
    assert store.transact_all(("a", "b"), increment_all) == [None, 2]


def test_threads_that_share_one_parent_lose_no_update_of_either_key(store):
    def work(key):
        for _ in range(25):
            store.transact_all((key, "all") if key < "c" else ("all", key), increment_all)

    threads = [threading.Thread(target=work, args=(key,)) for key in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.get(key) for key in ("a", "b", "c", "d", "all")] == [25, 25, 25, 25, 100]


def test_a_closed_store_is_unavailable(store):
    store.close()
    store.close()
    for call in (
        lambda: store.get("a"),
        lambda: store.now(),
        lambda: store.delete("a"),
        lambda: store.transact("a", increment),
        lambda: store.transact_all(("a", "b"), increment_all),
    ):
        with pytest.raises(UnavailableError):
            call()


@pytest.mark.parametrize("name", STORES)
@given(state=JSON)
def test_json_comes_back_equal(name, tmp_path_factory, server, state):
    clock = Clock()
    store = STORES[name](tmp_path_factory.getbasetemp(), clock, server)
    put(store, "a", state)
    assert store.get("a") == state
    store.close()
    if clock.keeper:
        clock.keeper.close()


def test_all_keys_are_told_once_and_those_that_expired_are_not(store, clock):
    assert [*store.state_keys()] == []
    names = {f"clinic {i}/ward" for i in range(2500)} | {"//own"}
    for first in range(0, 2500, 500):
        chosen = [f"clinic {i}/ward" for i in range(first, first + 500)]
        store.transact_all(chosen, lambda states: ([1] * len(states), None))
    put(store, "//own", 1)
    put(store, "short", 1, ttl=DAY)
    assert sorted(store.state_keys()) == sorted(names | {"short"})
    clock.advance(2 * DAY)
    assert sorted(store.state_keys()) == sorted(names)
    store.delete("//own")
    assert "//own" not in {*store.state_keys()}
    store.close()
    with pytest.raises(UnavailableError):
        [*store.state_keys()]
