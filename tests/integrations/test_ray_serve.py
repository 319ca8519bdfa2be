"""Two replicas on Ray Serve that share a Redis: known as one server, in a chain each, and one may die."""

from __future__ import annotations

import http.client
import importlib
import json
import threading
import warnings
from collections import Counter
from importlib.util import find_spec
from itertools import cycle
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.ray_endpoint import ray_endpoint
from support.redis_server import DURABLE, running

from medward.guard.audit.log import read_log, verify_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.integrations.serving import load_app
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.pool import Pool
from medward.integrations.serving.store import open_store

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs medward[ray]")
RNG = np.random.default_rng(7)
BENIGN = RNG.normal(size=(400, 4)).astype(np.float32)
THEFT = RNG.normal(size=(20, 4)).astype(np.float32) * 6
ROWS = np.concatenate([BENIGN[:4], THEFT, THEFT[-5:]])
THIEF = [("hospital-a", f"key-{number}") for number in (1, 2, 3)]
RATE = 60


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(BENIGN, BENIGN[:, 0] > 0)
    policy = Policy(on_error="withhold", screen={"action": "flag"}, monitor={"parents": "withhold"})
    return protect(model, Split(BENIGN), policy, tmp_path_factory.mktemp("ray") / "bundle", classes=("no", "yes"))


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis"), *DURABLE) as server:
        yield server


@pytest.fixture(scope="module")
def key(redis, tmp_path_factory):
    """The key of a principal, made before there is a replica: one made later is known within a second."""
    store = open_store(redis.url)
    made = KeyStore(tmp_path_factory.mktemp("keys") / "keys.json", shared=store)
    asking = [("hospital-b",), ("last",), *((f"clinic-{each}",) for each in range(4))]
    tokens = {who: made.add(who) for who in (*THIEF, *asking, *((f"later-{each}",) for each in range(30)))}
    store.close()
    return tokens.__getitem__


@pytest.fixture(scope="module")
def endpoint(bundle, redis, key, tmp_path_factory):
    limits = {"rate": f"{RATE}/hour", "stop_seconds": 20.0}
    with ray_endpoint(
        tmp_path_factory.mktemp("serve"), bundle=str(bundle.path), store=redis.url, limits=limits
    ) as found:
        yield found


def predict(client, url, row, token):
    return client.post(f"{url}/v1/predict", json={"inputs": [row]}, headers={"X-API-Key": token})


def records(endpoint, organisation):
    """The records of an organisation's queries in each replica's log."""
    return {
        folder.name: [
            each
            for each in read_log(folder / "audit.jsonl")
            if each.get("principal", "").startswith(organisation) and "levels" in each
        ]
        for folder in sorted(endpoint.state.iterdir())
    }


@pytest.fixture
def ray_serve():
    """The module, without the warnings of Ray's own use of Pydantic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("medward.integrations.ray_serve")


@pytest.mark.parametrize("store", [None, "accounts.db"])
def test_replicas_without_a_store_that_they_share_are_refused_and_one_is_not(
    ray_serve, bundle, store, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = {"bundle": bundle.path, "state": tmp_path, "store": store}
    arguments = ray_serve.EndpointArguments(replicas=2, **given)
    with pytest.raises(MedwardError, match=r"^store: 2 replicas need one that they share, got .* or replicas = 1$"):
        ray_serve.guarded_endpoint(arguments)
    one = arguments.model_copy(update={"replicas": 1})
    ray_serve.guarded_endpoint(one)
    with TestClient(ray_serve.replica_app(one, rank=0, replicas=1)) as client:
        assert client.get("/readyz").status_code == 200
    assert (tmp_path / "replica-0/audit.jsonl").exists()
    with pytest.raises(MedwardError, match="2 replicas need one that they share"):  # Ray was told to run more
        ray_serve.replica_app(one, rank=1, replicas=2)


def test_a_setting_that_does_not_exist_is_refused_and_the_store_is_that_of_the_environment(
    ray_serve, bundle, redis, monkeypatch
):
    monkeypatch.setenv("MEDWARD_STORE", redis.url)
    ray_serve.guarded_endpoint(ray_serve.EndpointArguments(bundle=bundle.path))
    with pytest.raises(MedwardError, match="limits: there is no 'rates'; there are workers, queue"):
        ray_serve.guarded_endpoint(ray_serve.EndpointArguments(bundle=bundle.path, limits={"rates": "1/day"}))
    with pytest.raises(MedwardError, match="workers must be >= 1"):
        ray_serve.guarded_endpoint(ray_serve.EndpointArguments(bundle=bundle.path, limits={"workers": 0}))


def test_a_replica_is_healthy_until_every_thread_hangs(ray_serve, bundle, tmp_path, monkeypatch):
    replica = ray_serve.GuardedReplica()
    arguments = ray_serve.EndpointArguments(bundle=bundle.path, state=tmp_path, store=None, replicas=1)
    replica.app = ray_serve.replica_app(arguments, rank=0, replicas=1)
    replica.check_health()
    monkeypatch.setattr(Pool, "hung", property(lambda pool: pool.limits.workers))
    with pytest.raises(RuntimeError, match="the model has not answered"):
        replica.check_health()
    replica.app.state.service.guard.store.close()


@pytest.mark.slow
def test_a_thief_who_goes_round_replicas_and_keys_is_flagged_as_by_one_server(bundle, endpoint, key, tmp_path):
    alone = KeyStore(tmp_path / "keys.json")
    tokens, found = cycle([alone.add(who) for who in THIEF]), []
    with TestClient(load_app(bundle.path, state=tmp_path)) as client:
        found = [predict(client, "", row, next(tokens)).json()["levels"] for row in ROWS.tolist()]
    shared = cycle([key(who) for who in THIEF])
    with httpx.Client(timeout=30) as client:
        given = [predict(client, endpoint.url, row, next(shared)).json()["levels"] for row in ROWS.tolist()]
        assert client.get(f"{endpoint.url}/readyz").status_code == 200
        assert predict(client, endpoint.url, ROWS[0].tolist(), "none").status_code == 401
    assert given == found
    assert (given[0], given[-1]) == (["rounded"], ["withheld"])
    seen = {name: len(each) for name, each in records(endpoint, "hospital-a").items()}
    assert set(seen) == {"replica-0", "replica-1"}
    assert min(seen.values()) > 0, "both answered"
    assert sum(seen.values()) == len(ROWS)


@pytest.mark.slow
def test_a_rate_holds_for_all_replicas_together(endpoint, key):
    token, statuses = key(("hospital-b",)), Counter()

    def ask():
        with httpx.Client(timeout=30) as client:
            for row in BENIGN[:15].tolist():
                statuses[predict(client, endpoint.url, row, token).status_code] += 1

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {200: RATE, 429: 90 - RATE}
    counted = {name: len(each) for name, each in records(endpoint, "hospital-b").items()}
    assert sum(counted.values()) == RATE
    assert min(counted.values()) > 0


@pytest.mark.slow
def test_a_killed_replica_loses_nothing_and_another_goes_on_with_its_chain(endpoint, key):
    tokens, acknowledged, killed = [key((f"clinic-{number}",)) for number in range(4)], [], threading.Event()

    def ask(token):
        with httpx.Client(timeout=60) as client:
            for row in BENIGN[: RATE - 20].tolist():
                try:
                    reply = predict(client, endpoint.url, row, token)
                except httpx.TransportError:
                    continue
                if reply.status_code == 200:
                    acknowledged.append(reply.json()["id"])
                if len(acknowledged) > 30:
                    killed.set()

    before = set(endpoint.tell("replicas").split())
    threads = [threading.Thread(target=ask, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    killed.wait(60)
    gone = endpoint.tell("kill")
    for thread in threads:
        thread.join()
    assert gone in before
    assert len(acknowledged) > 80, "it answered on"
    kept = [each for found in records(endpoint, "clinic-").values() for each in found]
    assert set(acknowledged) - {each["query"] for each in kept} == set()
    for number in range(4):
        own = [each for each in kept if each["principal"] == f"clinic-{number}"]
        counts = sorted(
            each["evidence"]["n"] for record in own for each in record["verdicts"] if each["source"].startswith("e-pro")
        )
        assert len(set(counts)) == len(own), "each was charged once"
        assert counts[-1] >= len(own)

    while len(now := set(endpoint.tell("replicas").split())) < 2 or gone in now:
        threading.Event().wait(0.2)
    wanted = {folder.name: verify_log(folder / "audit.jsonl").records for folder in endpoint.state.iterdir()}
    later = cycle([key((f"later-{number}",)) for number in range(30)])
    with httpx.Client(timeout=30) as client:
        for row, token in zip(cycle(BENIGN.tolist()), later, strict=False):
            predict(client, endpoint.url, row, token).raise_for_status()
            if all(records(endpoint, "later-").values()):
                break
            threading.Event().wait(0.1)  # it is being started
    assert set(wanted) == {"replica-0", "replica-1"}
    assert all(verify_log(endpoint.state / name / "audit.jsonl").records > count for name, count in wanted.items())


@pytest.mark.slow
def test_a_request_under_way_is_answered_when_replicas_stop(endpoint, key):
    body, address = json.dumps({"inputs": BENIGN[:1].tolist()}).encode(), urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.putrequest("POST", "/v1/predict")
    for name, value in {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "X-API-Key": key(("last",)),
    }.items():
        connection.putheader(name, value)
    connection.endheaders(body[:10])
    with httpx.Client(timeout=30) as client:  # a replica has that one by now: both are asked by this
        for _ in range(4):
            client.get(f"{endpoint.url}/healthz").raise_for_status()
    assert endpoint.tell("delete") == "deleting"
    with httpx.Client(timeout=30) as client:
        while client.get(f"{endpoint.url}/healthz").status_code == 200:
            threading.Event().wait(0.05)
    connection.send(body[10:])
    reply = connection.getresponse()
    assert (reply.status, len(json.loads(reply.read())["levels"])) == (200, 1)
    connection.close()
    assert endpoint.said() == "deleted"
