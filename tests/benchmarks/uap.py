"""Universal perturbations on undefended victims: fooling and targeted success over the whole range of radii.

Every perturbation is crafted anew for its radius, on all labelled rows the victim's owner has (as in Hirano et al.
2021) with the victim's own decisions, and judged on the test split. Success in a class leaves out rows that are in it
or are taken for it. Several architectures, because on two classes a perturbation that gathers all images in one class
fools no more than the share of the other: whether both can be turned into each other depends on the architecture.
Which of them stands in front is chosen on the holdout split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from claim import Claim
from torch import Tensor, nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import accuracy, train_victim
from medward.attacks.evasion.uap import craft_universal
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import ClassChange
from medward.attacks.whitebox.search import Search
from medward.guard.data.split import Split

CLAIMS = ("uap_curve",)

TASKS, ARCHITECTURES, SEEDS = ("pneumoniamnist", "nih-cxr"), ("cnn", "vit", "efficientnet"), (0, 1, 2)
LEVELS = (2, 4, 6, 8, 10, 12, 16)
HELD = ("train", "selection", "calibration")
ROWS, EPOCHS, RESTARTS, BATCH = 800, 16, 2, 50
FOOLED, RESAMPLES = 0.80, 1000
UNSEEN = "uap, on holdout"


@dataclass(frozen=True)
class Judged:
    """One perturbation on the test rows: which of them it could win on, which it won, and for whom they stand."""

    won: np.ndarray
    patients: np.ndarray
    balanced: float
    per_class: tuple[float, ...]


def measure() -> Iterator[Claim]:
    """One claim: the largest fooling on the worse of two sets, and targeted success in the worst class."""
    table = {name: {kind: curve(name, kind) for kind in ARCHITECTURES} for name in TASKS}
    top = str(LEVELS[-1])
    best = {name: max(kinds, key=lambda kind: kinds[kind][UNSEEN][top]["value"]) for name, kinds in table.items()}
    fooled = {name: table[name][best[name]]["uap"][top] for name in TASKS}
    goals = [what for what in table[TASKS[0]][ARCHITECTURES[0]] if what.startswith("to ")]
    targeted = {name: min(table[name][best[name]][goal][top]["value"] for goal in goals) for name in TASKS}
    worst = min(fooled.values(), key=lambda each: each["value"])
    yield Claim(
        claim="uap_curve",
        value=worst["value"],
        interval=tuple(worst["interval"]),
        target=f">= {FOOLED} of held-out images fooled at <= {top}/255 on both sets (nontargeted, the architecture "
        f"that falls furthest on holdout rows), and >= {FOOLED} reach each class",
        met=worst["value"] >= FOOLED and min(targeted.values()) >= FOOLED,
        n=worst["n"],
        seed=SEEDS[0],
        details={
            "seeds": SEEDS,
            "seed_draws": "split, victim and attack",
            "fooled_most": best,
            "targeted_worst_class": targeted,
            "craft_rows_at_most": ROWS,
            "epochs": EPOCHS,
            "restarts": RESTARTS,
            "interval_is": "bootstrap of patients where known, else of rows, within each seed",
            "curves": table,
        },
    )


def curve(name: str, kind: str) -> dict[str, Any]:
    """Of one victim architecture on one task: every perturbation at every radius, over all seeds."""
    judged: dict[tuple[str, int], list[Judged]] = {}
    victims = []
    for seed in SEEDS:
        task = load_task(name, seed=seed)
        victim = train_victim(task, architecture=kind, seed=seed).requires_grad_(False)
        victims.append(about(victim, task))
        for level in LEVELS:
            for what, one in attacked(victim, task, level, seed).items():
                judged.setdefault((what, level), []).append(one)
    kinds = dict.fromkeys(what for what, _ in judged)
    points = {what: {str(level): point(judged[what, level]) for level in LEVELS} for what in kinds}
    return {"victims": victims, **points}


def about(victim: nn.Module, task: BenchmarkTask) -> dict[str, float]:
    """Accuracy as is, and the share of test rows that gathering all images in one class can fool at most."""
    x, labels = torch.from_numpy(task.splits["test"].inputs), task.splits["test"].labels
    decided = network_decisions(victim, x).numpy()
    plain, balanced = accuracy(labels, decided)
    return {
        "accuracy": round(plain, 4),
        "balanced_accuracy": round(balanced, 4),
        "one_class_ceiling": round(float(max((decided != c).mean() for c in range(len(task.classes)))), 4),
    }


def attacked(victim: nn.Module, task: BenchmarkTask, level: int, seed: int) -> dict[str, Judged]:
    """Fresh perturbations of `level`/255, without a target and for each class, and random signs."""
    generator = torch.Generator().manual_seed(1000 * seed + level)
    ball = Ball(torch.full((1,) * len(task.shape), level / 255), task.low, task.high)
    rows = torch.cat([torch.from_numpy(task.splits[name].inputs) for name in HELD])
    rows = rows[torch.randperm(len(rows), generator=generator)[:ROWS]]
    decided = network_decisions(victim, rows)
    goals: dict[str, int | None] = {"uap": None, **{f"to {c}": c for c in range(len(task.classes))}}
    found = {}
    for what, goal in goals.items():
        search = Search(victim, ClassChange(goal), ball, generator)
        x, y = (each[search.criterion.open(decided)] for each in (rows, decided))
        delta = craft_universal(search, x, y, epochs=EPOCHS, restarts=RESTARTS, batch=BATCH).delta
        found[what] = judge(victim, task.splits["test"], ball, delta, goal)
        if goal is None:
            found[UNSEEN] = judge(victim, task.splits["holdout"], ball, delta, goal)
    signs = ball.surface((1, *task.shape), generator)
    return found | {
        f"random, {what}": judge(victim, task.splits["test"], ball, signs, goal) for what, goal in goals.items()
    }


def judge(victim: nn.Module, split: Split, ball: Ball, delta: Tensor, goal: int | None) -> Judged:
    """One perturbation on rows it was not crafted on."""
    x, labels = torch.from_numpy(split.inputs), np.asarray(split.labels)
    before, after = network_decisions(victim, x).numpy(), network_decisions(victim, ball.clip(x + delta)).numpy()
    patients = np.arange(len(x)) if split.patients is None else np.asarray(split.patients)
    open_rows = np.ones(len(x), bool) if goal is None else (before != goal) & (labels != goal)
    won = before != after if goal is None else after == goal
    per_class = tuple(round(float((before != after)[before == c].mean()), 3) for c in range(len(np.unique(labels))))
    return Judged(won[open_rows], patients[open_rows], accuracy(labels, after)[1], per_class)


def point(judged: list[Judged]) -> dict[str, Any]:
    """The mean over seeds with its interval, each seed, and what it does to accuracy and to each class."""
    low, high = interval(judged)
    return {
        "value": round(float(np.mean([each.won.mean() for each in judged])), 4),
        "interval": (round(low, 4), round(high, 4)),
        "seeds": [round(float(each.won.mean()), 4) for each in judged],
        "balanced_accuracy": [round(each.balanced, 4) for each in judged],
        "fooled_per_decided_class": [each.per_class for each in judged],
        "n": sum(len(each.won) for each in judged),
    }


def interval(judged: list[Judged]) -> tuple[float, float]:
    """95 % limits of the mean over seeds: patients are drawn anew within each seed."""
    rng = np.random.default_rng(0)
    means = np.zeros(RESAMPLES)
    for each in judged:
        _, group = np.unique(each.patients, return_inverse=True)
        groups = int(group.max()) + 1
        won, rows = (np.bincount(group, weights) for weights in (each.won.astype(float), np.ones(len(group))))
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
        means += (drawn @ won) / (drawn @ rows) / len(judged)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
