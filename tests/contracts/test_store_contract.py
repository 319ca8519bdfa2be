"""What every store promises, one table over all of them."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import MedwardError, UnavailableError
from guard.stores import PURGE_EVERY, MemoryStore, SQLiteStore

STORES = {
    "memory": lambda folder, clock: MemoryStore(clock=clock),
    "sqlite": lambda folder, clock: SQLiteStore(folder / "state.db", clock=clock),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=STORES)
def store(request, tmp_path, clock):
    store = STORES[request.param](tmp_path, clock)
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
    clock.now += 9
    assert store.transact("a", increment, ttl=10) == 1
    clock.now += 9
    assert store.get("a") == 2
    clock.now += 1
    assert store.get("a") is None
    assert store.transact("a", increment) is None
    clock.now += 1e9
    assert store.get("a") == 1


def test_expired_states_are_purged_and_live_ones_are_not(store, clock):
    for i in range(50):
        put(store, f"old-{i}", i, ttl=1)
    put(store, "live", "x", ttl=1000)
    put(store, "forever", "y")
    clock.now += 2
    for _ in range(2 * PURGE_EVERY):
        store.transact("n", increment)
    clock.now -= 2  # back in time an unpurged state would be visible again
    assert [store.get(f"old-{i}") for i in range(50)] == [None] * 50
    assert (store.get("live"), store.get("forever"), store.get("n")) == ("x", "y", 2 * PURGE_EVERY)


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


def test_a_closed_store_is_unavailable(store):
    store.close()
    store.close()
    for call in (lambda: store.get("a"), lambda: store.delete("a"), lambda: store.transact("a", increment)):
        with pytest.raises(UnavailableError):
            call()


@pytest.mark.parametrize("name", STORES)
@given(state=JSON)
def test_json_comes_back_equal(name, tmp_path_factory, state):
    store = STORES[name](tmp_path_factory.getbasetemp(), Clock())
    put(store, "a", state)
    assert store.get("a") == state
    store.close()
