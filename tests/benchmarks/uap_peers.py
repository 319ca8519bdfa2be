"""Universal perturbations beside ART's: held-out success and CPU time on the same model and images; our overhead.

ART is no dependency. Install it without its own dependencies into a folder and name that folder in MEDWARD_PEERS, which
is searched after everything else.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from claim import Claim
from subjects import SEED, pneumonia_victim
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attacks.ascent import decide
from attacks.ball import Ball
from attacks.benchmarks.base import Task
from attacks.benchmarks.tasks import load
from attacks.benchmarks.victims import train_victim
from attacks.evasion.uap import UniversalPerturbation, craft
from attacks.evasion.universal import Goal, others

CLAIMS = ("uap_efficiency", "uap_against_art")

LEVEL, ROWS, EFFICIENT, CHEAPER = 10, 500, 0.9, 20
PASSES = 15  # of ART over the images, as in Hirano et al. 2021
TRIES: tuple[tuple[str, float, int], ...] = (
    ("fgsm", 2, PASSES),
    ("fgsm", 4, PASSES),
    ("fgsm", 8, PASSES),
    ("fgsm", 0.0012 * 255, PASSES),  # the paper's own inner step, 0.0024 of the range [-1, 1]
    ("fgsm", 2, 3),
    ("pgd", 4, 3),
)
MISSING = (
    "uap_peers: {error}; install ART with `pip install --no-deps --target DIR adversarial-robustness-toolbox==1.20.1 "
    "six` and set MEDWARD_PEERS to that folder"
)
LADDER = (1, 2, 4, 8, 16)  # our epochs; the first that reaches what ART does counts


def measure() -> Iterator[Claim]:
    """The ascent's overhead; then, where ART is installed, fooling and CPU time of both."""
    victim, task = pneumonia_victim()
    yield efficiency(victim.requires_grad_(False), task)
    yield against_art(art())


def efficiency(victim: nn.Module, task: Task, repeats: int = 7) -> Claim:
    """The share of the attack's CPU time that its gradients would take alone, at the fastest batch size."""
    x = torch.from_numpy(task.splits["calibration"].inputs)[:ROWS]
    y, ball = decide(victim, x), radius(task)
    settings = UniversalPerturbation(epsilon=0.1, batch=100)

    def bare(batch: int) -> int:
        for rows in torch.split(torch.arange(len(x)), batch):
            point = x[rows].requires_grad_(True)
            torch.autograd.grad(cross_entropy(victim(point), y[rows], reduction="sum"), point)
        return len(x)

    def attack() -> int:
        generator = torch.Generator().manual_seed(SEED)
        return craft(
            victim,
            x,
            y,
            ball,
            goal=None,
            epochs=settings.epochs,
            restarts=settings.restarts,
            batch=settings.batch,
            detector=None,
            generator=generator,
        ).gradients

    bare(128), attack()
    shares = []
    for _ in range(repeats):
        alone = min(spent / rows for batch in (32, 64, 128, 256) for spent, rows in [seconds(lambda b=batch: bare(b))])
        spent, gradients = seconds(attack)
        shares.append(gradients * alone / spent)
    return Claim(
        claim="uap_efficiency",
        value=statistics.median(shares),
        interval=(min(shares), max(shares)),
        target=f">= {EFFICIENT} of the CPU time in forward and backward passes (interval: least and most)",
        met=statistics.median(shares) >= EFFICIENT,
        n=repeats,
        seed=SEED,
        details={"epochs": settings.epochs, "restarts": settings.restarts, "batch": settings.batch, "rows": len(x)},
    )


def against_art(attack_by_art: Callable[..., Tensor]) -> Claim:
    """Without a target and for two classes: ART's best setting, and what it costs us to do as well."""
    drawn = load("lesion", seed=SEED, size=32)
    victims = {
        "pneumoniamnist": pneumonia_victim(),
        "lesion": (train_victim(drawn, epochs=10, seed=SEED), drawn),
    }
    table: dict[str, Any] = {}
    for name, (victim, task) in victims.items():
        victim.requires_grad_(False)
        rows = torch.from_numpy(task.splits["calibration"].inputs)[:ROWS]
        for goal in (None, 0, 1):
            table[f"{name}, {'nontargeted' if goal is None else f'to class {goal}'}"] = compared(
                victim, task, rows, goal, attack_by_art
            )
    ratios = [each["cpu_ratio"] for each in table.values()]
    ahead = [each["ours"]["held_out"] - each["art_best"]["held_out"] for each in table.values()]
    return Claim(
        claim="uap_against_art",
        value=min(ratios),
        target=f">= {CHEAPER} times less CPU time than ART's best setting, at equal or higher held-out success",
        met=min(ratios) >= CHEAPER and min(ahead) >= 0,
        n=len(table),
        seed=SEED,
        details={
            "epsilon": f"{LEVEL}/255",
            "craft_rows": ROWS,
            "art": "1.20.1",
            "least_gain": min(ahead),
            "rows": table,
        },
    )


def compared(
    victim: nn.Module, task: Task, rows: Tensor, goal: Goal, attack_by_art: Callable[..., Tensor]
) -> dict[str, Any]:
    """Both attacks on one victim: ART's best setting on held-out rows, and our shortest run that does as well."""
    ball, decided = radius(task), decide(victim, rows)
    x, y = others(rows, decided, goal)
    tries = {}
    for attacker, level, passes in TRIES:
        if attacker != "fgsm" and goal is not None:
            continue  # ART's targeted loop has only FGSM inside
        cpu, theirs = seconds(
            lambda a=attacker, e=level, p=passes: attack_by_art(victim, task, rows, decided, goal, a, e / 255, p)
        )
        tries[f"{attacker} {level:.3g}/255, {passes} passes"] = {
            "cpu_seconds": round(cpu, 2),
            "held_out": held_out(victim, task, ball, theirs, goal),
        }
    best = max(tries.values(), key=lambda each: (each["held_out"], -each["cpu_seconds"]))
    mine: dict[str, float] = {}
    for epochs in LADDER:
        cpu, delta = seconds(lambda e=epochs: ours(victim, x, y, ball, goal, e))
        mine = {"epochs": epochs, "cpu_seconds": round(cpu, 3), "held_out": held_out(victim, task, ball, delta, goal)}
        if mine["held_out"] >= best["held_out"]:
            break
    return {
        "ours": mine,
        "art_best": best,
        "cpu_ratio": round(best["cpu_seconds"] / mine["cpu_seconds"], 1),
        "art": tries,
    }


def ours(victim: nn.Module, x: Tensor, y: Tensor, ball: Ball, goal: Goal, epochs: int) -> Tensor:
    """One start of the ascent."""
    generator = torch.Generator().manual_seed(SEED)
    settings: dict[str, Any] = {"epochs": epochs, "restarts": 1, "batch": 50, "detector": None}
    return craft(victim, x, y, ball, goal=goal, generator=generator, **settings).delta


def held_out(victim: nn.Module, task: Task, ball: Ball, delta: Tensor, goal: Goal) -> float:
    """Success on the test split, of rows not there before."""
    x = torch.from_numpy(task.splits["test"].inputs)
    x, y = others(x, decide(victim, x), goal)
    moved = decide(victim, ball.clip(x + delta))
    return round(float((moved != y if goal is None else moved == goal).float().mean()), 4)


def art() -> Callable[..., Tensor]:
    """ART's universal perturbations; its own loop, one image at a time."""
    sys.path += [folder for folder in os.environ.get("MEDWARD_PEERS", "").split(os.pathsep) if folder]
    try:
        from art.attacks.evasion import TargetedUniversalPerturbation
        from art.attacks.evasion import UniversalPerturbation as Nontargeted
        from art.estimators.classification import PyTorchClassifier
    except ImportError as error:
        print(MISSING.format(error=error), file=sys.stderr)
        raise SystemExit(2) from None

    def attack(
        victim: nn.Module, task: Task, x: Tensor, y: Tensor, goal: Goal, attacker: str, step: float, passes: int
    ) -> Tensor:
        random.seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002  # ART draws from NumPy's global state
        classes = len(task.classes)
        estimator = PyTorchClassifier(
            victim, nn.CrossEntropyLoss(), task.shape, classes, clip_values=(task.low, task.high), device_type="cpu"
        )
        inner = {"eps": step} | ({"eps_step": step / 4, "max_iter": 10, "verbose": False} if attacker == "pgd" else {})
        settings = {"attacker_params": inner, "delta": 1e-6, "max_iter": passes, "eps": LEVEL / 255, "norm": np.inf}
        if goal is None:
            loop, labels = Nontargeted(estimator, attacker, verbose=False, **settings), np.eye(classes)[y.numpy()]
        else:
            inner["targeted"] = True
            loop = TargetedUniversalPerturbation(estimator, attacker, **settings)
            labels = np.tile(np.eye(classes)[goal], (len(x), 1))
        loop.generate(x.numpy(), labels.astype(np.float32))
        return torch.as_tensor(np.asarray(loop.noise, np.float32)).reshape(1, *task.shape)

    return attack


def radius(task: Task) -> Ball:
    """The ball of `LEVEL`/255."""
    return Ball(torch.full((1,) * len(task.shape), LEVEL / 255), task.low, task.high)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result
