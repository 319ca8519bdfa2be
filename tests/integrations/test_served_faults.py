"""Faults under a running ``medward serve``: as `on_error` says, told by readiness, and no answer lost or unguarded.

Two servers stand side by side, one that withholds on errors and one that goes on; both meet every fault.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from support.issuer import AUDIENCE, ISSUER, key_address, public_jwk, rsa_key, signed
from support.journeys import importable
from support.processes import Server, kill_under_load, not_once, serving
from support.redis_server import DURABLE, running
from support.shifted_clock import ShiftedClock

from medward.guard.accounts.stores import SQLiteStore
from medward.guard.audit.log import verify_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.integrations.redis_store import RedisStore
from medward.integrations.serving.keys import KeyStore

TESTS = Path(__file__).resolve().parents[1]
PYTHONPATH = {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
ROWS = np.random.default_rng(3).normal(size=(300, 4)).astype(np.float32)
CODE = """
import time
from pathlib import Path

import numpy as np

FAULT = Path("model-fault")  # in the working directory of the server

def predict(rows):
    while FAULT.exists():
        if FAULT.read_text() == "raises":
            raise RuntimeError("a secret of the model")
        time.sleep(0.01)
    risk = 1 / (1 + np.exp(-rows[:, 0]))
    return np.stack([1 - risk, risk], axis=1)
"""
POLICIES = ("withhold", "flag")
WELL = dict.fromkeys(POLICIES, (200, 200, 200))  # of an answer, readiness and liveness
STOPPED = dict.fromkeys(POLICIES, (503, 503, 200))
AS_THE_SITE_CHOSE = {"withhold": STOPPED["withhold"], "flag": WELL["flag"]}


@dataclass
class Site:
    """A server that runs, and what it answered."""

    server: Server
    account: str
    model: str
    answered: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = KeyStore(self.server.state / "keys.json")
        self.token, self.watcher = keys.add((self.account,)), keys.add(("operations",), scope="metrics")
        self.client = httpx.Client(base_url=self.server.url, timeout=30)

    def ask(self, token: str = "") -> httpx.Response:
        body = {"inputs": ROWS[:1].tolist()}
        reply = self.client.post("/v1/predict", json=body, headers={"X-API-Key": token or self.token})
        if reply.status_code == 200:
            self.answered.append(reply.json()["id"])
            assert reply.json()["levels"] == ["rounded"]
        else:
            assert int(reply.headers["retry-after"]) >= 1
            assert "secret" not in reply.text
        return reply

    def get(self, path: str, token: str = "") -> httpx.Response:
        return self.client.get(path, headers={"X-API-Key": token} if token else {})

    def statuses(self) -> tuple[int, int, int]:
        return self.ask().status_code, self.get("/readyz").status_code, self.get("/healthz").status_code


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    (folder / "failing_model.py").write_text(CODE)
    with importable(folder):
        return {
            on_error: protect(
                "failing_model:predict",
                Split(ROWS),
                Policy(on_error=on_error, budget={"daily_bits": 100_000}),
                folder / on_error,
                classes=("no", "yes"),
                output="probabilities",
                allow_code=True,
            )
            for on_error in POLICIES
        }


@contextmanager
def site(bundles, folder: Path, on_error: str, *options: str, **environment: str) -> Iterator[Site]:
    folder.mkdir(exist_ok=True)
    (folder / "failing_model.py").write_text(CODE)
    options = ("--allow-code", "--workers", "1", *options)
    served = serving(
        bundles[on_error].path,
        folder,
        *options,
        environment={**PYTHONPATH, **environment},
        module="support.quick_server",
    )
    with served as server:
        found = Site(server, f"clinic-{on_error}", bundles[on_error].card.spec.name)
        with found.client:
            yield found


@contextmanager
def both(bundles, folder: Path, *options: str) -> Iterator[dict[str, Site]]:
    """A server of each policy; they start at the same time."""
    starting = [site(bundles, folder / each, each, *options) for each in POLICIES]
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        yield dict(zip(POLICIES, pool.map(stack.enter_context, starting), strict=True))


@pytest.fixture(scope="module")
def issuer():
    with key_address() as address:
        address.serve(public_jwk(rsa_key()))
        yield address


@pytest.fixture(scope="module")
def sites(bundles, issuer, tmp_path_factory):
    """Both servers, each with a file of accounts; in the end every answer is on record once."""
    folder = tmp_path_factory.mktemp("sites")
    tokens = ("--identity-issuer", ISSUER, "--identity-audience", AUDIENCE, "--identity-jwks", issuer.url)
    short = ("--identity-fresh", "1", "--identity-stale", "1", "--deadline", "0.5")
    with both(bundles, folder, *tokens, *short) as found:
        yield found
    assert not_once(found["withhold"].server.state, found["withhold"].answered) == []


def until(found, expected, seconds=20):
    """Wait until `found` gives what is `expected`."""
    ends = time.monotonic() + seconds
    while (now := found()) != expected:
        assert time.monotonic() < ends, now


def statuses(sites):
    return {name: each.statuses() for name, each in sites.items()}


def meet(sites, fault, expected):
    """Within `fault` both servers do what is `expected`, before and after it all is well; what readiness said."""
    until(lambda: statuses(sites), WELL)
    with fault:
        until(lambda: statuses(sites), expected)
        assert statuses(sites) == expected, "and so it stays"
        for each in sites.values():
            assert str(each.server.state) not in each.get("/readyz").text
            for path in ("/v2/health/ready", f"/v2/models/{each.model}/ready"):
                assert each.get(path).status_code == each.get("/readyz").status_code
        told = {name: each.get("/readyz", each.watcher).text for name, each in sites.items()}
    until(lambda: statuses(sites), WELL)
    return told


# The state folder


@contextmanager
def moved(path: Path, content: bytes | None = None) -> Iterator[None]:
    """`path` is elsewhere for a while, and `content` in its place."""
    aside = path.with_name("aside")
    path.rename(aside)
    if content is not None:
        path.write_bytes(content)
    try:
        yield
    finally:
        aside.replace(path)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + b"x" + whole[-2:])
    try:
        yield
    finally:
        path.write_bytes(whole)


@contextmanager
def full_disk(process: int, size: int) -> Iterator[None]:
    """No file of `process` grows beyond `size` bytes."""
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


@contextmanager
def model_fault(folder: Path, what: str) -> Iterator[None]:
    fault = folder / "model-fault"
    fault.write_text(what)
    try:
        yield
    finally:
        fault.unlink()


@contextmanager
def everywhere(sites, fault) -> Iterator[None]:
    with ExitStack() as stack:
        for each in sites.values():
            stack.enter_context(fault(each))
        yield


FAULTS = {
    "disk full": (
        lambda site: full_disk(site.server.process.pid, (site.server.state / "audit.jsonl").stat().st_size),
        AS_THE_SITE_CHOSE,
    ),
    "log damaged": (lambda site: damaged(site.server.state / "audit.jsonl"), AS_THE_SITE_CHOSE),
    "accounts gone": (lambda site: moved(site.server.state / "accounts.db"), AS_THE_SITE_CHOSE),
    "accounts replaced": (lambda site: moved(site.server.state / "accounts.db", b""), AS_THE_SITE_CHOSE),
    "keys damaged": (lambda site: moved(site.server.state / "keys.json", b"{"), STOPPED),
    "model raises": (lambda site: model_fault(site.server.state.parent, "raises"), STOPPED),
    "model hangs": (lambda site: model_fault(site.server.state.parent, "hangs"), STOPPED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_met_as_the_policy_says_and_told_until_it_is_mended(sites, fault):
    """Without keys, or without a model, there is no answer whatever the policy says."""
    befall, expected = FAULTS[fault]
    told = meet(sites, everywhere(sites, befall), expected)
    if fault != "keys damaged":  # then nobody is known who might be told
        part = {"log": "audit", "disk": "a", "accounts": "accounts", "model": "model"}[fault.split()[0]]
        assert all(part in each for each in told.values()), told


def test_an_issuer_that_is_down_stops_tokens_and_no_key(sites, issuer):
    """A token cannot be verified, so it opens nothing, whatever the policy says; who holds a key is answered."""
    bearer = {"Authorization": f"Bearer {signed()}"}
    body = {"inputs": ROWS[:1].tolist()}

    def found():
        return {
            name: (
                each.client.post("/v1/predict", json=body, headers=bearer).status_code,
                each.ask().status_code,
                each.get("/readyz").status_code,
            )
            for name, each in sites.items()
        }

    until(found, {"withhold": (200, 200, 200), "flag": (200, 200, 200)})
    published, issuer.answer = issuer.answer, (500, {}, b"")
    until(found, {"withhold": (503, 200, 503), "flag": (503, 200, 200)})
    issuer.answer = published
    until(found, {"withhold": (200, 200, 200), "flag": (200, 200, 200)})


# Redis


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis"), *DURABLE) as server:
        yield server


@pytest.fixture(scope="module")
def replicas(bundles, redis, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    with both(bundles, folder, "--store", redis.url, "--deadline", "20") as found:
        yield found
    for each in found.values():
        assert not_once(each.server.state, each.answered) == []


@contextmanager
def killed(redis) -> Iterator[None]:
    redis.stop()
    try:
        yield
    finally:
        redis.start()


@contextmanager
def frozen(redis) -> Iterator[None]:
    redis.freeze()
    try:
        yield
    finally:
        redis.process.send_signal(signal.SIGCONT)


@contextmanager
def read_only(redis) -> Iterator[None]:
    """It has become the replica of another, which a failover leaves behind."""
    with redis.client() as client:
        client.replicaof("127.0.0.1", 1)
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@pytest.mark.parametrize("fault", [killed, frozen, read_only])
def test_a_redis_that_is_away_is_met_as_the_policy_says_and_forgets_nothing(replicas, redis, fault):
    """A server that goes on is not ready either: keys that replicas share cannot be read. Its own keys open it."""
    told = meet(replicas, fault(redis), {**STOPPED, "flag": (200, 503, 200)})
    assert all("store" in each or "Redis" in each for each in told.values()), told
    store, careful = RedisStore(redis.url), replicas["withhold"]
    assert store.get(careful.account)["e-process"]["n"] >= len(careful.answered)
    store.close()


# The process, and its clock


def test_kill_9_of_one_of_two_servers_on_one_state_loses_nothing_and_stops_nobody(bundles, sites, tmp_path):
    stays = sites["withhold"]
    (tmp_path / "state").symlink_to(stays.server.state)
    with site(bundles, tmp_path, "withhold") as goes:
        killed = kill_under_load(goes.server, ROWS[:3], after=40)
    assert not_once(stays.server.state, killed) == []
    assert not_once(stays.server.state, ["never answered"]) == ["never answered"]
    until(stays.statuses, WELL["withhold"])
    store = SQLiteStore(stays.server.state / "accounts.db")
    assert store.get("hospital-a/key-1")["e-process"]["n"] >= len(killed)
    store.close()


def test_a_clock_that_is_ten_years_off_lifts_no_alarm_locks_nobody_out_and_breaks_no_chain(bundles, tmp_path):
    """Only keys that have an end go by the clock of the day."""
    clock = ShiftedClock(tmp_path)
    with site(bundles, tmp_path / "host", "withhold", "--rate", "5/hour", **clock.environment) as host:
        keys = KeyStore(host.server.state / "keys.json")
        ending = keys.add(("clinic-withhold", "ending"), expires=datetime.now(UTC) + timedelta(days=30))
        thief, strange = keys.add(("thief",)), {"inputs": (ROWS[:64] * 9 + 40).tolist()}

        def steal():
            reply = host.client.post("/v1/predict", json=strange, headers={"X-API-Key": thief})
            host.answered.append(reply.raise_for_status().json()["id"])
            return set(reply.json()["levels"])

        def asked(token):
            return host.client.post("/v1/predict", json={"inputs": ROWS[:1].tolist()}, headers={"X-API-Key": token})

        while steal() != {"withheld"}:
            pass
        for years, known in ((10, 401), (0, 200), (-10, 401), (0, 200)):
            clock.shift(years * 365 * 86400)
            assert asked(ending).status_code == known
            assert steal() == {"withheld"}, "an alarm outlives any clock"
            assert host.statuses() == WELL["withhold"]
        assert verify_log(host.server.state / "audit.jsonl").records
        assert not_once(host.server.state, host.answered) == []
