"""Attacks on single inputs beside torchattacks, foolbox and the original AutoAttack: strength, CPU time, efficiency.

The peers are not dependencies. Install them without theirs, clone the original AutoAttack
(github.com/fra31/auto-attack), and name the folders in MEDWARD_PEERS; they are searched after everything else.
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from claim import Claim
from subjects import SEED
from support.searches import searching
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import train_victim
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.evasion.standard import worst_case_standard
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.guard.data.split import Split

CLAIMS = ("pgd_efficiency", "per_image_robust_accuracy")

ROWS, STEPS, EFFICIENT = 64, 100, 0.9
QUERIES = 5000
MISSING = (
    "per_image_peers: {error}; install the peers with `pip install --no-deps --target DIR torchattacks==3.5.1 "
    "foolbox==3.3.4 eagerpy GitPython gitdb smmap requests`, clone github.com/fra31/auto-attack (a392200), and set "
    "MEDWARD_PEERS to the two folders, separated by {separator!r}"
)

Attacked = Callable[[nn.Module, Tensor, Tensor, float, int], Tensor]
"""Network, rows, true labels, radius and number of classes to adversarial rows."""


@dataclass(frozen=True)
class Subject:
    """A model under attack: at `epsilon` it is neither safe nor lost."""

    name: str
    network: nn.Module
    x: Tensor
    y: Tensor
    classes: int
    epsilon: float


def measure() -> Iterator[Claim]:
    """The loop's overhead; then, where the peers are installed, robust accuracy of each on three models."""
    subjects = list(models())
    yield efficiency(subjects[1])
    yield strength(subjects, peers())


def models() -> Iterator[Subject]:
    """A PneumoniaMNIST CNN as it is and trained against PGD (2 classes), and a robust one on drawn lesions (7)."""
    chest, skin = load_task("pneumoniamnist", seed=SEED), load_task("lesion", seed=SEED, size=32)
    for task, epochs, radius, kept in ((chest, 10, 6 / 255, True), (skin, 10, 4 / 255, False)):
        victim = train_victim(task, epochs=epochs, seed=SEED)
        if kept:
            yield subject(f"{task.name}, undefended", victim, task)
        yield subject(f"{task.name}, trained against PGD", hardened(victim, task, radius, epochs=6), task)


def subject(name: str, network: nn.Module, task: BenchmarkTask) -> Subject:
    """`ROWS` test rows, at the first radius where a short PGD leaves at most half of them."""
    network = network.eval().requires_grad_(False)
    x, y = tensors(task.splits["test"], seed=SEED)
    for levels in range(1, 33):
        ball = Ball(torch.full((1, 1, 1), levels / 255), 0.0, 1.0)
        found = worst_case_pgd(searching(network, ball, SEED), x, y, steps=20, restarts=1)
        if not found.won.float().mean() < 0.5:
            break
    return Subject(name, network, x, y, len(task.classes), levels / 255)


def tensors(split: Split, *, seed: int, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Random rows with their true labels."""
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:rows]
    return torch.from_numpy(split.inputs)[chosen], torch.from_numpy(split.labels)[chosen]


def hardened(victim: nn.Module, task: BenchmarkTask, epsilon: float, *, epochs: int) -> nn.Module:
    """Madry et al.'s training: every batch is replaced by its PGD examples (5 steps, eval mode)."""
    network = copy.deepcopy(victim).requires_grad_(True)
    generator = torch.Generator().manual_seed(SEED)
    x, y = tensors(task.splits["train"], seed=SEED, rows=2000)
    ball = Ball(torch.full((1, 1, 1), epsilon), 0.0, 1.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            network.eval()
            current = x[rows]
            for _ in range(5):
                point = current.clone().requires_grad_(True)
                (slope,) = torch.autograd.grad(cross_entropy(network(point), y[rows]), point)
                current = ball.project(current + 0.5 * ball.step(slope), x[rows])
            network.train()
            optimiser.zero_grad()
            cross_entropy(network(current), y[rows]).backward()
            optimiser.step()
    return network


def efficiency(subject: Subject, repeats: int = 7, batch: int = 128, steps: int = 20) -> Claim:
    """The share of PGD's CPU time that its forward and backward passes would take alone, in interleaved repeats."""
    network, x = subject.network, subject.x.repeat(batch // ROWS + 1, 1, 1, 1)[:batch]
    y = network_decisions(network, x)
    ball = Ball(torch.full((1, 1, 1), subject.epsilon), 0.0, 1.0)

    def bare() -> None:
        for _ in range(steps):
            point = x.detach().requires_grad_(True)
            torch.autograd.grad(cross_entropy(network(point), y, reduction="sum"), point)

    def attack() -> int:
        return worst_case_pgd(searching(network, ball, SEED, stop=False), x, y, steps=steps, restarts=1).gradients

    bare(), attack()
    shares = []
    for _ in range(repeats):
        alone, _ = seconds(bare)
        spent, gradients = seconds(attack)
        shares.append(gradients / (batch * steps) * alone / spent)
    return Claim(
        claim="pgd_efficiency",
        value=statistics.median(shares),
        interval=(min(shares), max(shares)),
        target=f">= {EFFICIENT} of the CPU time in forward and backward passes (interval: least and most)",
        met=statistics.median(shares) >= EFFICIENT,
        n=repeats,
        seed=SEED,
        details={"model": subject.name, "batch": batch, "steps": steps, "threads": torch.get_num_threads()},
    )


def strength(subjects: list[Subject], attackers: dict[str, Attacked]) -> Claim:
    """Robust accuracy on true labels under each attack, same rows; the worst of ours less the best of theirs."""
    table: dict[str, Any] = {}
    excess = -1.0
    for each in subjects:
        rows, broken = {}, {}
        for name, attack in {"medward standard": ours, **attackers}.items():
            spent, found = seconds(partial(attack, each.network, each.x, each.y, each.epsilon, each.classes))
            inside = (found - each.x).abs().amax() <= each.epsilon + 1e-5 and 0 <= found.min() <= found.max() <= 1
            if not inside:
                raise RuntimeError(f"{name} left the ball")
            robust = float((network_decisions(each.network, found) == each.y).float().mean())
            rows[name] = {"robust_accuracy": robust, "cpu_seconds": round(spent, 2)}
            broken[name] = network_decisions(each.network, found) != each.y
        mine = rows["medward standard"]
        for name in attackers:
            rows[name]["times_our_cpu"] = round(rows[name]["cpu_seconds"] / mine["cpu_seconds"], 2)
            rows[name]["broken_by_it_alone"] = int((broken[name] & ~broken["medward standard"]).sum())
            excess = max(excess, mine["robust_accuracy"] - rows[name]["robust_accuracy"])
        clean = float((network_decisions(each.network, each.x) == each.y).float().mean())
        table[each.name] = {"epsilon": each.epsilon, "classes": each.classes, "clean_accuracy": clean, "attacks": rows}
    return Claim(
        claim="per_image_robust_accuracy",
        value=excess,
        target="<= 0: robust accuracy under ours is never above that under a peer's attack, on three models",
        met=excess <= 0
        and all(0.2 <= row["attacks"]["medward standard"]["robust_accuracy"] <= 0.8 for row in table.values()),
        n=ROWS * len(subjects),
        seed=SEED,
        details={"peers": {name: version(name) for name in ("torchattacks", "foolbox")}, "models": table},
    )


def ours(network: nn.Module, x: Tensor, y: Tensor, epsilon: float, classes: int) -> Tensor:
    """Our ensemble with its own settings."""
    ball = Ball(torch.full((1, 1, 1), epsilon), 0.0, 1.0)
    return worst_case_standard(searching(network, ball, SEED), x, y, queries=QUERIES).adversarial


def peers() -> dict[str, Attacked]:
    """The peers' strongest sensible settings: 100 steps everywhere, losses that the number of classes allows."""
    sys.path += [folder for folder in os.environ.get("MEDWARD_PEERS", "").split(os.pathsep) if folder]
    try:
        import autoattack
        import foolbox
        import torchattacks
    except ImportError as error:
        print(MISSING.format(error=error, separator=os.pathsep), file=sys.stderr)
        raise SystemExit(2) from None

    def original(network: nn.Module, x: Tensor, y: Tensor, epsilon: float, classes: int) -> Tensor:
        few = classes < 4  # its DLR losses need four classes
        plan = ["apgd-ce", "fab", "square"] if few else ["apgd-ce", "apgd-t", "fab-t", "square"]
        attack = autoattack.AutoAttack(
            network,
            norm="Linf",
            eps=epsilon,
            seed=SEED,
            verbose=False,
            version="custom",
            attacks_to_run=plan,
            device="cpu",
        )
        attack.apgd.n_restarts = attack.fab.n_restarts = attack.apgd_targeted.n_restarts = 1
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = classes - 1
        attack.square.n_queries = QUERIES
        return attack.run_standard_evaluation(x, y, bs=len(x))

    def torch_attacks(network: nn.Module, x: Tensor, y: Tensor, epsilon: float, classes: int) -> Tensor:
        parts: list[Any] = [torchattacks.APGD(network, eps=epsilon, steps=STEPS, loss="ce")]
        parts += [torchattacks.APGDT(network, eps=epsilon, steps=STEPS, n_classes=classes)] if classes >= 4 else []
        parts += [torchattacks.PGD(network, eps=epsilon, alpha=epsilon / 10, steps=STEPS)]
        return worst(network, y, [part(x, y) for part in parts], x)

    def fool_box(network: nn.Module, x: Tensor, y: Tensor, epsilon: float, classes: int) -> Tensor:
        model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
        found = [
            attack(model, x, y, epsilons=epsilon)[1]
            for attack in (foolbox.attacks.LinfPGD(steps=STEPS), foolbox.attacks.LinfDeepFoolAttack())
        ]
        return worst(network, y, found, x)

    return {
        "autoattack (original)": original,
        "torchattacks APGD, PGD": torch_attacks,
        "foolbox PGD, DeepFool": fool_box,
    }


def worst(network: nn.Module, y: Tensor, found: list[Tensor], x: Tensor) -> Tensor:
    """Per row the first of `found` that is decided otherwise."""
    out = x.clone()
    for each in reversed(found):
        wrong = network_decisions(network, each) != y
        out[wrong] = each.detach()[wrong]
    return out


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and what came of it."""
    start = time.process_time()
    done = work()
    return time.process_time() - start, done
