"""Parts that are away: an honest 503 at once, a readiness that says so, and an end to it when they are back."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager

import anyio
import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient
from support.redis_server import DURABLE, running

from medward.guard.accounts.stores import CorruptStateError, MemoryStore, SQLiteStore
from medward.guard.errors import UnavailableError
from medward.guard.policy import Policy
from medward.integrations.redis_store import RedisStore
from medward.integrations.serving import create_app, health
from medward.integrations.serving.circuit_breaker import AWAY_KEPT, BreakerStore, CircuitBreaker

ROW = [0.5, -1.0, 2.0]


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


# Readiness


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("on_error", ["withhold", "flag"])
def test_a_model_that_fails_at_every_input_is_not_ready_and_one_that_fails_at_some_is(
    make_guard, linear_model, on_error
):
    class Failing:
        spec = linear_model.spec
        at: object = None

        def predict(self, inputs):
            if self.at is ... or self.at in inputs:
                raise RuntimeError("a secret of the model")
            return linear_model.predict(inputs)

    model = Failing()
    app = create_app(make_guard(Policy(on_error=on_error), model=model), keys=None)
    client = TestClient(app, raise_server_exceptions=False)

    def statuses():
        return ask(client).status_code, client.get("/readyz").status_code

    assert statuses() == (200, 200)
    model.at = np.float32(ROW[0])
    assert statuses() == (503, 200)
    model.at = ...
    assert statuses() == (503, 503)
    told = client.get("/readyz")
    assert "fails at every input" in told.text
    assert "secret" not in told.text
    model.at = None
    assert client.get("/readyz").status_code == 200, "though nobody has asked since"
    assert statuses() == (200, 200)


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
