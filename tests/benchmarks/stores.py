"""The stores: round trips per query, updates lost to kill -9, and what a million principals take.

States are those of the product's own monitors on 28 x 28 images, at every level of a path of depth three.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import numpy as np
import redis
from claim import Claim
from support.host import start
from support.models import MeanModel
from support.redis_server import DURABLE, RedisServer, Wire, running
from support.replicas import count
from support.sights import sight_of

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.accounts.stores import JsonValue, SQLiteStore, Store, encode_states
from medward.guard.accounts.transaction import NearDuplicateBatch, PathStep, step_paths
from medward.guard.monitors.base import Observations
from medward.guard.monitors.content_hash import CONTENT_WIDTH
from medward.guard.monitors.near_duplicates import DuplicateCount, ImageSeen, NearDuplicateIndex
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.types import Action
from medward.integrations.redis_store import RedisStore

CLAIMS = ("redis_round_trips", "stores_kill", "redis_bytes_per_principal", "sqlite_bytes_per_principal")

DEPTH, WARM, QUERIES, SEED = 3, 6000, 500, 0
REPLICAS, EACH = (2, 8), 200
FORWARD = 0.05  # seconds of model between two queries of a replica, where it is not asked without a pause
ROUNDS, KILLED, AFTER = 5, 4, 50
PRINCIPALS, BATCH = 100_000, 100
FRESH, FULL = 2, 300  # queries an account has asked
BUDGET = 4000  # bytes
REPLICA = """
import sys
sys.path[:0] = ["tests", "tests/benchmarks"]
import stores
stores.replica(*sys.argv[1:])
"""


def measure() -> Iterator[Claim]:
    """Round trips first, then crashes, then size."""
    with TemporaryDirectory() as name, running(Path(name)) as server:
        yield round_trips(server, Path(name))
    yield kills()
    for kind, bytes_of in (("redis", redis_bytes), ("sqlite", sqlite_bytes)):
        each = {}
        for asked in (FRESH, FULL):
            with TemporaryDirectory() as name:
                each[asked] = bytes_of(Path(name), asked) / PRINCIPALS
        yield Claim(
            claim=f"{kind}_bytes_per_principal",
            value=each[FULL],
            target=f"<= {BUDGET}: 1,000,000 principals in 4 GB, each with every list of its state full",
            met=each[FULL] <= BUDGET,
            n=PRINCIPALS,
            seed=SEED,
            details={
                f"after {FRESH} queries": each[FRESH],
                **{
                    f"JSON of one state after {asked} queries": len(encode_states(["a"], [state(asked)])[0])
                    for asked in each
                },
            },
        )


def round_trips(server: RedisServer, folder: Path) -> Claim:
    """Counted on the wire for one replica; from the server's own statistics for several that share a parent."""
    wire, spent = Wire(server, folder), []
    store = RedisStore(wire.url)
    for query in range(WARM + QUERIES):
        before = wire.round_trips
        ask(store, "account", query)
        spent.append(wire.round_trips - before)
    store.close()
    wire.close()
    first, warm = spent[1:WARM], spent[WARM:]  # the first query of a process also loads the script
    return Claim(
        claim="redis_round_trips",
        value=mean(warm),
        target=f"<= 1 round trip per query at depth {DEPTH}, index of near-duplicates included, one replica",
        met=max(warm) <= 1,
        n=len(warm),
        details={
            "median": median(warm),
            "most": max(warm),
            f"mean of the first {WARM}": mean(first),
            **{
                f"mean of {replicas} replicas, {label}": contended(server, replicas, pause)
                for replicas in REPLICAS
                for label, pause in (
                    ("asked without a pause", 0.0),
                    (f"{FORWARD * 1000:g} ms between queries", FORWARD),
                )
            },
        },
    )


def ask(store: Store, account: str, query: int) -> None:
    """One query: every level of the path steps its monitors, and the index of near-duplicates takes one more image."""
    monitors, digests, sight = subject()
    row = query % len(digests)
    seen = {part: column[row : row + 1] for part, column in sight.items()}
    images = np.random.default_rng(query).integers(-9999, 9999, (1, CONTENT_WIDTH)).astype(np.int16)
    code = np.random.default_rng(query).bytes(8).hex()  # no two images alike, so lists fill as slowly as they ever do
    near = NearDuplicateBatch(
        index=NearDuplicateIndex(salt=b"salt", calibration="c"),
        monitor=DuplicateCount(ladder=((30.0, Action.FLAG),)),
        arrivals=[ImageSeen(images[0], code, f"{account} {query}", 0, "hospital")],
    )
    keys = ["hospital", "hospital/radiology", f"hospital/radiology/{account}"]
    asked = PathStep(keys=keys, monitors=monitors, digests=[f"{query}"], sight=seen, near=near)
    ((path, counted),) = step_paths(store, [asked], ttl=86400)
    assert not [each for each in (*path, counted) if isinstance(each, Exception)]


def contended(server: RedisServer, replicas: int, pause: float) -> float:
    """Mean round trips of `replicas` processes at once, each with an account of its own below one parent."""
    workers = [start(REPLICA, server.url, f"key-{i}", pause) for i in range(replicas)]
    with server.client() as client:
        for worker in workers:
            worker.stdout.readline()
        client.config_resetstat()
        assert client.publish("go", "") == replicas
        for worker in workers:
            worker.communicate(timeout=300)
        assert not any(worker.returncode for worker in workers)
        calls = client.info("commandstats")
    asked = sum(stat["calls"] for name, stat in calls.items() if re.fullmatch("cmdstat_(evalsha|mget)", name))
    return asked / (replicas * EACH)


def replica(url: str, account: str, pause: str) -> None:
    """What each process of `contended` runs."""
    store = RedisStore(url)
    ask(store, account, 0)
    channel = redis.Redis.from_url(url).pubsub()
    channel.subscribe("go")
    channel.get_message(timeout=60)
    print("ready", flush=True)
    while channel.get_message(timeout=60) is None:
        pass
    for query in range(EACH):
        if float(pause):
            time.sleep(random.uniform(0.5, 1.5) * float(pause))
        ask(store, account, query)
    store.close()


def kills() -> Claim:
    """Eight workers count in one store and half of them are killed."""
    lost, surplus, acknowledged = 0, 0, 0
    for _ in range(ROUNDS):
        for kind in ("sqlite", "redis"):
            with TemporaryDirectory() as name, running(Path(name), *DURABLE) as server:
                where = server.url if kind == "redis" else str(Path(name) / "state.db")
                counted = count(kind, where, workers=8, kill=KILLED, after=AFTER, updates=2 * AFTER)
                store = RedisStore(where) if kind == "redis" else SQLiteStore(where)
                lost += counted.lost(store)
                surplus += counted.surplus(store)
                acknowledged += sum(counted.acknowledged)
                store.close()
    return Claim(
        claim="stores_kill",
        value=lost,
        target="8 workers x kill -9: 0 acknowledged updates lost, 0 counted twice",
        met=lost == surplus == 0,
        n=acknowledged,
        details={"workers killed": 2 * ROUNDS * KILLED, "counted twice or torn": surplus, "stores": "SQLite and Redis"},
    )


@cache
def subject() -> tuple[AccountMonitors, list[str], Observations]:
    """The monitors of the default policy, and what they see of noise images."""
    rows = np.random.default_rng(SEED).uniform(size=(800, 1, 28, 28)).astype(np.float32)
    model, policy = MeanModel(shape=(1, 28, 28)), Policy(on_error="withhold")
    profile = Profile.fit(model, rows, risk=0.001)
    outputs = model.predict(rows)
    sight = sight_of(policy, profile, rows, outputs)
    return AccountMonitors.of(policy, profile, DEPTH), [f"{i:016x}" for i in range(len(rows))], sight


@cache
def state(asked: int) -> JsonValue:
    """An account that asked so many queries."""
    monitors, digests, sight = subject()
    after, _ = monitors.watch(digests[:asked], {part: column[:asked] for part, column in sight.items()}, None)
    return after


def fill(store: Store, asked: int) -> None:
    """`PRINCIPALS` accounts in random order, as they would come."""
    batch = [state(asked)] * BATCH
    order = np.random.default_rng(SEED).permutation(PRINCIPALS)
    for first in range(0, PRINCIPALS, BATCH):
        keys = [f"hospital-{i % 97}/radiology/key-{i}" for i in order[first : first + BATCH].tolist()]
        store.transact_all(keys, lambda _: (batch, None), ttl=365 * 86400)
    store.close()


def redis_bytes(folder: Path, asked: int) -> int:
    """Memory that Redis uses for them, above an empty one."""
    with running(folder) as server, server.client() as client:
        empty = client.info("memory")["used_memory"]
        fill(RedisStore(server.url, timeout=60), asked)
        return client.info("memory")["used_memory"] - empty


def sqlite_bytes(folder: Path, asked: int) -> int:
    """Bytes on the disk once the log is folded in."""
    fill(SQLiteStore(folder / "state.db"), asked)
    return sum(path.stat().st_size for path in folder.iterdir())
