"""Accounts that send one rare class only: laboratories, and no thieves.

Blood cells have two rare classes. Cells of one account are all different: a cell, or a cell turned over.
Accounts are counted at the default policy's alarms, thieves at 1e-3 as in the other claims.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import stealing
from claim import Claim
from eprocess import clopper_pearson
from stealing import blood
from stealing.asked import finished, named, sources_of
from stealing.fleet import Pool, peaks
from support.sights import sight_of

from medward import guard
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.monitors.base import CONTENT_CODES
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches
from medward.guard.types import Array

CLAIMS = ("specialist_accounts_withheld",)
POLICY = Policy(on_error="withhold")
COARSEN, WITHHOLD = (rung.false_alarm for rung in POLICY.monitor.ladder)
ALPHA = 1e-3  # for thieves
ROWS, DRAWS = (200, 500, 1000), 10
ACCOUNTS, QUERIES = 4, 400  # of each kind and draw
THIEVES, PATIENCE, PHOTOGRAPHS = 2, 1500, 1000
MOST = 0.05
BEFORE = Path(__file__).with_name("specialists_before.json")
"""What `specialists` found at commit b5618f6."""
CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (guard, stealing)))


def measure() -> Iterator[Claim]:
    """Laboratories of one class."""
    yield specialists()


def specialists() -> Claim:
    """The share of laboratories of one class that are ever withheld, where it is largest."""
    turns = [(number, rows) for number in range(DRAWS) for rows in ROWS]  # so that a run that was stopped has all sizes
    draws = {turn: kept("specialists", turn[1], turn[0], _specialists) for turn in turns}
    found = {rows: together([draws[number, rows] for number in range(DRAWS)]) for rows in ROWS}
    alone = [each for row in found.values() for each in row["accounts"].values() if each["alone"]]
    worst = max(alone, key=lambda each: each["withheld"] / each["n"])
    return Claim(
        claim=CLAIMS[0],
        value=worst["withheld"] / worst["n"],
        interval=clopper_pearson(worst["withheld"], worst["n"]),
        target=f"<= {MOST:g} of the accounts of any class alone, at any number of calibration rows, ever withheld",
        met=all(each["withheld"] <= MOST * each["n"] for each in alone),
        n=sum(each["n"] for each in alone),
        seed=0,
        details={
            "by_calibration_rows": found,
            "queries_per_account": QUERIES,
            "draws": DRAWS,
            "policy": {"coarsen": COARSEN, "withhold": WITHHOLD},
            "before": json.loads(BEFORE.read_text()) if BEFORE.exists() else None,
            "interval_assumes": "independent accounts; those of a draw share calibration rows and pool of traffic",
        },
    )


def _specialists(rows: int, number: int) -> dict[str, Any]:
    """One draw: the largest log wealth of accounts by kind, queries to flag thieves, refused shares by class."""
    model, profile, traffic = blood.calibrated(rows, number, POLICY.monitor.calibration_risk)
    classes, rng, n = victim_classes(), np.random.default_rng(1000 + number), len(traffic)
    rare = traffic.take(np.flatnonzero(traffic.labels))
    turned, photographs = blood.turned(rare.inputs), natural_images(PHOTOGRAPHS, traffic.inputs.shape[1:], seed=number)
    inputs = np.concatenate([traffic.inputs, *turned, photographs])
    labels = np.concatenate([traffic.labels, *[rare.labels] * len(turned), np.full(PHOTOGRAPHS, -1)])
    outputs = forward_batches(model, inputs)
    monitors, pool = AccountMonitors.of(POLICY, profile, 1), pooled(profile, inputs, outputs)
    kinds = {name: labels == label for label, name in enumerate(classes)}
    kinds["both rare classes"] = labels > 0
    accounts = {}
    for name, mine in kinds.items():
        asked = [rng.permutation(np.flatnonzero(mine))[:QUERIES] for _ in range(ACCOUNTS)]
        accounts[name] = peaks(monitors, pool, np.stack(asked)).tolist()
    half = [
        [rng.permutation(np.flatnonzero(kinds[name]))[: QUERIES // 2] for name in classes[:2]] for _ in range(ACCOUNTS)
    ]
    asked = [rng.permutation(np.concatenate(each)) for each in half]
    accounts["half white cells"] = peaks(monitors, pool, np.stack(asked)).tolist()
    accounts["all classes"] = peaks(monitors, pool, rng.integers(n, size=(ACCOUNTS, QUERIES))).tolist()
    photos = len(inputs) - PHOTOGRAPHS + np.arange(PHOTOGRAPHS)
    taken = np.argmax(outputs.scores[photos], axis=1)
    thieves = {
        "photographs": (1.0, photos),
        "photographs, 10 %": (0.1, photos),
        **{f"photographs taken for {name}": (1.0, photos[taken == label]) for label, name in enumerate(classes)},
    }
    flags = {
        name: [flagged(monitors, pool, mixed(share, n, own, rng), ALPHA) for _ in range(THIEVES)]
        for name, (share, own) in thieves.items()
        if len(own)
    }
    strange = profile.strangeness(inputs[:n], forward_batches(model, inputs[:n])) > profile.screen_cut(
        POLICY.screen.rate
    )
    refused = {name: [int(strange[mine[:n]].sum()), int(mine[:n].sum())] for name, mine in kinds.items()}
    return {"accounts": accounts, "thieves": flags, "refused": refused, "reference": len(profile.reference)}


def together(draws: list[dict[str, Any]]) -> dict[str, Any]:
    """All draws of one number of calibration rows."""
    accounts = {}
    for name in draws[0]["accounts"]:
        logs = np.concatenate([each["accounts"][name] for each in draws])
        hits = {alpha: int((logs >= -math.log(alpha)).sum()) for alpha in (COARSEN, WITHHOLD)}
        accounts[name] = {
            "coarsened": hits[COARSEN],
            "withheld": hits[WITHHOLD],
            "n": len(logs),
            "largest_log_wealth": float(logs.max()),
            "alone": name in victim_classes(),
        }
    thieves: dict[str, list[float]] = {}
    for each in draws:
        for name, counts in each["thieves"].items():
            thieves.setdefault(name, []).extend(math.inf if count is None else count for count in counts)
    refused = {name: np.sum([each["refused"][name] for each in draws], axis=0).tolist() for name in draws[0]["refused"]}
    return {
        "reference": draws[0]["reference"],
        "accounts": accounts,
        "thieves_flagged_after": {name: summary(counts) for name, counts in thieves.items()},
        "rows_that_the_screen_refuses": refused,
    }


def kept(name: str, rows: int, number: int, make: Callable[[int, int], Any]) -> Any:
    """What `make` makes of a draw, done once."""
    settings = (POLICY, ACCOUNTS, QUERIES, THIEVES, PATIENCE, PHOTOGRAPHS)
    return finished(f"{name}-{rows}-{number}", named(repr(settings), *CODE), lambda: make(rows, number))


def victim_classes() -> tuple[str, ...]:
    """The classes of blood cells."""
    return blood.victim()[1].classes


def pooled(profile: Profile, inputs: Array, outputs: Any) -> Pool:
    """What the parts see of `inputs`."""
    sight = sight_of(POLICY, profile, inputs, outputs)
    pool = {part: np.asarray(column) for part, column in sight.items() if part != CONTENT_CODES}
    return {**pool, CONTENT_CODES: np.array([int(code, 16) for code in sight[CONTENT_CODES]], np.uint64)}


def mixed(share: float, benign: int, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of a pool that a thief asks, of which a `share` is its `own` and the others are of the `benign` first."""
    return np.where(rng.random(PATIENCE) < share, rng.choice(own, PATIENCE), rng.integers(benign, size=PATIENCE))


def flagged(monitors: AccountMonitors, pool: Mapping[str, np.ndarray], rows: np.ndarray, alpha: float) -> int | None:
    """Queries until an account that asks `rows`, all of them different, reaches `alpha`; None where it never does."""
    state: Any = None
    for query, row in enumerate(rows.tolist(), 1):
        sight: dict[str, Any] = {part: column[row : row + 1] for part, column in pool.items()}
        sight[CONTENT_CODES] = [f"{code:016x}" for code in sight[CONTENT_CODES].tolist()]
        state, (_, verdict, _) = monitors.watch([str(query)], sight, state)
        if verdict.evidence["peak"] >= -math.log(alpha):
            return query
    return None


def summary(counts: list[float]) -> dict[str, Any]:
    """Of queries: median, 90th percentile and how many never; None for never."""
    ends = np.quantile(counts, (0.5, 0.9), method="higher")
    median, p90 = (float(each) if np.isfinite(each) else None for each in ends)
    return {"n": len(counts), "median": median, "p90": p90, "never": int(np.isinf(counts).sum())}
