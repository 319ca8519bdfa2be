"""Two processes that share one Redis notice a thief who goes round them as one process with a store of its own does.

Every replica is a process that loaded the bundle by itself. The thief asks the same rows in the same order, one at a
time and each from the next key of one organisation, of one replica and of two in turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from claim import Claim
from subjects import SEED, pneumonia_victim
from support.redis_server import running

from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.guard.bundle import folder as bundles
from medward.guard.bundle.make import protect
from medward.guard.policy import Policy
from medward.guard.types import Action, Array, Query
from medward.integrations.serving.store import open_store

CLAIMS = ("replicas_flag_as_one",)

SHARES = (1.0, 0.1, 0.05)
THIEVES, KEYS, PATIENCE = 8, 3, 1500
POLICY = Policy(on_error="withhold", screen={"action": "flag"})
Seen = tuple[int, float]
"""The strictest action of all accounts on the path, and the largest log wealth among them."""
Ask = Callable[[tuple[str, ...], Array], Seen]


def measure() -> Iterator[Claim]:
    """Every thief against one replica, then against two."""
    victim, task = pneumonia_victim()
    benign, natural = task.splits["holdout"].inputs, natural_images(2000, task.shape, seed=1)
    with TemporaryDirectory() as name, running(Path(name)) as server, ExitStack() as stack:
        path = Path(name) / "bundle"
        spec = {"classes": task.classes, "output": "logits", "low": task.low, "high": task.high}
        protect(victim, task.splits["calibration"], POLICY, path, seed=SEED, **spec)
        alone = [stack.enter_context(replica(path, str(Path(name) / "accounts.db")))]
        shared = [stack.enter_context(replica(path, server.url)) for _ in range(2)]
        found: dict[float, list[tuple[int, int]]] = {}
        most = 0.0
        for share in SHARES:
            for number in range(THIEVES):
                rows = thief(share, benign, natural, np.random.default_rng([SEED, number]))
                once, twice = (flagged(each, f"{share:g}-{number}", rows) for each in (alone, shared))
                found.setdefault(share, []).append((len(once), len(twice)))
                most = max(most, *(abs(a - b) for a, b in zip(once, twice, strict=False)))
    pairs = [pair for each in found.values() for pair in each]
    yield Claim(
        claim="replicas_flag_as_one",
        value=max(abs(one - two) for one, two in pairs),
        target="0: largest difference in queries to flag between one replica and two that share Redis",
        met=all(one == two < PATIENCE for one, two in pairs),
        n=len(pairs),
        seed=SEED,
        details={
            "largest difference of a log wealth": most,
            "keys of each thief": KEYS,
            "stores": "one replica: SQLite; two: Redis",
            **{
                f"queries to flag at {share:g}": {"one replica": list(one), "two replicas": list(two)}
                for share, (one, two) in ((share, zip(*each, strict=True)) for share, each in found.items())
            },
        },
    )


def thief(share: float, benign: Array, natural: Array, rng: np.random.Generator) -> Array:
    """`PATIENCE` rows of which a `share` is theft."""
    rows = benign[rng.choice(len(benign), PATIENCE, replace=len(benign) < PATIENCE)]
    stolen = np.flatnonzero(rng.random(PATIENCE) < share)
    rows[stolen] = natural[rng.choice(len(natural), len(stolen), replace=False)]
    return rows


def flagged(replicas: Sequence[Ask], organisation: str, rows: Array) -> list[float]:
    """The largest log wealth after each query, up to the first that an account or its organisation alarms at."""
    wealth = []
    for number, (row, ask) in enumerate(zip(rows, cycle(replicas), strict=False)):
        action, log_e = ask((organisation, f"key-{number % KEYS}"), row[None])
        wealth.append(log_e)
        if action > Action.ALLOW:
            break
    return wealth


@contextmanager
def replica(bundle: Path, store: str) -> Iterator[Ask]:
    """A process with a guard on `store`."""
    context = get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=answer, args=(bundle, store, far), daemon=True)
    process.start()

    def ask(principal: tuple[str, ...], row: Array) -> Seen:
        near.send((principal, row))
        return near.recv()

    try:
        yield ask
    finally:
        near.send(None)
        process.join(30)


def answer(bundle: Path, store: str, asked: Connection) -> None:
    """What each process runs."""
    logging.getLogger("medward").setLevel(logging.ERROR)  # alarms are what is counted here
    opened = open_store(store)
    guard = bundles.load_bundle(bundle).guard(store=opened, ephemeral=True)
    while (query := asked.recv()) is not None:
        principal, row = query
        given = guard.answer(Query(principal=principal, inputs=row))
        accounts = [verdict for verdict in given.verdicts if verdict.source.startswith("e-process:")]
        assert len(accounts) == len(principal), given.verdicts
        asked.send((max(each.action for each in accounts), max(each.evidence["log_e"] for each in accounts)))
    opened.close()
