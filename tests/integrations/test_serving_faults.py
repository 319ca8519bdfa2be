"""Parts that are away: an honest 503 at once, a readiness that says so, and an end to it when they are back."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import contextmanager

import anyio
import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.host import files_no_larger_than
from support.redis_server import DURABLE, running

from medward.guard.accounts.stores import CorruptStateError, MemoryStore, SQLiteStore
from medward.guard.audit.log import read_log, verify_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import UnavailableError
from medward.guard.policy import Policy
from medward.integrations.redis_store import RedisStore
from medward.integrations.serving import circuit_breaker, create_app, health, load_app
from medward.integrations.serving.circuit_breaker import AWAY_KEPT, BreakerStore, CircuitBreaker
from medward.integrations.serving.keys import KeyStore

ROWS = np.random.default_rng(3).normal(size=(300, 4)).astype(np.float32)
ROW = [0.5, -1.0, 2.0]
READY = ("/readyz", "/v2/health/ready", "/v2/models/model/ready")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def fresh(monkeypatch):
    """Every probe asks anew."""
    monkeypatch.setattr(health, "SECONDS_KEPT", 0.0)


# The circuit breaker


def failing(breaker, error=None):
    with breaker.trying():
        raise error or UnavailableError("gone")


def test_after_a_failure_nobody_waits_until_one_call_may_try_again():
    breaker = CircuitBreaker(clock := Clock())
    with breaker.trying():
        pass
    with pytest.raises(UnavailableError, match="gone"):
        failing(breaker)
    entered = []

    def ask():
        with breaker.trying():
            entered.append(1)

    for _ in range(3):
        with pytest.raises(UnavailableError, match="gone"):
            ask()
    assert not entered
    clock.now += AWAY_KEPT
    with breaker.trying(), pytest.raises(UnavailableError, match="gone"):  # the trial; others do not wait for it
        ask()
    ask()
    ask()
    assert entered == [1, 1]


def test_a_trial_that_fails_is_remembered_as_long():
    breaker = CircuitBreaker(clock := Clock())
    for said in ("gone", "still gone"):
        with pytest.raises(UnavailableError, match=f"^{said}$"):
            failing(breaker, UnavailableError(said))
        clock.now += AWAY_KEPT
    clock.now -= 0.5
    with pytest.raises(UnavailableError, match=r"^still gone$"):
        failing(breaker, AssertionError("asked"))


@pytest.mark.parametrize("error", [ValueError("a step that fails"), CorruptStateError("one key")])
def test_an_error_of_a_part_that_answers_is_no_outage(error):
    breaker = CircuitBreaker(clock := Clock())
    with pytest.raises(type(error)):
        failing(breaker, error)
    with breaker.trying():
        pass
    with pytest.raises(UnavailableError):
        failing(breaker)
    clock.now += AWAY_KEPT
    with pytest.raises(type(error)):
        failing(breaker, error)
    with breaker.trying():
        pass


def test_a_call_from_before_the_failure_proves_nothing_of_now():
    breaker = CircuitBreaker(Clock())
    with breaker.trying(), pytest.raises(UnavailableError):
        failing(breaker)
    with pytest.raises(UnavailableError, match="gone"):
        failing(breaker, AssertionError("asked"))


# Stores


class Counted(BreakerStore):
    """A store before which calls are counted."""

    def __init__(self, store):
        super().__init__(store)
        self.asked = 0

    def transact_all(self, keys, step, *, ttl=None):
        self.asked += 1
        return self._store.transact_all(keys, step, ttl=ttl)

    transact = MemoryStore.transact


@pytest.fixture
def guarded(make_guard):
    """A client of a guard whose `store` is behind a breaker, the store and how often it was asked, and a clock."""

    def make(store, **policy):
        counted, clock = Counted(store), Clock()
        guard = make_guard(Policy(on_error="withhold", **policy), store=BreakerStore(counted, CircuitBreaker(clock)))
        return TestClient(create_app(guard, keys=None), raise_server_exceptions=False), counted, clock

    return make


def ask(client):
    return client.post("/v1/predict", json={"inputs": [ROW]})


@contextmanager
def locked(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.rollback()
    other.close()


@pytest.mark.usefixtures("fresh")
def test_a_locked_store_is_503_and_waited_for_once(guarded, tmp_path):
    store = SQLiteStore(tmp_path / "accounts.db", timeout=0.05)
    client, counted, clock = guarded(store, budget={"daily_bits": 1000})
    assert (ask(client).status_code, client.get("/readyz").status_code) == (200, 200)
    before = store.get("anonymous")
    with locked(tmp_path / "accounts.db"):
        counted.asked = 0
        for _ in range(5):
            answer = ask(client)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "labels" not in answer.text
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
        assert counted.asked == 1
    clock.now += AWAY_KEPT
    assert store.get("anonymous") == before
    assert (client.get("/readyz").status_code, ask(client).status_code) == (200, 200)
    store.close()


@pytest.mark.usefixtures("fresh")
def test_a_frozen_redis_is_waited_for_once_and_forgets_nothing(guarded, tmp_path):
    with running(tmp_path, *DURABLE) as server:
        store = RedisStore(server.url, timeout=0.4)
        client, counted, clock = guarded(store)
        assert ask(client).status_code == 200
        counted.asked = 0
        server.freeze()
        assert [ask(client).status_code for _ in range(10)] == [503] * 10
        assert client.get("/readyz").status_code == 503
        assert counted.asked == 1
        server.process.send_signal(18)
        clock.now += AWAY_KEPT
        assert (client.get("/readyz").status_code, ask(client).status_code) == (200, 200)
        server.stop()
        assert [ask(client).status_code for _ in range(10)] == [503] * 10
        server.start()
        clock.now += AWAY_KEPT
        assert ask(client).status_code == 200
        assert store.get("anonymous")["e-process"]["n"] >= 3, "frozen, it may have taken what it did not answer"
        store.close()


# A state folder that is damaged under the server


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    path = tmp_path_factory.mktemp("faults") / "bundle"
    return protect(model, Split(ROWS), Policy(on_error="withhold"), path, classes=("no", "yes"))


@contextmanager
def moved(path, content=None):
    """`path` is elsewhere for a while, and something else in its place."""
    aside = path.with_name("aside")
    path.rename(aside)
    if content is not None:
        path.write_bytes(content)
    yield
    aside.replace(path)


@contextmanager
def damaged(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + b"x" + whole[-2:])
    yield
    path.write_bytes(whole)


@contextmanager
def full_disk(path):
    with files_no_larger_than(path.stat().st_size):
        yield


FAULTS = {
    "log damaged": lambda state: damaged(state / "audit.jsonl"),
    "disk full": lambda state: full_disk(state / "audit.jsonl"),
    "keys unreadable": lambda state: moved(state / "keys.json", b"{"),
    "accounts gone": lambda state: moved(state / "accounts.db"),
    "accounts replaced": lambda state: moved(state / "accounts.db", b""),
}


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_state_is_503_and_not_ready_until_it_is_mended(bundle, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(circuit_breaker, "AWAY_KEPT", 0.0)
    monkeypatch.setattr(health, "PROBE_SECONDS", 30.0)  # however slow the machine
    keys = KeyStore(tmp_path / "keys.json")
    token, watcher = keys.add(("clinic",)), keys.add(("operations",), scope="metrics")
    app = load_app(bundle.path, state=tmp_path)
    with TestClient(app, raise_server_exceptions=False) as client:

        def statuses():
            asked = client.post("/v1/predict", json={"inputs": ROWS[:1].tolist()}, headers={"X-API-Key": token})
            assert "retry-after" in asked.headers or asked.status_code == 200
            return asked.status_code, *(client.get(path).status_code for path in (*READY, "/healthz"))

        assert statuses() == (200, 200, 200, 200, 200)
        with FAULTS[fault](tmp_path):
            assert statuses() == (503, 503, 503, 503, 200)
            told = client.get("/readyz", headers={"X-API-Key": watcher}).json()["detail"]
            if fault != "keys unreadable":  # then nobody is known
                assert ("audit.jsonl" if fault == "log damaged" else "accounts.db") in told
            assert str(tmp_path) not in client.get("/readyz").text
        ends = time.monotonic() + 30
        while (found := statuses()) != (200, 200, 200, 200, 200):  # what a key's use waits on may be the one trial
            assert time.monotonic() < ends, found
    records = list(read_log(tmp_path / "audit.jsonl"))
    assert [record["levels"] for record in records if "levels" in record].count(["rounded"]) == 2
    assert verify_log(tmp_path / "audit.jsonl").records == len(records)


def test_a_check_that_does_not_return_is_not_ready_and_asked_once(make_guard, monkeypatch):
    """A disk that hangs, say; who probes is answered all the same."""
    monkeypatch.setattr(health, "SECONDS_KEPT", 0.0)
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.05)
    go, asked = threading.Event(), []

    class Hanging(MemoryStore):
        def transact_all(self, keys, step, *, ttl=None):
            asked.append(1)
            assert go.wait(20)
            return super().transact_all(keys, step, ttl=ttl)

    app = create_app(make_guard(store=Hanging()), keys=None)

    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            for _ in range(3):
                answer = await client.get("/readyz")
                assert answer.status_code == 503
                assert "did not answer within 0.05 s" in answer.json()["detail"]
                assert (await client.get("/healthz")).status_code == 200
            assert asked == [1]
            monkeypatch.setattr(health, "PROBE_SECONDS", 20)
            go.set()
            assert (await client.get("/readyz")).status_code == 200

    anyio.run(main)


def test_an_outage_leaves_one_record_a_request_and_charges_nothing(guarded, tmp_path):
    records = []
    client, counted, _ = guarded(MemoryStore(), budget={"daily_bits": 1000})
    object.__setattr__(
        client.app.state.service.guard,
        "audit",
        type("Log", (), {"append": lambda _, each: records.append(dict(each))})(),
    )
    ask(client).raise_for_status()
    kept = {key: json.loads(text) for key, (text, _) in counted._store._states.items()}
    counted._store._closed = True
    assert [ask(client).status_code for _ in range(4)] == [503] * 4
    assert [record["levels"] for record in records] == [["rounded"], *[["withheld"]] * 4]
    assert {key: json.loads(text) for key, (text, _) in counted._store._states.items()} == kept
