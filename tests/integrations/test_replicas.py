"""Replicas that share one Redis: real servers know an account as one server does, and say when Redis is away."""

from __future__ import annotations

from contextlib import ExitStack

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.processes import serving
from support.redis_server import DURABLE, running

from medward.guard.accounts.stores import SQLiteStore
from medward.guard.audit.log import read_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.integrations.cli import main
from medward.integrations.serving import circuit_breaker, health, load_app
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.store import open_store

RNG = np.random.default_rng(7)
BENIGN = RNG.normal(size=(400, 4)).astype(np.float32)
THEFT = RNG.normal(size=(20, 4)).astype(np.float32) * 6
ROWS = np.concatenate([BENIGN[:4], THEFT, THEFT[-5:]])  # what is asked again goes to the other replica
KEYS = ("hospital-a/key-1", "hospital-a/key-2", "hospital-a/key-3")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(BENIGN, BENIGN[:, 0] > 0)
    policy = Policy(on_error="withhold", screen={"action": "flag"}, monitor={"parents": "withhold"})
    path = tmp_path_factory.mktemp("replicas") / "bundle"
    return protect(model, Split(BENIGN), policy, path, classes=("no", "yes"))


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis"), *DURABLE) as server:
        yield server


def levels(bundle, folder, replicas, *options):
    """Round robin over as many servers, and over the keys of one hospital: the level of every answer."""
    with ExitStack() as stack:
        asking = []
        for number in range(replicas):
            home = folder / str(number)
            home.mkdir(parents=True)
            server = stack.enter_context(serving(bundle.path, home, *options))
            keys = KeyStore(server.state / "keys.json")
            tokens = [keys.add(tuple(key.split("/"))) for key in KEYS]
            asking.append((f"{server.url}/v1/predict", tokens))
        client, found = stack.enter_context(httpx.Client(timeout=30)), []
        for i, row in enumerate(ROWS.tolist()):
            url, tokens = asking[i % replicas]
            reply = client.post(url, json={"inputs": [row]}, headers={"X-API-Key": tokens[i % len(tokens)]})
            found += reply.raise_for_status().json()["levels"]
        return found


def test_two_servers_that_share_a_redis_flag_a_round_robin_thief_as_one_server_does(bundle, redis, tmp_path):
    alone = levels(bundle, tmp_path / "alone", 1)
    assert levels(bundle, tmp_path / "shared", 2, "--store", redis.url) == alone
    assert (alone[0], alone[-1]) == ("rounded", "withheld")

    kept, shared = SQLiteStore(tmp_path / "alone/0/state/accounts.db"), open_store(redis.url)
    for key in ("hospital-a", *KEYS):
        assert shared.get(key)["e-process"] == kept.get(key)["e-process"]
    kept.close()
    shared.close()
    assert not list((tmp_path / "shared").rglob("accounts.db"))

    apart = levels(bundle, tmp_path / "apart", 2)
    assert apart.index("withheld") > alone.index("withheld"), "replicas that share nothing notice later"


def asked(bundle, folder, url, *, times=1):
    """A client of a server in this process, after so many queries of everybody's account."""
    client = TestClient(load_app(bundle.path, state=folder, store=url, anonymous=True), raise_server_exceptions=False)
    for row in BENIGN[:times].tolist():
        client.post("/v1/predict", json={"inputs": [row]}).raise_for_status()
    return client


def test_a_server_whose_redis_is_away_is_alive_and_not_ready(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(health, "SECONDS_KEPT", 0.0)
    monkeypatch.setattr(circuit_breaker, "AWAY_KEPT", 0.0)
    with running(tmp_path, *DURABLE) as server, asked(bundle, tmp_path / "state", server.url) as client:
        assert client.get("/readyz").status_code == 200
        server.stop()
        reply = client.get("/readyz")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert client.get("/healthz").status_code == 200
        reply = client.post("/v1/predict", json={"inputs": BENIGN[:1].tolist()})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        server.start()
        assert client.get("/readyz").status_code == 200


def test_a_reset_reaches_the_replicas_through_their_store(bundle, redis, tmp_path, capsys, monkeypatch):
    reset = ["accounts", "reset", "anonymous", "--state", str(tmp_path / "state")]
    with asked(bundle, tmp_path / "state", redis.url, times=5) as client:
        monkeypatch.setenv("MEDWARD_STORE", redis.url)
        with pytest.raises(SystemExit) as done:
            main(reset)
        assert (done.value.code, capsys.readouterr().out) == (
            0,
            "anonymous: its monitors start afresh; accounts above and below it, and what it was told, stand\n",
        )
        client.post("/v1/predict", json={"inputs": BENIGN[:1].tolist()}).raise_for_status()
    *_, before, last = read_log(tmp_path / "state/audit.jsonl")
    assert before["event"] == "reset"
    assert last["verdicts"][-1]["evidence"]["n"] == 1
