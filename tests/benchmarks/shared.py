"""The shared-perturbation monitor: benign accounts that ever alarm, and requests until a universal attack is noticed.

One victim per task. The rows it never saw (same site) are divided anew for every calibration draw; no row, and no
patient, is on two sides. Every account is run through the product's own `SharedPerturbation` and `EProcess`, query by
query, at the share of alpha and delta that the default policy leaves this monitor of an account without parents. The
slack, the epochs, the half-life, the grid and the ball were chosen on these tasks with other draws, so that the counts
of requests are somewhat optimistic; the false-alarm bound holds for any choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from claim import Claim
from eprocess import clopper_pearson, median_interval

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import train_victim
from medward.attacks.evasion.uap import craft_universal
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import ClassChange
from medward.attacks.whitebox.search import Search
from medward.guard.accounts.names import MAX_DEPTH
from medward.guard.monitors.direction_bet import direction_monitor
from medward.guard.monitors.noise_residuals import NoiseResiduals
from medward.guard.monitors.shared_perturbation import (
    DRIFT_SLACK,
    EPOCH,
    SharedPerturbation,
    VectorSeen,
    direction_scores,
    learn_means,
    unit_directions,
)
from medward.guard.monitors.table import calibration_shares
from medward.guard.policy import Policy
from medward.guard.profile import split_rows
from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.statistics.eprocess import EProcess
from medward.guard.types import Action

TASKS = ("pneumoniamnist", "nih-cxr")
ATTACKS = tuple(
    f"shared_uap_{task}_{radius}_{kind}" for task in TASKS for radius in (8, 4) for kind in ("pure", "diluted")
)
CLAIMS = (
    *(f"shared_benign_accounts_ever_alarmed_{task}" for task in TASKS),
    "shared_benign_accounts_without_slack",
    "shared_ordinary_p_values",
    "shared_direction_from_the_judged_query",
    "shared_drift_accounts_ever_alarmed",
    "shared_series_accounts_ever_alarmed",
    *ATTACKS,
)

POLICY = Policy(on_error="withhold")
ALPHA, STRICT = (rung.false_alarm * calibration_shares()["shared"] for rung in POLICY.monitor.ladder)
RISK = POLICY.monitor.calibration_risk * calibration_shares()["shared"]
DRAWS, ACCOUNTS, QUERIES = 40, 50, 500
PATIENCE, THIEVES = 1000, 40
CONTROL_ROWS, CONTROLS, LONG = 100, 40, 5000

Plan = Callable[[int, np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""The requests of account number i: which of n rows ``(q,)``, and what is added to each ``(q, *shape)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A task, its victim, and one draw: the monitor and benign rows it has not seen."""

    task: BenchmarkTask
    victim: Any
    residuals: NoiseResiduals
    fitted_on: np.ndarray
    traffic: np.ndarray

    @property
    def monitor(self) -> SharedPerturbation:
        """As the default policy makes it."""
        return direction_monitor(self.residuals, RISK, DRIFT_SLACK, radius=int(self.residuals.radius))


def measure() -> Iterator[Claim]:
    """Benign false alarms with their negative controls, then detection."""
    victims = {}
    for name in TASKS:
        task = load_task(name, seed=0)
        victims[name] = (task, train_victim(task, seed=0))
        yield benign(name, *victims[name])
    yield from controls()
    yield from unruly(*victims[TASKS[0]])
    for name in TASKS:
        yield from detection(name, *victims[name])


def benign(name: str, task: BenchmarkTask, victim: Any) -> Claim:
    """Accounts that draw from the unseen rows, with repeats: a finite pool is itself a little drift."""
    hits = []
    for seed in range(DRAWS):
        scene, rng = draw(task, victim, seed), np.random.default_rng(seed)
        seen = sight(scene, scene.traffic)
        hits.append([alarmed(scene.monitor, pick(seen, rng, QUERIES)) for _ in range(ACCOUNTS)])
    return rate(
        f"shared_benign_accounts_ever_alarmed_{name}",
        np.ravel(hits),
        **bounded(scene.monitor),
        queries=QUERIES,
        rows=len(seen[0]),
        calibration_rows=len(scene.residuals.reference),
        levels=scene.monitor.levels,
        draws=DRAWS,
        draws_with_an_alarm=int(np.any(hits, axis=1).sum()),
        interval_assumes="independent accounts; those of one draw share its calibration rows",
    )


def controls() -> Iterator[Claim]:
    """Without the slack the bound itself is tested, on invented vectors: of these there are always fresh ones."""
    honest, ordinary, own = [], [], []
    for seed in range(DRAWS * ACCOUNTS):
        monitor, vectors = invented(seed, QUERIES)
        honest.append(alarmed(monitor, [VectorSeen(vector, "") for vector in vectors]))
    for seed in range(CONTROLS):
        monitor, vectors = invented(seed, LONG)
        ordinary.append(bet(monitor, marginal(monitor, vectors)))
        own.append(bet(monitor, circular(monitor, vectors)))
    details = {"calibration_rows": CONTROL_ROWS, "rows": "64 columns, Student t with 5 degrees"}
    each = {"queries": QUERIES, **details, "interval_assumes": "independent accounts: each has its calibration rows"}
    yield rate("shared_benign_accounts_without_slack", honest, **bounded(monitor), **each)
    for name, hits, what in (
        ("shared_ordinary_p_values", ordinary, "p-values valid only on average over calibration draws"),
        ("shared_direction_from_the_judged_query", own, "directions that hold the queries they judge"),
    ):
        target = f"negative control, without slack: {what} should break alpha = {ALPHA}"
        claim = rate(name, hits, target, queries=LONG, **details)
        yield replace(claim, met=clopper_pearson(sum(hits), len(hits))[0] > ALPHA)


def invented(seed: int, queries: int) -> tuple[SharedPerturbation, np.ndarray]:
    """A monitor on heavy-tailed calibration rows, and as heavy-tailed vectors to judge."""
    rng = np.random.default_rng(seed)
    tails = rng.chisquare(5, size=(CONTROL_ROWS + queries, 1)) / 5
    rows = (rng.normal(size=(len(tails), 64)) / np.sqrt(tails)).astype(np.float32)
    risk = RISK / MAX_DEPTH
    return SharedPerturbation(reference=rows[:CONTROL_ROWS], risk=risk, slack=0.0), rows[CONTROL_ROWS:]


def unruly(task: BenchmarkTask, victim: Any) -> Iterator[Claim]:
    """What the bound does not cover, or only by its slack: drift, and series of near-duplicates."""
    drift, bare, known, unknown = [], [], [], []
    for seed in range(DRAWS):
        scene, rng = draw(task, victim, seed), np.random.default_rng(seed)
        account = pick(sight(scene, task.splits["test"].inputs), rng, LONG)
        drift.append(alarmed(scene.monitor, account))
        bare.append(alarmed(replace(scene.monitor, slack=0.0), account))
        account = every(sight(scene, series(scene.traffic[rng.permutation(len(scene.traffic))[:200]], rng)))
        known.append(alarmed(scene.monitor, account))
        unknown.append(alarmed(scene.monitor, [replace(each, code="") for each in account]))
    yield rate(
        "shared_drift_accounts_ever_alarmed",
        drift,
        "reported: PneumoniaMNIST's official test split is from elsewhere; covered while the drift is within the slack",
        queries=LONG,
        without_slack=float(np.mean(bare)),
        slack=DRIFT_SLACK,
    )
    yield rate(
        "shared_series_accounts_ever_alarmed",
        known,
        "reported, not bounded: series of 1 to 10 near-duplicates (shift <= 1 pixel, contrast and brightness +-10 %)",
        queries=len(account),
        without_the_near_duplicate_rule=float(np.mean(unknown)),
    )


def detection(name: str, task: BenchmarkTask, victim: Any) -> Iterator[Claim]:
    """Requests until the alarm, for perturbations crafted on training rows and used on unseen ones."""
    for radius in (8, 4):
        deltas = [perturbation(task, victim, radius, goal, 0) for goal in (None, 0, 1)]
        for kind, share in (("pure", 1.0), ("diluted", 0.2)):
            counts, strict = attacked(task, victim, drawn([[d] for d in deltas], share))
            yield requests(
                f"shared_uap_{name}_{radius}_{kind}",
                counts,
                "reported",
                alpha=ALPHA,
                share_of_attacked_requests=share,
                fooling=[fooling(victim, task, d) for d in deltas],
                strict={"alpha": STRICT, **summary(strict)},
            )


def draw(task: BenchmarkTask, victim: Any, seed: int) -> Scene:
    """Divide the unseen rows, by patient where they are known, into calibration and traffic."""
    parts = [task.splits[name] for name in ("calibration", "holdout")]
    rows = np.concatenate([part.inputs for part in parts])
    patients = np.arange(len(rows))
    if parts[0].patients is not None:
        patients = np.concatenate([part.patients for part in parts])
    known = np.random.default_rng(seed).permutation(np.unique(patients))
    mine = np.isin(patients, known[: int(0.6 * len(known))])
    fit, reference = split_rows(patients[mine], seed)
    residuals = NoiseResiduals.fit(rows[mine][fit], rows[mine][reference], seed=seed)
    return Scene(task=task, victim=victim, residuals=residuals, fitted_on=rows[mine][fit], traffic=rows[~mine])


def sight(scene: Scene, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Vectors and content codes of `rows`."""
    rows = rows.astype(np.float32)
    blocks = [scene.residuals.vectors(rows[i : i + 256]) for i in range(0, len(rows), 256)]
    return np.concatenate(blocks), scene.residuals.codes(rows)


def every(seen: tuple[np.ndarray, list[str]]) -> list[VectorSeen]:
    """The requests of an account that sends all rows in order."""
    return [VectorSeen(*each) for each in zip(*seen, strict=True)]


def pick(seen: tuple[np.ndarray, list[str]], rng: np.random.Generator, queries: int) -> list[VectorSeen]:
    """The requests of an account that draws from the rows, with repeats."""
    rows = every(seen)
    return [rows[i] for i in rng.integers(len(rows), size=queries)]


def alarms(monitor: SharedPerturbation, batches: Iterable[list[VectorSeen]]) -> list[int]:
    """Requests until each rung of the default policy, 0 where it is not reached."""
    bettor = betting(monitor)
    state, wealth, n, first = monitor.start(), bettor.start(), 0, [0] * len(bettor.ladder)
    for batch in batches:
        state, p_values = monitor.judge(state, batch)
        for p_value in p_values:
            wealth, verdict = bettor.step(wealth, Observation({"shared": p_value}))
            n += 1
            first = [at or n * (verdict.action >= action) for at, (_, action) in zip(first, bettor.ladder, strict=True)]
        if all(first):
            break
    return first


def alarmed(monitor: SharedPerturbation, account: list[VectorSeen]) -> bool:
    """Whether the account ever reaches the first rung."""
    return alarms(monitor, [account])[0] > 0


def betting(monitor: SharedPerturbation) -> CombinedEProcess:
    """This monitor alone, at its weight in the default policy's test."""
    actions = [Action[rung.action.upper()] for rung in POLICY.monitor.ladder]
    ladder = tuple(zip((ALPHA, STRICT), actions, strict=True))
    return CombinedEProcess(parts=(EProcess(name="shared", levels=monitor.levels),), weights=(1.0,), ladder=ladder)


def bet(monitor: SharedPerturbation, p_values: np.ndarray) -> bool:
    """Whether an e-process on these p-values ever reaches the first rung."""
    bettor = betting(monitor)
    state = bettor.start()
    for p_value in p_values:
        state, _ = bettor.step(state, Observation({"shared": float(p_value)}))
    return bettor.verdict(state).action >= bettor.ladder[0][1]


def marginal(monitor: SharedPerturbation, vectors: np.ndarray) -> np.ndarray:
    """Ordinary conformal p-values along the monitor's own directions."""
    p = np.ones(len(vectors))
    for start, stop, before, _ in epochs(vectors):
        ordered = np.sort(direction_scores(monitor.reference, before))
        above = len(ordered) - np.searchsorted(ordered, direction_scores(vectors[start:stop], before), "left")
        p[start:stop] = (1 + above) / (1 + len(ordered))
    return p


def circular(monitor: SharedPerturbation, vectors: np.ndarray) -> np.ndarray:
    """The monitor's own judgement, but along directions that already hold the epoch they judge."""
    p = np.ones(len(vectors))
    for number, (start, stop, _, after) in enumerate(epochs(vectors)):
        found = direction_scores(vectors[start:stop], after)
        for level, cut in reversed(list(zip(monitor.levels, monitor._cuts(after, number), strict=True))):
            if cut is not None:
                p[start:stop][found > cut] = level
    return p


def epochs(vectors: np.ndarray) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Start and end of each epoch as the monitor has them, its directions, and those it would have had at its end."""
    starts = [*range(1, EPOCH), *range(EPOCH, len(vectors), EPOCH)]
    nothing = np.zeros((2, vectors.shape[1]), np.float32)
    means = learn_means(nothing, vectors[0], 1, nothing[1])
    for start, stop in zip(starts, [*starts[1:], len(vectors)], strict=True):
        before = unit_directions(means)
        for n in range(start, stop):
            means = learn_means(means, vectors[n], n + 1, before[1])
        yield start, stop, before, unit_directions(means)


def series(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image 1 to 10 times in a row, shifted and exposed a little differently."""
    out = []
    for image in images:
        for _ in range(rng.integers(1, 11)):
            top, left = rng.integers(0, 3, size=2)
            wider = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
            moved = wider[:, top : top + image.shape[1], left : left + image.shape[2]]
            out.append(np.clip(moved * rng.uniform(0.9, 1.1) + rng.uniform(-0.1, 0.1), 0, 1))
    return np.stack(out)


def drawn(pools: list[list[np.ndarray]], share: float = 1.0, after: int = 0) -> Plan:
    """Accounts take turns with `pools`; a `share` of their requests beyond the first `after` draws from the pool."""

    def plan(number: int, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        pool = np.stack(pools[number % len(pools)])
        chosen = pool[rng.integers(len(pool), size=after + PATIENCE)]
        chosen[rng.random(len(chosen)) >= share] = 0
        chosen[:after] = 0
        return rng.integers(n, size=len(chosen)), chosen

    return plan


def faded(delta: np.ndarray, steps: int) -> Plan:
    """Each image is sent `steps` times, first as it is, last with all of `delta`."""

    def plan(number: int, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        shares = np.resize(np.linspace(0, 1, steps, dtype=np.float32), PATIENCE)
        return rng.integers(n, size=PATIENCE)[np.arange(PATIENCE) // steps], shares[:, None, None, None] * delta

    return plan


def attacked(
    task: BenchmarkTask, victim: Any, plan: Plan, *, after: int = 0, accounts: int = THIEVES, draws: int = 4
) -> list[np.ndarray]:
    """Requests beyond the first `after` until each rung ``(accounts,)``; `PATIENCE` where it is never reached."""
    counts = []
    for seed in range(draws):
        scene, rng = draw(task, victim, 1000 + seed), np.random.default_rng(seed)
        for number in range(accounts // draws):
            first = alarms(scene.monitor, sent(scene, *plan(number, rng, len(scene.traffic))))
            counts.append([at - after if at else PATIENCE for at in first])
    return list(np.array(counts).T)


def sent(scene: Scene, rows: np.ndarray, added: np.ndarray, size: int = 50) -> Iterator[list[VectorSeen]]:
    """An account's requests, `size` at a time."""
    for start in range(0, len(rows), size):
        images = np.clip(scene.traffic[rows[start : start + size]] + added[start : start + size], 0, 1)
        yield every(sight(scene, images))


def perturbation(task: BenchmarkTask, victim: Any, radius: int, goal: int | None, seed: int) -> np.ndarray:
    """A universal perturbation at radius/255, crafted on a random half of the training rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = task.splits["train"].inputs
    x = torch.from_numpy(rows[np.random.default_rng(seed).permutation(len(rows))[: min(len(rows) // 2, 400)]])
    y = network_decisions(victim, x)
    x, y = (x, y) if goal is None else (x[y != goal], y[y != goal])
    ball = Ball(radius=torch.full((1, 1, 1), radius / 255), low=0.0, high=1.0)
    search = Search(victim, ClassChange(goal), ball, generator)
    found = craft_universal(search, x, y, epochs=6, restarts=1, batch=50)
    return found.delta[0].numpy()


def fooling(victim: Any, task: BenchmarkTask, delta: np.ndarray) -> float:
    """The share of held-out rows answered otherwise."""
    x = torch.from_numpy(task.splits["holdout"].inputs)
    return float(
        (network_decisions(victim, (x + torch.from_numpy(delta)).clamp(0, 1)) != network_decisions(victim, x))
        .float()
        .mean()
    )


def bounded(monitor: SharedPerturbation) -> dict[str, Any]:
    """The target of `rate`: what one account is promised."""
    bound = ALPHA + monitor.risk
    return {"target": f"<= alpha + delta = {bound:.5f} within sampling error, interval below 3 x that", "bound": bound}


def rate(name: str, hits: Sequence[bool], target: str, *, bound: float | None = None, **details: Any) -> Claim:
    """A claim about a share of accounts; met while its interval reaches down to `bound` and not above 3 x `bound`."""
    low, high = clopper_pearson(int(sum(hits)), len(hits))
    return Claim(
        claim=name,
        value=float(np.mean(hits)),
        interval=(low, high),
        target=target,
        met=bound is None or (low <= bound and high <= 3 * bound),
        n=len(hits),
        seed=0,
        details={"interval_assumes": "independent accounts", **details},
    )


def requests(name: str, counts: np.ndarray, target: str, **details: Any) -> Claim:
    """A claim about how many requests it takes; counts stop at `PATIENCE`."""
    return Claim(
        claim=name,
        value=float(np.median(counts)),
        interval=median_interval(counts),
        target=target,
        met=True,
        n=len(counts),
        seed=0,
        details={**summary(counts), **details},
    )


def summary(counts: np.ndarray) -> dict[str, float]:
    """Median, 90th percentile, and how many accounts were not noticed within `PATIENCE`."""
    quantiles = {"median": float(np.median(counts)), "p90": float(np.quantile(counts, 0.9))}
    return {**quantiles, "never_within_patience": int((counts == PATIENCE).sum())}
