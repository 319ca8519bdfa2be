"""Two replicas on Ray Serve that share one Redis flag a thief, hold limits and keep answers as one server does.

The model is a logistic regression on the breast cancer data of scikit-learn. A thief asks held-out patients and made-up
rows among them, one at a time and each from the next key of his organisation, and Ray Serve says which replica answers.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from claim import Claim
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from starlette.testclient import TestClient
from support.ray_endpoint import RayEndpoint, ray_endpoint
from support.redis_server import DURABLE, running

from medward.guard.audit.log import read_log, verify_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.types import Array
from medward.integrations.serving import load_app
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.store import open_store

CLAIMS = ("ray_replicas_flag_as_one", "ray_replicas_hold_limits", "ray_replica_killed")

SEED, SHARES, THIEVES, PATIENCE, KEYS = 0, (1.0, 0.3), 4, 150, 3
RATE, ASKED, CLIENTS = 300, 600, 8
POLICY = Policy(on_error="withhold", screen={"action": "flag"}, monitor={"parents": "withhold"})
Client = httpx.Client | TestClient


def measure() -> Iterator[Claim]:
    """All three on the same two replicas."""
    rng = np.random.default_rng(SEED)
    patients, labels = load_breast_cancer(return_X_y=True)
    rows = StandardScaler().fit_transform(patients).astype(np.float32)[rng.permutation(len(patients))]
    model = LogisticRegression(max_iter=1000).fit(StandardScaler().fit_transform(patients), labels)
    thieves = {
        f"thief-{share:g}-{number}": thief(share, rows[300:], rng) for share in SHARES for number in range(THIEVES)
    }
    accounts = [(name, f"key-{number}") for name in thieves for number in range(KEYS)]
    accounts += [("often",), *((f"clinic-{number}",) for number in range(CLIENTS))]
    limits = Limits(rate=f"{RATE}/hour")
    with TemporaryDirectory() as name, running(Path(name), *DURABLE) as redis:
        home = Path(name)
        bundle = protect(model, Split(rows[:300]), POLICY, home / "bundle", classes=("malignant", "benign"))
        store = open_store(redis.url)
        shared = KeyStore(home / "none.json", shared=store)
        tokens = {who: shared.add(who) for who in accounts}
        own = KeyStore(home / "alone/keys.json")
        own.path.parent.mkdir()
        own_tokens = {who: own.add(who) for who in accounts}
        with TestClient(load_app(bundle.path, state=home / "alone", limits=limits)) as client:
            alone = [flagged(client, "", who, asked, own_tokens) for who, asked in thieves.items()]
        with ray_endpoint(
            home, bundle=str(bundle.path), store=redis.url, limits={"rate": limits.rate}
        ) as endpoint, httpx.Client(timeout=60) as client:  # fmt: skip
            given = [flagged(client, endpoint.url, who, asked, tokens) for who, asked in thieves.items()]
            yield flag_claim(list(thieves), alone, given, answered(endpoint, "thief-"))
            yield limit_claim(endpoint, tokens["often",], rows)
            yield kill_claim(endpoint, [tokens[f"clinic-{number}",] for number in range(CLIENTS)], rows)
        store.close()


def thief(share: float, patients: Array, rng: np.random.Generator) -> Array:
    """`PATIENCE` rows of which a `share` is made up."""
    rows = patients[rng.choice(len(patients), PATIENCE, replace=False)].copy()
    stolen = rng.random(PATIENCE) < share
    rows[stolen] = rng.normal(scale=3, size=(int(stolen.sum()), rows.shape[1]))
    return rows


def predict(client: Client, url: str, row: Array, token: str) -> Any:
    """One row asked with a key."""
    return client.post(f"{url}/v1/predict", json={"inputs": [row.tolist()]}, headers={"X-API-Key": token})


def flagged(client: Client, url: str, who: str, rows: Array, tokens: dict[tuple[str, ...], str]) -> int:
    """The query at which less leaves than at the first; one more than all of them where none is."""
    keys, first = cycle([tokens[who, f"key-{number}"] for number in range(KEYS)]), None
    for number, (row, token) in enumerate(zip(rows, keys, strict=False), 1):
        level = predict(client, url, row, token).raise_for_status().json()["levels"]
        first = first or level
        if level != first:
            return number
    return len(rows) + 1


def answered(endpoint: RayEndpoint, prefix: str) -> dict[str, list[str]]:
    """The queries of accounts that begin so, by the replica in whose log they are; every chain is verified."""
    found = {}
    for folder in sorted(endpoint.state.iterdir()):
        verify_log(folder / "audit.jsonl")
        records = read_log(folder / "audit.jsonl")
        found[folder.name] = [
            each["query"] for each in records if each.get("principal", "").startswith(prefix) and "levels" in each
        ]
    return found


def together(jobs: list[Callable[[], None]]) -> list[threading.Thread]:
    """Each job in a thread of its own, begun."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    return threads


def flag_claim(names: list[str], alone: list[int], given: list[int], seen: dict[str, list[str]]) -> Claim:
    """Whether two replicas flag every thief at the query at which one server does."""
    return Claim(
        claim="ray_replicas_flag_as_one",
        value=max(abs(one - two) for one, two in zip(alone, given, strict=True)),
        target="0: largest difference in queries to flag between one server and two replicas on Ray Serve",
        met=all(one == two <= PATIENCE for one, two in zip(alone, given, strict=True))
        and min(map(len, seen.values())) > 0,
        n=len(names),
        seed=SEED,
        details={
            "queries to flag": {name: [one, two] for name, one, two in zip(names, alone, given, strict=True)},
            "keys of each thief": KEYS,
            "queries answered by each replica": {name: len(each) for name, each in seen.items()},
        },
    )


def limit_claim(endpoint: RayEndpoint, token: str, rows: Array) -> Claim:
    """How far from its rate an account got that asked twice as often, from several clients at a time."""
    statuses: Counter[int] = Counter()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            for row in rows[: ASKED // CLIENTS]:
                statuses[predict(client, endpoint.url, row, token).status_code] += 1

    for thread in together([ask] * CLIENTS):
        thread.join()
    seen = {name: len(each) for name, each in answered(endpoint, "often").items()}
    apart = abs(statuses[200] - RATE) / RATE
    return Claim(
        claim="ray_replicas_hold_limits",
        value=apart,
        target="<= 0.01: how far the answers of an account in an hour are from its rate, over both replicas",
        met=apart <= 0.01 and set(statuses) == {200, 429} and min(seen.values()) > 0,
        n=ASKED,
        seed=SEED,
        details={
            "rate": f"{RATE}/hour",
            "answers by status": {str(status): count for status, count in sorted(statuses.items())},
            "queries answered by each replica": seen,
        },
    )


def kill_claim(endpoint: RayEndpoint, tokens: list[str], rows: Array) -> Claim:
    """How many acknowledged answers no log holds once a replica was killed under load."""
    acknowledged: list[str] = []
    failed: Counter[str] = Counter()
    enough = threading.Event()

    def ask(token: str) -> None:
        with httpx.Client(timeout=60) as client:
            for row in rows[:60]:
                try:
                    reply = predict(client, endpoint.url, row, token)
                except httpx.TransportError as error:
                    failed[type(error).__name__] += 1
                    continue
                if reply.status_code == 200:
                    acknowledged.append(reply.json()["id"])
                else:
                    failed[str(reply.status_code)] += 1
                if len(acknowledged) > 60:
                    enough.set()

    threads = together([partial(ask, token) for token in tokens])
    enough.wait(120)
    before = len(acknowledged)
    endpoint.tell("kill")
    for thread in threads:
        thread.join()
    kept = [query for each in answered(endpoint, "clinic-").values() for query in each]
    lost = len(set(acknowledged) - set(kept))
    return Claim(
        claim="ray_replica_killed",
        value=lost,
        target="0: acknowledged answers that no audit log holds after ray.kill of one of two replicas under load",
        met=lost == 0 and len(kept) == len(set(kept)) and before < len(acknowledged),
        n=len(acknowledged),
        seed=SEED,
        details={
            "acknowledged before the kill": before,
            "acknowledged after it": len(acknowledged) - before,
            "failed": dict(failed),
            "on record and not acknowledged": len(set(kept) - set(acknowledged)),
        },
    )
