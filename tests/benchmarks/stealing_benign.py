"""Benign accounts that ever alarm over 10,000 queries: bursts, series of near-duplicates, scanners that drift.

The rows a victim never saw (same site) are divided anew for every draw into calibration and traffic. Accounts go
through the arithmetic of the product's own `AccountMonitors` (`stealing.fleet`); some go through the deployed step as
well, and must come to the same. Simulated, not measured: which classes a burst brings, how the images of a series and
of a scanner differ (see `burst`, `again`, `scanned`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from claim import Claim
from eprocess import clopper_pearson
from scipy.ndimage import gaussian_filter
from stealing.fleet import Pool, peaks
from stealing.watched import TASKS, calibrated
from support.sights import sight_of

from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.monitors.base import CONTENT_CODES
from medward.guard.policy import Policy
from medward.guard.profile import forward_batches
from medward.guard.types import Array

CLAIMS = tuple(f"stealing_benign_{task}" for task in TASKS)
ALPHAS = (1e-2, 1e-3)
POLICY = Policy(on_error="withhold")
DRAWS, ACCOUNTS, QUERIES = 5, 1000, 10_000
KINDS = ("steady", "bursty", "series", "scanner")
BURST, SERIES = 20, 4  # mean lengths
NATURAL = 500
AGAIN, SCANNERS = 6, 20  # versions of a row in a series; scanners a draw
THIEVES, PATIENCE = (
    8,
    1500,
)  # of natural images, a draw and share of theft
SHARES = (1.0, 0.1)
CHECKED, SHORT = 2, 600  # accounts of each kind and draw that also go through the deployed step, for so many queries


@dataclass(frozen=True, slots=True)
class Draw:
    """One calibration, what its monitors see of every row that can be asked, and which rows those are."""

    monitors: AccountMonitors
    pool: Pool
    labels: np.ndarray
    calibration_rows: int


def measure() -> Iterator[Claim]:
    """One claim for each victim."""
    for task in TASKS:
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        checked, thieves = 0, dict[float, list[int]]()
        for number in range(DRAWS):
            scene, rng = draw(task, number), np.random.default_rng(number)
            for kind in KINDS:
                rows = np.stack([asked(kind, scene.labels, rng) for _ in range(ACCOUNTS // len(KINDS))])
                found[kind] += peaks(scene.monitors, scene.pool, rows).tolist()
                checked += agree(scene, rows[:CHECKED, :SHORT])
            for share_stolen in SHARES:
                counts = [flagged(scene, share_stolen, rng) for _ in range(THIEVES)]
                thieves[share_stolen] = thieves.get(share_stolen, []) + counts
            rows_known = scene.calibration_rows
        yield claimed(task, found, thieves, checked, rows_known)


def draw(task: str, number: int) -> Draw:
    """Calibrate, and look once at every row and every version of it: as it is, `AGAIN` times again, by each scanner."""
    model, profile, traffic = calibrated(task, number, POLICY.monitor.calibration_risk)
    rng = np.random.default_rng(9000 + number)
    versions = [again(traffic.inputs, rng) for _ in range(AGAIN)] + [
        scanned(traffic.inputs, rng) for _ in range(SCANNERS)
    ]
    natural = natural_images(NATURAL, traffic.inputs.shape[1:], seed=1)
    inputs = np.concatenate([traffic.inputs, *versions, natural])
    sight = sight_of(POLICY, profile, inputs, forward_batches(model, inputs))
    pool = {part: np.asarray(column) for part, column in sight.items() if part != CONTENT_CODES}
    pool[CONTENT_CODES] = np.array([int(code, 16) for code in sight[CONTENT_CODES]], np.uint64)
    assert traffic.labels is not None
    return Draw(AccountMonitors.of(POLICY, profile, 1), pool, traffic.labels, len(profile.reference))


def asked(kind: str, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which rows of a pool one account asks, one after the other ``(QUERIES,)``."""
    n = len(labels)
    if kind == "bursty":
        return burst(labels, rng)
    if kind == "series":
        lengths = rng.geometric(1 / SERIES, QUERIES)
        rows = np.repeat(rng.integers(n, size=QUERIES), lengths)[:QUERIES]
        first = np.concatenate([[True], rows[1:] != rows[:-1]])
        return rows + n * np.where(first, 0, rng.integers(1, 1 + AGAIN, QUERIES))
    rows = rng.integers(n, size=QUERIES)
    return rows + n * (1 + AGAIN + rng.integers(SCANNERS)) if kind == "scanner" else rows


def burst(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows that come in runs of one class, as from one ward after the other; classes are as frequent as ever."""
    of_class = {label: np.flatnonzero(labels == label) for label in np.unique(labels).tolist()}
    rows: list[int] = []
    while len(rows) < QUERIES:
        rows += rng.choice(of_class[int(rng.choice(labels))], rng.geometric(1 / BURST)).tolist()
    return np.array(rows[:QUERIES])


def again(images: Array, rng: np.random.Generator) -> Array:
    """The next image of each patient: moved by up to a pixel, 2 % brighter or darker, 1 % noise."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    high, wide = images.shape[2:]
    starts = rng.integers(0, 3, (len(images), 2))
    moved = np.stack([each[:, i : i + high, j : j + wide] for each, (i, j) in zip(padded, starts, strict=True)])
    gain = rng.uniform(0.98, 1.02, (len(images), 1, 1, 1))
    return np.clip(moved * gain + 0.01 * rng.normal(size=moved.shape), 0, 1).astype(np.float32)


def scanned(images: Array, rng: np.random.Generator) -> Array:
    """The images of another scanner: gain 5 %, offset 2 %, gamma 8 %, blur up to 0.4 pixels, noise up to 1 %."""
    gain, offset, gamma = rng.uniform(0.95, 1.05), rng.uniform(-0.02, 0.02), rng.uniform(0.92, 1.08)
    width, noise = rng.uniform(0, 0.4), rng.uniform(0, 0.01)
    blurred = gaussian_filter(images**gamma * gain + offset, (0, 0, width, width))
    return np.clip(blurred + noise * rng.normal(size=images.shape), 0, 1).astype(np.float32)


def flagged(scene: Draw, share: float, rng: np.random.Generator) -> int:
    """Queries until a thief of natural images is at 1e-3, a `share` of which is theft; `PATIENCE` where it never is."""
    n, state = len(scene.labels), None
    for query in range(1, PATIENCE):
        row = n * (1 + AGAIN + SCANNERS) + int(rng.integers(NATURAL)) if rng.random() < share else int(rng.integers(n))
        sight = {part: column[row : row + 1] for part, column in scene.pool.items()}
        sight[CONTENT_CODES] = [f"{code:016x}" for code in sight[CONTENT_CODES]]
        state, (_, verdict, _) = scene.monitors.watch([str(query)], sight, state)
        if verdict.evidence["peak"] >= -math.log(ALPHAS[1]):
            return query
    return PATIENCE


def agree(scene: Draw, rows: np.ndarray) -> int:
    """How many accounts were compared; raises where the deployed step comes to another wealth."""
    for account, here in zip(rows, peaks(scene.monitors, scene.pool, rows), strict=True):
        sight = {part: column[account] for part, column in scene.pool.items()}
        sight[CONTENT_CODES] = [f"{code:016x}" for code in sight[CONTENT_CODES]]
        digests, state, most = [str(row) for row in account], None, 0.0
        for start in range(len(account)):
            one = {part: column[start : start + 1] for part, column in sight.items()}
            state, (_, verdict, _) = scene.monitors.watch(digests[start : start + 1], one, state)
            most = verdict.evidence["peak"]
        if not math.isclose(most, here, rel_tol=1e-6, abs_tol=1e-6):
            raise AssertionError(f"the fleet says {here}, the deployed step {most}")
    return len(rows)


def claimed(
    task: str, found: dict[str, list[float]], thieves: dict[float, list[int]], checked: int, calibration_rows: int
) -> Claim:
    """How many accounts ever reached each alpha; met while each interval reaches down to what is promised."""
    every = np.concatenate([np.array(each) for each in found.values()])
    bound = {alpha: alpha + POLICY.monitor.calibration_risk for alpha in ALPHAS}

    def rates(logs: np.ndarray) -> dict[str, Any]:
        hits = {alpha: int((logs >= -math.log(alpha)).sum()) for alpha in ALPHAS}
        return {
            f"{alpha:g}": {"alarmed": hits[alpha], "of": len(logs), "interval": clopper_pearson(hits[alpha], len(logs))}
            for alpha in ALPHAS
        }

    said = rates(every)
    kinds = {kind: rates(np.array(logs)) for kind, logs in found.items()}
    return Claim(
        claim=f"stealing_benign_{task}",
        value=said["0.01"]["alarmed"] / len(every),
        interval=said["0.01"]["interval"],
        target="<= alpha within sampling error, at 0.01 (the value) and at 0.001, of all accounts and of each kind",
        met=all(each[f"{alpha:g}"]["interval"][0] <= alpha for alpha in bound for each in (said, *kinds.values())),
        n=len(every),
        seed=0,
        details={
            "all": said,
            **kinds,
            "largest_log_wealth": float(every.max()),
            "queries_per_account": QUERIES,
            "draws": DRAWS,
            "calibration_rows": calibration_rows,
            "checked_against_the_deployed_step": f"{checked} accounts, {SHORT} queries each",
            "delta": POLICY.monitor.calibration_risk,
            "drift": POLICY.monitor.drift,
            "thieves_of_natural_images": {
                f"{share:g}": {"n": len(counts), "median": float(np.median(counts)), "never": counts.count(PATIENCE)}
                for share, counts in thieves.items()
            },
            "not_counted": "the index of near-duplicates, a count with limits: see oars_benign_accounts_alarmed",
            "interval_assumes": "independent accounts; those of a draw share calibration rows and pool of traffic",
        },
    )
