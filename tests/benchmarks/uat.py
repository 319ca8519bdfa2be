"""Universal adversarial training: what fresh, targeted and transferred universal perturbations still do at 10/255."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from claim import Claim
from torch import Tensor, nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import accuracy, classifier_spec, train_victim
from medward.attacks.evasion.uap import craft_universal
from medward.attacks.intervals import rate_interval
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import ClassChange
from medward.attacks.whitebox.search import Search
from medward.guard.harden import HARDENERS

CLAIMS = ("uat_pneumoniamnist", "uat_nih_cxr")

TASKS = {"uat_pneumoniamnist": "pneumoniamnist", "uat_nih_cxr": "nih-cxr"}
SEEDS = {"pneumoniamnist": (0, 1, 2), "nih-cxr": (3, 4, 5)}
JUDGED = {"pneumoniamnist": ("test",), "nih-cxr": ("test", "holdout")}  # NIH's test split alone is 150 rows
EPSILON = 10 / 255
RADII = tuple(k / 255 for k in (4, 7, 10, 13, 16, 24))
RESTARTS = 5
ROWS = 400  # that an attacker crafts on
SOURCES = ("resnet", "vgg", "densenet")  # what perturbations are transferred from
METHODS = ("undefended", "retraining", "uat")
FOOLED, LOST = 0.15, 0.02


@dataclass(frozen=True)
class Hit:
    """What one perturbation does to one model on the test rows."""

    origin: str
    fooled: np.ndarray
    reached: dict[int, float]
    balanced: float


def measure() -> Iterator[Claim]:
    """Per data set: worst-case fooling of the hardened model, clean loss, and the same for what it is compared with."""
    for name, task in TASKS.items():
        yield claimed(name, task, {str(seed): study(task, seed) for seed in SEEDS[task]})


def claimed(name: str, task: str, runs: dict[str, Any]) -> Claim:
    """From the studies of all seeds: the worst perturbation of the worst seed, and the mean clean loss."""
    worst = max((run["uat"] for run in runs.values()), key=lambda each: each["fooled"])
    lost = [run["undefended"]["clean"] - run["uat"]["clean"] for run in runs.values()]
    return Claim(
        claim=name,
        value=worst["fooled"],
        interval=tuple(worst["interval"]),
        target=f"worst UAP, worst seed, at 10/255 fools <= {FOOLED}; clean balanced accuracy lost <= {LOST} (mean)",
        met=worst["fooled"] <= FOOLED and float(np.mean(lost)) <= LOST,
        n=worst["n"],
        details={
            "clean_balanced_accuracy_lost": {"mean": float(np.mean(lost)), "seeds": lost},
            "mean_over_seeds": float(np.mean([run["uat"]["fooled"] for run in runs.values()])),
            "judged_on": " and ".join(JUDGED[task]),
            "perturbations_per_model": f"fresh: {RESTARTS} restarts x (nontargeted, each class); each crafted on "
            f"the undefended twin and on {', '.join(SOURCES)}",
            "seeds": runs,
        },
    )


def study(name: str, seed: int) -> dict[str, Any]:
    """All methods on one split; what they were trained on is not what they are attacked or judged with."""
    task = load_task(name, seed=seed)
    twin = train_victim(task, seed=seed)
    foreign = {"the undefended twin": crafted(twin, task, EPSILON, seed)}
    foreign |= {
        each: crafted(train_victim(task, architecture=each, seed=seed), task, EPSILON, seed, 2) for each in SOURCES
    }
    models = {"undefended": twin}
    models |= {each: hardened(each, twin, task, seed) for each in METHODS[1:]}
    return {
        each: judged(network, task, foreign, seed, curve=each == "uat" and seed == SEEDS[name][0])
        for each, network in models.items()
    }


def hardened(method: str, network: nn.Module, task: BenchmarkTask, seed: int) -> nn.Module:
    """`network` hardened at its defaults."""
    splits = task.splits
    return (
        replace(HARDENERS[method], epsilon=EPSILON)
        .harden(network, splits["train"], splits["selection"], low=task.low, high=task.high, seed=seed)
        .network
    )


def unseen(task: BenchmarkTask) -> tuple[Tensor, np.ndarray]:
    """The rows it is judged on, and their labels."""
    splits = [task.splits[name] for name in JUDGED[task.name]]
    return torch.from_numpy(np.concatenate([each.inputs for each in splits])), np.concatenate(
        [each.labels for each in splits]
    )


def crafted(
    network: nn.Module, task: BenchmarkTask, epsilon: float, seed: int, restarts: int = RESTARTS
) -> dict[str, Tensor]:
    """The best perturbation for each goal, on rows that no training has seen."""
    x = torch.from_numpy(task.splits["calibration"].inputs[:ROWS])
    y = network_decisions(network, x)
    ball = Ball.of(classifier_spec(task, "logits"), x.numpy(), epsilon)
    generator = torch.Generator().manual_seed(1000 + seed)
    found = {}
    for goal in (None, *range(len(task.classes))):
        rows = torch.ones(len(x), dtype=torch.bool) if goal is None else y != goal
        found["nontargeted" if goal is None else f"to class {goal}"] = craft_universal(
            Search(network, ClassChange(goal), ball, generator),
            x[rows],
            y[rows],
            epochs=12,
            restarts=restarts,
            batch=50,
        ).delta
    return found


def judged(
    network: nn.Module, task: BenchmarkTask, foreign: dict[str, dict[str, Tensor]], seed: int, *, curve: bool
) -> dict[str, Any]:
    """Everything thrown at one model; the worst of it stands in front."""
    x, labels = unseen(task)
    own = network_decisions(network, x)
    fresh = {"fresh": crafted(network, task, EPSILON, seed)}
    hits = [
        hit(network, f"{origin}, {goal}", delta, x, own, labels)
        for origin, deltas in (fresh | foreign).items()
        for goal, delta in deltas.items()
    ]
    worst = max(hits, key=lambda each: each.fooled.mean())
    interval = rate_interval(worst.fooled)
    noise = Ball.of(classifier_spec(task, "logits"), x.numpy(), EPSILON).surface(
        (1, *task.shape), torch.Generator().manual_seed(seed)
    )
    found = {
        "clean": accuracy(labels, own.numpy())[1],
        "fooled": interval.value,
        "interval": (interval.low, interval.high),
        "n": interval.n,
        "by": worst.origin,
        "targeted": {str(k): max(each.reached[k] for each in hits) for k in range(len(task.classes))},
        "balanced_accuracy_under_the_worst": min(each.balanced for each in hits),
        "random_signs": float(hit(network, "noise", noise, x, own, labels).fooled.mean()),
        "each": {each.origin: round(float(each.fooled.mean()), 4) for each in hits},
    }
    if curve:
        found["curve"] = [point(network, task, radius, seed, x, own, labels) for radius in RADII]
    return found


def point(
    network: nn.Module, task: BenchmarkTask, radius: float, seed: int, x: Tensor, own: Tensor, labels: np.ndarray
) -> dict[str, float]:
    """The same, fresh perturbations only, at another radius."""
    hits = [
        hit(network, goal, delta, x, own, labels) for goal, delta in crafted(network, task, radius, seed, 2).items()
    ]
    return {
        "epsilon_255": round(radius * 255, 2),
        "fooled": max(float(each.fooled.mean()) for each in hits),
        "balanced_accuracy": min(each.balanced for each in hits),
    }


def hit(network: nn.Module, origin: str, delta: Tensor, x: Tensor, own: Tensor, labels: np.ndarray) -> Hit:
    """`own` are the decisions on the clean rows; a class counts as reached only from rows not already in it."""
    decided = network_decisions(network, (x + delta).clamp(0, 1))
    reached = {
        k: float((decided[own != k] == k).float().mean()) if (own != k).any() else 0.0
        for k in range(int(labels.max()) + 1)
    }
    return Hit(origin, (decided != own).numpy(), reached, accuracy(labels, decided.numpy())[1])
