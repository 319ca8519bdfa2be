"""Two controls of the monitors on PneumoniaMNIST: p-values that hold on average only, and traffic from elsewhere.

One model; each draw divides the rows it never saw (same site) anew into calibration and benign traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from claim import Claim
from scipy import stats
from stealing.fleet import peaks
from stealing.watched import calibrated, victim
from support.sights import sight_of

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.monitors.base import CONTENT_CODES
from medward.guard.monitors.table import calibration_shares
from medward.guard.policy import Policy
from medward.guard.profile import forward_batches
from medward.guard.statistics.conformal import grid_for
from medward.guard.statistics.eprocess import EProcess
from medward.guard.types import Array

CLAIMS = ("benign_accounts_ever_alarmed_with_ordinary_p_values", "drift_accounts_ever_alarmed")
POLICY = Policy(on_error="withhold")
ALPHA, STRICT = 0.01, 0.001
DRAWS, ACCOUNTS, QUERIES = 10, 40, 5000
TASK = "pneumoniamnist"


def measure() -> Iterator[Claim]:
    """Ordinary conformal p-values on benign traffic, then the monitors as they are on the official test split."""
    naive, drifted = [], []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        model, profile, traffic = calibrated(TASK, draw, POLICY.monitor.calibration_risk)
        strangeness = profile.strangeness(traffic.inputs, forward_batches(model, traffic.inputs))
        ranks = np.searchsorted(-profile.reference[::-1], -strangeness, "right")
        ordinary = (1 + ranks) / (1 + len(profile.reference))
        levels = grid_for(len(profile.reference), POLICY.monitor.calibration_risk * calibration_shares()["strange"])
        naive += [ordinary_peak(ordinary, levels, rng) for _ in range(ACCOUNTS)]
        test = victim(TASK)[1].splits["test"].inputs
        sight = sight_of(POLICY, profile, test, forward_batches(model, test))
        pool = {part: np.asarray(column) for part, column in sight.items() if part != CONTENT_CODES}
        pool[CONTENT_CODES] = np.array([int(code, 16) for code in sight[CONTENT_CODES]], np.uint64)
        rows = rng.integers(len(test), size=(ACCOUNTS, QUERIES))
        drifted += peaks(AccountMonitors.of(POLICY, profile, 1), pool, rows).tolist()
    hits = sum(peak >= -math.log(ALPHA) for peak in naive)
    low, high = clopper_pearson(hits, len(naive))
    yield Claim(
        claim=CLAIMS[0],
        value=hits / len(naive),
        interval=(low, high),
        target="negative control: p-values valid only on average over calibration sets should break alpha",
        met=low > ALPHA,
        n=len(naive),
        seed=0,
        details={"queries_per_account": QUERIES, "calibration_draws": DRAWS, "alpha": ALPHA, "part": "strange"},
    )
    hits = sum(peak >= -math.log(ALPHA) for peak in drifted)
    yield Claim(
        claim=CLAIMS[1],
        value=hits / len(drifted),
        interval=clopper_pearson(hits, len(drifted)),
        target="reported, not bounded: PneumoniaMNIST's official test split comes from elsewhere than its train split",
        met=True,
        n=len(drifted),
        seed=0,
        details={
            "queries_per_account": QUERIES,
            "calibration_draws": DRAWS,
            "drift": POLICY.monitor.drift,
            "at_0.001": sum(peak >= -math.log(STRICT) for peak in drifted),
            "largest_log_wealth": max(drifted),
        },
    )


def ordinary_peak(p_values: Array, levels: tuple[float, ...], rng: np.random.Generator) -> float:
    """The largest log wealth of an account, were the bets of *strange* placed on ordinary p-values at `levels`."""
    part = EProcess(name="strange", levels=levels)
    state, most = part.start(), 0.0
    grid = np.array([*levels, 1.0])
    for n, value in enumerate(grid[np.searchsorted(levels, rng.choice(p_values, QUERIES))].tolist(), 1):
        state = part.step(state, n, value)
        most = max(most, part.log_e(state))
    return most


def median_interval(counts: np.ndarray) -> tuple[float, float]:
    """The distribution-free 95 % interval of a median, from order statistics."""
    ordered = np.sort(counts)
    k = int(stats.binom.ppf(0.025, len(counts), 0.5))
    return float(ordered[k]), float(ordered[-1 - k])


def clopper_pearson(hits: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a rate."""
    low = 0.0 if hits == 0 else float(stats.beta.ppf(0.025, hits, n - hits + 1))
    high = 1.0 if hits == n else float(stats.beta.ppf(0.975, hits + 1, n - hits))
    return low, high
