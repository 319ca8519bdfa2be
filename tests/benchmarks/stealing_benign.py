"""All monitors of an account as one test on PneumoniaMNIST: benign accounts that ever alarm, and thieves noticed.

One victim. The rows it never saw (same site) are divided anew for every draw into calibration and traffic. What each
monitor sees of a row is computed once; accounts then go through the product's own `Monitors.watch`, query by query. No
row is remembered as a repeat, for an account draws from a finite pool, which is itself a little drift.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from claim import Claim
from eprocess import clopper_pearson, median_interval
from subjects import pneumonia

from attacks.benchmarks.natural import natural_images
from guard.account import CODES, STRANGE, WEIGHTS, Monitors, look, sources
from guard.policy import Policy
from guard.profile import Profile, forward

SHARES = (1.0, 0.1, 0.05)
TARGETS = {1.0: 5, 0.1: 60, 0.05: 150}
CLAIMS = (
    "stealing_benign_accounts_ever_alarmed",
    "stealing_drift_accounts_ever_alarmed",
    *(f"stealing_thief_flagged_{share:g}" for share in SHARES),
    "stealing_monitors_per_query",
)
ALPHAS, STRICT = (1e-2, 1e-3), 1e-3
POLICY = Policy(on_error="withhold")
DRAWS, ACCOUNTS, QUERIES, DRIFTED = 8, 4, 10_000, 8
THIEVES, PATIENCE = 6, 1500
CALIBRATION = 0.6  # of the unseen rows
TIMED = 400


@dataclass(frozen=True, slots=True)
class Scene:
    """One draw: the monitors of an account without parents, and what they see of pools of rows."""

    monitors: Monitors
    pools: dict[str, dict[str, Any]]
    size: int


def measure() -> Iterator[Claim]:
    """Benign false alarms, drift, detection by each part alone and all together, cost."""
    peaks, drift, counts = [], [], {share: [] for share in SHARES}
    for number in range(DRAWS):
        scene, rng = draw(number), np.random.default_rng(number)
        peaks += [peak(scene, "benign", rng) for _ in range(ACCOUNTS)]
        drift += [peak(scene, "test", rng) for _ in range(DRIFTED // DRAWS)]
        for share, found in counts.items():
            found += [flagged(scene, share, rng) for _ in range(THIEVES)]
    yield rate("stealing_benign_accounts_ever_alarmed", peaks, POLICY.monitor.calibration_risk, size=scene.size)
    yield rate("stealing_drift_accounts_ever_alarmed", drift, None, size=scene.size)
    for share, found in counts.items():
        yield noticed(share, found)
    yield cost(scene)


def draw(number: int) -> Scene:
    """Divide the unseen rows, calibrate, and look at every pool once."""
    model, task = pneumonia()
    unseen = np.concatenate([task.splits[name].inputs for name in ("calibration", "holdout")])
    order = np.random.default_rng(number).permutation(len(unseen))
    cut = int(CALIBRATION * len(unseen))
    profile = Profile.fit(model, unseen[order[:cut]], risk=POLICY.monitor.risk, seed=number, secret=number)
    inputs = {
        "benign": unseen[order[cut:]],
        "test": task.splits["test"].inputs,
        "natural": natural_images(2000, task.shape, seed=1),
    }
    pools = {}
    for name, rows in inputs.items():
        outputs = forward(model, rows)
        sight: dict[str, Any] = {STRANGE: profile.thresholds.p_values(profile.strangeness(rows, outputs))}
        for source in sources(POLICY, profile):
            sight.update(look(source, profile, rows, outputs))
        pools[name] = {part: np.asarray(column) for part, column in sight.items()}
    return Scene(Monitors.of(POLICY, profile, 1), pools, len(profile.reference))


def peak(scene: Scene, pool: str, rng: np.random.Generator) -> float:
    """The largest log wealth of an account that draws from `pool`."""
    state, columns = None, scene.pools[pool]
    rows = rng.integers(len(columns[STRANGE]), size=QUERIES)
    for start in range(0, QUERIES, 500):
        some = rows[start : start + 500]
        sight = {part: column[some] for part, column in columns.items()}
        state, (_, verdict, _) = scene.monitors.watch([f"{start + i}" for i in range(len(some))], sight, state)
    return verdict.evidence["peak"]


def flagged(scene: Scene, share: float, rng: np.random.Generator) -> dict[str, int]:
    """Queries until `STRICT` by every part alone and by all together; `PATIENCE` where it is never reached."""
    state, first = None, dict.fromkeys(["together", *WEIGHTS], PATIENCE)
    for n in range(1, PATIENCE + 1):
        columns = scene.pools["natural" if rng.random() < share else "benign"]
        row = int(rng.integers(len(columns[STRANGE])))
        sight = {part: column[row : row + 1] for part, column in columns.items()}
        state, (_, verdict, _) = scene.monitors.watch([str(n)], sight, state)
        evidence = verdict.evidence
        logs = {part: evidence["log_e"] + math.log(evidence[f"share:{part}"] / WEIGHTS[part]) for part in WEIGHTS}
        for name, log in {"together": evidence["log_e"], **logs}.items():
            if log >= -math.log(STRICT):
                first[name] = min(first[name], n)
        if first["together"] < n / 2:
            break
    return first


def rate(name: str, peaks: list[float], risk: float | None, **details: Any) -> Claim:
    """How many accounts ever reached each alpha; met while the interval reaches down to what is promised."""
    hits = {alpha: sum(peak >= -math.log(alpha) for peak in peaks) for alpha in ALPHAS}
    intervals = {alpha: clopper_pearson(found, len(peaks)) for alpha, found in hits.items()}
    return Claim(
        claim=name,
        value=hits[ALPHAS[0]] / len(peaks),
        interval=intervals[ALPHAS[0]],
        target="reported: the official test split is from elsewhere" if risk is None else "<= alpha + delta each",
        met=risk is None or all(intervals[alpha][0] <= alpha + risk for alpha in ALPHAS),
        n=len(peaks),
        seed=0,
        details={
            "alarmed": {str(alpha): found for alpha, found in hits.items()},
            "intervals": {str(alpha): interval for alpha, interval in intervals.items()},
            "queries_per_account": QUERIES,
            "calibration_rows": details["size"],
            "draws": DRAWS,
            "largest_log_wealth": max(peaks),
            "contamination": POLICY.monitor.contamination,
            "interval_assumes": "independent accounts; those of one draw share its calibration rows",
        },
    )


def noticed(share: float, found: list[dict[str, int]]) -> Claim:
    """Queries of a natural-image thief of which a `share` is theft."""
    counts = {name: np.array([each[name] for each in found]) for name in found[0]}
    together = counts["together"]
    return Claim(
        claim=f"stealing_thief_flagged_{share:g}",
        value=float(np.median(together)),
        interval=median_interval(together),
        target=f"median <= {TARGETS[share]} queries at alpha {STRICT}",
        met=float(np.median(together)) <= TARGETS[share],
        n=len(together),
        seed=0,
        details={
            "p90": float(np.quantile(together, 0.9)),
            "never_within_patience": int((together == PATIENCE).sum()),
            "alone_median_p90": {
                name: [float(np.median(each)), float(np.quantile(each, 0.9))] for name, each in counts.items()
            },
            "alone_is": f"counted until twice the alarm of all together, else {PATIENCE}",
        },
    )


def cost(scene: Scene) -> Claim:
    """CPU time of all monitors for one account, as a ratio to one forward pass of the CNN."""
    model, task = pneumonia()
    columns, state = scene.pools["benign"], None
    start = time.process_time()
    for n in range(TIMED):
        sight = {part: column[n : n + 1] for part, column in columns.items()}
        state, _ = scene.monitors.watch([str(n)], sight, state)
    monitors = (time.process_time() - start) / TIMED
    start = time.process_time()
    for n in range(TIMED):
        model.predict(task.splits["holdout"].inputs[n : n + 1])
    passes = (time.process_time() - start) / TIMED
    return Claim(
        claim="stealing_monitors_per_query",
        value=monitors / passes,
        target="reported: all monitors of one account over one forward pass of the CNN; 150 microseconds are wanted",
        met=monitors <= 150e-6,
        n=TIMED,
        seed=0,
        details={"microseconds": monitors * 1e6, "forward_microseconds": passes * 1e6, "codes": CODES in columns},
    )
