"""What the Redis store promises beyond the contract: one round trip, exactly once, honest when Redis is away."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest
from support.redis_server import DURABLE, Wire, running
from support.replicas import count

from medward.guard.accounts.stores import CorruptStateError, MemoryStore
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.types import Level, Query
from medward.integrations.redis_store import RedisStore

PATH = ("hospital-a", "hospital-a/radiology", "hospital-a/radiology/key-17")
KEY = "{medward}:state:"


def increment(states):
    return [(state or 0) + 1 for state in states], states


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(shared_server):
    with shared_server.client() as client:
        client.flushall()
    return shared_server


@pytest.fixture
def wire(server, tmp_path):
    wire = Wire(server, tmp_path)
    yield wire
    wire.close()


@pytest.fixture
def open_store():
    stores = []

    def make(url, *, timeout=30, **settings):  # a busy machine is not what is tested
        stores.append(RedisStore(url, timeout=timeout, **settings))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def trips(wire, call):
    before = wire.round_trips
    call()
    return wire.round_trips - before


def test_a_query_costs_one_round_trip_and_one_more_when_a_replica_wrote_in_between(wire, server, open_store):
    store, other = open_store(wire.url), open_store(server.url)
    store.transact_all(("x",), increment)  # loads the script

    def ask():
        store.transact_all(PATH, increment)

    assert [trips(wire, ask) for _ in range(5)] == [1] * 5
    other.transact_all(PATH[:1], increment)
    assert [trips(wire, ask) for _ in range(3)] == [2, 1, 1]
    assert [store.get(key) for key in PATH] == [9, 8, 8]


def test_now_follows_the_clock_of_redis_and_costs_no_round_trip(wire, server, open_store):
    store = open_store(wire.url)
    assert trips(wire, store.now) == 0
    with server.client() as client:
        seconds, rest = client.time()
        assert abs(store.now() - seconds - rest / 1e6) < 2
    store._reading = store._reading._replace(time=1.0)  # the clock of Redis, or the server, was another one until now
    store.transact_all(PATH, increment)
    assert abs(store.now() - seconds) < 60


def test_states_of_other_replicas_are_seen_though_both_hold_copies(server, open_store):
    one, other = open_store(server.url), open_store(server.url)
    seen = [(one, other)[i % 2].transact_all(PATH, increment)[0] for i in range(6)]
    assert seen == [None, 1, 2, 3, 4, 5]
    one.delete(PATH[0])
    assert other.transact_all(PATH, increment) == [None, 6, 6]
    assert one.transact_all(PATH, increment) == [1, 7, 7]


def test_the_local_copies_are_bounded_and_only_save_time(wire, open_store):
    store = open_store(wire.url, cached=2)
    for _ in range(2):
        for key in "abc":
            store.transact_all((key,), increment)
    assert trips(wire, lambda: store.transact_all(("c",), increment)) == 1
    assert trips(wire, lambda: store.transact_all(("a",), increment)) == 2
    assert [store.get(key) for key in "abc"] == [3, 2, 3]


@pytest.mark.parametrize("lost", [1, 2])
def test_an_update_whose_reply_is_lost_counts_once(wire, open_store, lost):
    store = open_store(wire.url)
    store.transact_all(PATH, increment)
    wire.lose = lost
    assert store.transact_all(PATH, increment) == [1, 1, 1]
    assert store.transact_all(PATH, increment) == [2, 2, 2]
    assert wire.lose == 0


def test_an_update_whose_reply_is_lost_counts_once_though_others_have_written_since(wire, server, open_store):
    """The version alone would not tell: all keys carry another's by the time the update is sent again."""
    store, other = open_store(wire.url), open_store(server.url)
    store.transact_all(PATH, increment)
    wire.meanwhile = lambda: other.transact_all(PATH, increment)
    wire.lose = 1
    assert store.transact_all(PATH, increment) == [1, 1, 1]
    assert store.get(PATH[0]) == 3


def test_kill_9_of_some_replicas_loses_no_acknowledged_update_and_counts_none_twice(server, open_store):
    counted = count("redis", server.url, workers=8, kill=4, after=15, updates=30)
    store = open_store(server.url)
    assert (counted.lost(store), counted.surplus(store)) == (0, 0)
    assert sum(counted.acknowledged) >= 8 * 15


def test_a_restart_of_redis_is_only_a_pause(tmp_path, open_store):
    with running(tmp_path, *DURABLE) as server:
        store = open_store(server.url, timeout=20)
        store.transact_all(PATH, increment)
        server.stop()
        restart = threading.Timer(0.3, server.start)
        restart.start()
        assert store.transact_all(PATH, increment) == [1, 1, 1]  # reconnects, and loads the script again
        restart.join()
        assert store.transact_all(PATH, increment) == [2, 2, 2]


@pytest.mark.parametrize("away", ["stop", "freeze"])
def test_a_redis_that_is_away_is_unavailable_in_time_and_then_works_again(tmp_path, open_store, away):
    with running(tmp_path, *DURABLE) as server:
        store = open_store(server.url, timeout=0.4)
        store.transact_all(PATH, increment)
        getattr(server, away)()
        for call in (lambda: store.transact_all(PATH, increment), lambda: store.get("a"), lambda: store.delete("a")):
            began = time.monotonic()
            with pytest.raises(UnavailableError, match=r"redis\.sock"):
                call()
            assert time.monotonic() - began < 0.4 * 1.5 + 1  # a second for a busy machine
        if away == "freeze":
            began = time.monotonic()
            threads = [threading.Thread(target=refused, args=(store,)) for _ in range(24)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert time.monotonic() - began < 0.4 * 1.5 + 1, "threads must not wait for one another's time-outs"
        server.stop()
        server.start()
        assert store.transact_all(("b",), increment) == [None]


def refused(store):
    with pytest.raises(UnavailableError):
        store.transact_all(PATH, increment)


def test_a_writer_that_collided_is_not_overtaken_again(server, open_store):
    store, other = open_store(server.url), open_store(server.url)
    store.transact_all(PATH, increment)
    runs = []

    def step(states):
        runs.append(threading.Thread(target=other.transact_all, args=(PATH[:1], increment)))
        runs[-1].start()
        runs[-1].join(None if len(runs) == 1 else 0.05)
        return increment(states)

    assert store.transact_all(PATH, step) == [2, 1, 1]
    assert len(runs) == 2
    runs[1].join()
    assert [store.get(key) for key in PATH] == [4, 2, 2]


def test_the_turn_of_a_writer_that_died_or_failed_passes(server, open_store):
    store, other = open_store(server.url), open_store(server.url)
    store.transact_all(PATH, increment)
    with server.client() as client:
        client.set("{medward}:turn:" + PATH[0], b"one that died", px=200)
        with pytest.raises(UnavailableError, match="left no turn"):
            open_store(server.url, timeout=0.1).transact_all(PATH, increment)
        assert store.transact_all(PATH, increment) == [1, 1, 1]

        with pytest.raises(ZeroDivisionError):
            other.transact_all(PATH, lambda states: 1 / 0 if states[0] else increment(states))
        assert not client.keys("{medward}:turn:*")


def test_a_step_is_judged_on_current_states_only(server, open_store):
    """A step that fails on a copy that is out of date must not fail."""
    store, other = open_store(server.url), open_store(server.url)

    def step(states):
        if states[0] is None:
            raise ValueError("nothing there")
        return increment(states)

    other.transact_all(PATH, increment)
    assert store.transact_all(PATH, step) == [1, 1, 1]
    store.delete(PATH[0])
    with pytest.raises(ValueError, match="nothing there"):
        other.transact_all(PATH, step)


def test_a_corrupt_state_is_named_and_spares_the_others(server, open_store):
    store = open_store(server.url)
    for value in (b"x", b"0123456789abcdef", b"0123456789abcdef{", b"0123456789abcdefx\x01\xff"):
        with server.client() as client:
            client.set(f"{KEY}{PATH[1]}", value)
        with pytest.raises(CorruptStateError, match="'hospital-a/radiology' is corrupt"):
            store.transact_all(PATH, increment)
        with pytest.raises(CorruptStateError, match="hospital-a/radiology"):
            store.get(PATH[1])
    assert store.transact_all(PATH[:1], increment) == [None]
    with server.client() as client:
        client.delete(f"{KEY}{PATH[1]}")
        client.rpush(f"{KEY}{PATH[1]}", "a list")
    with pytest.raises(UnavailableError, match="wrong kind of value"):
        store.transact_all(PATH, increment)


def test_a_full_redis_is_unavailable_and_writes_nothing(tmp_path, open_store):
    with running(tmp_path) as server:
        store = open_store(server.url)
        store.transact_all(PATH, increment)
        with server.client() as client:
            client.config_set("maxmemory", 1)
        with pytest.raises(UnavailableError, match="maxmemory"):
            store.transact_all(PATH, increment)
        assert [store.get(key) for key in PATH] == [1, 1, 1]


def test_a_redis_that_may_forget_is_warned_about(tmp_path, open_store, caplog):
    with running(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
        open_store(server.url)
        assert [word for word in ("allkeys-lru", "appendonly") if word in caplog.text] == ["allkeys-lru", "appendonly"]
    caplog.clear()
    (tmp_path / "kept").mkdir()
    with running(tmp_path / "kept", *DURABLE) as server, caplog.at_level(logging.WARNING):
        open_store(server.url)
        with server.client() as client:
            client.acl_setuser("replica", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
        store = open_store(server.url + "?username=replica&password=x")
        assert store.transact_all(PATH, increment) == [None] * 3
    assert not caplog.records


@pytest.fixture
def pair(tmp_path):
    """An old server, a new one, and an address of ours that points to the old."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    with running(tmp_path / "old") as old, running(tmp_path / "new") as new:
        address = tmp_path / "address.sock"
        address.symlink_to(old.socket)
        yield old, new, address


def repoint(address, server):
    address.unlink()
    address.symlink_to(server.socket)


def become_replica(client):
    client.replicaof("127.0.0.1", 1)


def become_silent_replica(client):
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", 1)


def lose_replicas(client):
    client.config_set("min-replicas-to-write", 1)


def cut_and_ask_for_a_password(client):
    client.config_set("requirepass", "new")
    client.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize(
    "failed_over", [become_replica, become_silent_replica, lose_replicas, cut_and_ask_for_a_password]
)
def test_a_store_that_failed_over_is_followed_to_where_its_address_points(pair, open_store, failed_over):
    old, new, address = pair
    store = open_store(f"unix://{address}", timeout=0.4)
    store.transact_all(PATH, increment)
    with old.client() as client:
        failed_over(client)
    with pytest.raises(UnavailableError):
        store.transact_all(PATH, increment)
    with pytest.raises(UnavailableError):
        store.delete(PATH[0])
    repoint(address, new)
    assert store.transact_all(PATH, increment) == [None] * 3
    assert open_store(new.url).get(PATH[0]) == 1


def test_a_query_that_meets_the_failover_waits_for_it(pair, open_store):
    old, new, address = pair
    store = open_store(f"unix://{address}")
    store.transact_all(PATH, increment)
    with old.client() as client:
        become_replica(client)
    moved = threading.Timer(0.3, repoint, (address, new))
    moved.start()
    assert store.transact_all(PATH, increment) == [None] * 3
    moved.join()


@pytest.mark.parametrize(("kept", "follows"), [(60.0, False), (0.0, True)])
def test_an_address_is_followed_though_the_old_server_still_answers(pair, open_store, monkeypatch, kept, follows):
    _, new, address = pair
    store = open_store(f"unix://{address}")
    store.transact_all(PATH, increment)
    repoint(address, new)
    monkeypatch.setattr("medward.integrations.redis_store.STATES_KEPT", kept)
    assert store.transact_all(PATH, increment) == [None if follows else 1] * 3


def test_deployments_of_different_names_share_nothing(server, open_store):
    one, other = open_store(server.url), open_store(server.url, name="chest")
    one.transact_all(PATH, increment)
    assert other.transact_all(PATH, increment) == [None] * 3


def test_no_redis_at_the_start_is_one_sentence_without_the_password(tmp_path, open_store):
    with pytest.raises(UnavailableError) as caught:
        open_store("redis://user:secret@127.0.0.1:1/0", timeout=0.1)
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)
    for url, settings in (("postgres://x", {}), ("redis://x", {"timeout": 0}), ("redis://x", {"name": "a}"})):
        with pytest.raises(MedwardError):
            open_store(url, **settings)


BENIGN = np.zeros((1, 3), np.float32)


def ask(guard, row, account="key"):
    return guard.answer(Query(principal=("hospital", account), inputs=row)).levels[0]


@pytest.mark.parametrize(("on_error", "level"), [("withhold", Level.WITHHELD), ("flag", Level.ROUNDED)])
def test_a_guard_whose_redis_is_away_does_as_the_site_chose_and_recovers(
    tmp_path, make_guard, open_store, on_error, level
):
    with running(tmp_path) as server:
        guard = make_guard(Policy(on_error=on_error), store=open_store(server.url, timeout=0.1))
        assert ask(guard, BENIGN) is Level.ROUNDED
        server.stop()
        assert ask(guard, BENIGN) is level
        server.start()
        assert ask(guard, BENIGN) is Level.ROUNDED


def test_two_replicas_flag_a_round_robin_thief_as_one_does(server, make_guard, open_store):
    policy = Policy(on_error="withhold", screen={"action": "flag"}, monitor={"parents": "withhold"})
    alone = make_guard(policy, store=MemoryStore())
    replicas = [make_guard(policy, store=open_store(server.url)) for _ in range(2)]
    rows = np.random.default_rng(0).normal(size=(40, 1, 3)).astype(np.float32) + np.float32([30, -30, 30])
    expected = [ask(alone, row, f"key-{i % 3}") for i, row in enumerate(rows)]
    assert [ask(replicas[i % 2], row, f"key-{i % 3}") for i, row in enumerate(rows)] == expected
    assert expected[0] is Level.ROUNDED
    assert expected[-1] is Level.WITHHELD
