"""One network under universal perturbations of one radius: what is made, and how it does on rows nobody used.

Perturbations are made on "calibration" rows, with the network's own decisions as labels, and judged on "test".

Reference: Hirano, Minagi, Takemoto, "Universal adversarial attacks on deep neural networks for medical image
classification", BMC Medical Imaging 2021: radius as a share of the mean image norm, fooling and success rates. Ours
differ on purpose: the norm is taken over all channels, inputs stay in their range, and rows that are in the target
class, or are taken for it, count for no targeted success.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.networks.architectures import ARCHITECTURES
from medward.attacks.benchmarks.victims import accuracy
from medward.attacks.evasion.ifgsm_uap import zeta_radius
from medward.attacks.evasion.uap import craft_universal
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import ClassChange
from medward.attacks.whitebox.search import Search
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden import HARDENERS
from medward.guard.types import Ints

Crafting = Literal["nontargeted", "targeted"]
UNDEFENDED = "undefended"
DEFENSES = (UNDEFENDED, *(name for name, method in HARDENERS.items() if method.chosen_by != "certified"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard the attacker tries: `rows` to craft on at most, in batches of `batch`."""

    epochs: int
    restarts: int
    rows: int
    batch: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One perturbation on the test rows, in counts of rows.

    `won` of `rows` were fooled (nontargeted) or taken for class `goal`; `noise` were by random signs of the same
    norm. `fooled` of `total` are decided otherwise than without it; `balanced` is the balanced accuracy under it.
    """

    goal: int | None
    rows: int
    won: int
    noise: int
    fooled: int
    total: int
    balanced: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMeasurement:
    """One cell: the radius in input units, balanced accuracy as is and under noise, and every perturbation."""

    epsilon: float
    clean: float
    under_noise: float
    judged: tuple[Judged, ...]

    @classmethod
    def read(cls, kept: dict[str, Any]) -> CellMeasurement:
        """From the JSON that `json` gave."""
        return cls(**{**kept, "judged": tuple(Judged(**each) for each in kept["judged"])})

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def radius_of_zeta(task: BenchmarkTask, zeta: float) -> float:
    """`zeta` percent of the mean over "train" of the largest value of an image, above `low`; in input units."""
    return zeta_radius(task.splits["train"].inputs, zeta / 100, low=task.low or 0.0)


def harden_network(
    network: nn.Module,
    defense: str,
    task: BenchmarkTask,
    *,
    architecture: str,
    epsilon: float,
    epochs: int | None,
    seed: int,
) -> nn.Module:
    """`network` after `defense`, for perturbations of `epsilon`; "undefended" gives `network` itself.

    `epochs` None is the method's own. The rate is at most what the architecture trains at.
    """
    if defense == UNDEFENDED:
        return network
    method = HARDENERS[defense]
    training = replace(
        method.training,
        rate=min(method.training.rate, ARCHITECTURES[architecture].rate),
        epochs=epochs or method.training.epochs,
        device=str(_device(network)),
    )
    settings = replace(method, epsilon=epsilon, training=training)
    return settings.harden(
        network, task.splits["train"], task.splits["selection"], low=task.low, high=task.high, seed=seed
    ).network


def measure_cell(
    network: nn.Module, task: BenchmarkTask, *, attack: Crafting, zeta: float, effort: Effort, seed: int
) -> CellMeasurement:
    """Attack `network`, which answers logits and is frozen by this, with perturbations of `zeta` percent.

    "targeted" makes one for every class.
    """
    network.eval().requires_grad_(False)
    device, epsilon = _device(network), radius_of_zeta(task, zeta)
    if epsilon <= 0:
        raise MedwardError(f"task {task.name}: the images are black, so {zeta:g} % of their norm is no perturbation")
    generator = torch.Generator().manual_seed(seed)
    ball = Ball(torch.full((1,) * len(task.shape), epsilon), task.low, task.high).to(device)
    made, _ = _rows(_some(task.splits["calibration"], effort.rows, seed), device)
    test, labels = _rows(task.splits["test"], device)
    called = network_decisions(network, test)
    random = ball.clip(test + ball.surface((1, *task.shape), generator))
    noisy = network_decisions(network, random)
    goals: Sequence[int | None] = [None] if attack == "nontargeted" else range(len(task.classes))
    judged = []
    for goal in goals:
        delta = _crafted(network, made, ball, goal, effort, generator)
        moved = network_decisions(network, ball.clip(test + delta))
        open_rows = torch.ones_like(called, dtype=torch.bool) if goal is None else (called != goal) & (labels != goal)
        judged.append(
            Judged(
                goal=goal,
                rows=int(open_rows.sum()),
                won=_won(moved, called, goal, open_rows),
                noise=_won(noisy, called, goal, open_rows),
                fooled=int((moved != called).sum()),
                total=len(test),
                balanced=_balanced(labels, moved),
            )
        )
    return CellMeasurement(
        epsilon=epsilon,
        clean=_balanced(labels, called),
        under_noise=_balanced(labels, noisy),
        judged=tuple(judged),
    )


def _crafted(
    network: nn.Module, x: Tensor, ball: Ball, goal: int | None, effort: Effort, generator: torch.Generator
) -> Tensor:
    """The attacker: one perturbation ``(1, *shape)`` made on `x`; nothing where every row is in the goal already."""
    called = network_decisions(network, x)
    if goal is not None:
        x, called = x[called != goal], called[called != goal]
    search = Search(network, ClassChange(goal), ball, generator)
    return craft_universal(search, x, called, epochs=effort.epochs, restarts=effort.restarts, batch=effort.batch).delta


def _won(labels: Tensor, called: Tensor, goal: int | None, rows: Tensor) -> int:
    return int(((labels != called if goal is None else labels == goal) & rows).sum())


def _balanced(labels: Tensor, called: Tensor) -> float:
    return accuracy(_numbers(labels), _numbers(called))[1]


def _numbers(labels: Tensor) -> Ints:
    return labels.cpu().numpy().astype(np.int64)


def _some(split: Split, rows: int, seed: int) -> Split:
    """At most `rows` rows, by chance."""
    if len(split) <= rows:
        return split
    return split.take(np.sort(np.random.default_rng(seed).permutation(len(split))[:rows]))


def _rows(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(split.inputs).to(device), torch.from_numpy(np.asarray(split.labels)).to(device)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
