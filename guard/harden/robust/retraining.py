"""Iterative adversarial retraining as published for medical classifiers. FOR COMPARISON ONLY: it does not hold.

Each round makes a few universal perturbations against the network as it is and trains on rows of which half carry one
of them. The pool is fixed while the network moves, so it learns those few and a fresh one works again.

Perturbations are made by the iterative FGSM algorithm: row by row, a row not yet fooled takes one step, which is kept
when it fools the row. The paper's step is so small that this often never starts, and its passes cover all rows; here
the step is a share of the radius and each perturbation sees `craft_rows` rows.

Reference: Hirano, Minagi, Takemoto, "Universal adversarial attacks on deep neural networks for medical image
classification", BMC Medical Imaging 2021, "adversarial retraining".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.harden.losses.base import TaskLosses
from medward.guard.harden.losses.numbers import NumberLosses
from medward.guard.harden.method import HardeningMethod, PerturbationKind, TrainingContext
from medward.guard.harden.robust.inner import TrainingBall, frozen_statistics
from medward.guard.harden.robust.training import Objective, Training

_NOTE = "for comparison only: a fresh universal perturbation is expected to fool this network again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining(HardeningMethod):
    """The method: `rounds` rounds, each with `pool` new perturbations; ``training.epochs`` spans all rounds."""

    name: ClassVar = "retraining"
    chosen_by: ClassVar[PerturbationKind] = "universal"
    notes: ClassVar = (_NOTE,)

    rounds: int = 5
    pool: int = 10
    craft_rows: int = 200
    step: float = 0.5
    training: Training = field(default_factory=lambda: Training(epochs=25, ramp=0.0, patience=25))

    def objective(self, lesson: TrainingContext) -> Objective:
        """The task's weighted loss on rows of which every other one carries a perturbation of the round.

        Raises `MedwardError` for regression: the method leaves a model's own decision, and a number has none to leave.
        """
        if isinstance(lesson.losses, NumberLosses):
            raise MedwardError("retraining: is published for classifiers, not for numbers; use --method uat or pgd")
        made: list[Tensor] = []
        ball, generator = lesson.ball, lesson.generator

        def loss(network: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
            if int(progress * self.rounds) >= len(made):
                orders = [torch.randperm(len(lesson.rows), generator=generator) for _ in range(self.pool)]
                rows = lesson.rows.x[torch.stack(orders, dim=1)[: self.craft_rows]].to(x.device)
                made.append(iterative_fgsm(network, rows, ball, lesson.losses, step=self.step))
            drawn = made[-1][torch.randint(self.pool, (len(x),), generator=generator).to(x.device)]
            half = (torch.arange(len(x), device=x.device) % 2).view(-1, *[1] * (x.ndim - 1))
            return lesson.losses.loss(network(ball.clip(x + half * drawn)), y)

        return loss


def iterative_fgsm(network: nn.Module, rows: Tensor, ball: TrainingBall, losses: TaskLosses, *, step: float) -> Tensor:
    """Perturbations ``(P, *shape)``, each made on its own sequence of rows: `rows (m, P, *shape)`, in one pass."""
    delta = torch.zeros_like(rows[0])
    with frozen_statistics(network):
        for x in rows:
            with torch.no_grad():
                own = losses.decide(network(x))
            at = ball.clip(x + delta).requires_grad_(True)
            scores = network(at)
            (slope,) = torch.autograd.grad(losses.row_losses(scores, own).sum(), at)
            tried = ball.clip(at.detach() + step * ball.radius * slope.sign())
            with torch.no_grad():
                still = ~losses.changed(own, losses.decide(scores))
                kept = still & losses.changed(own, losses.decide(network(tried)))
            delta = torch.where(kept.view(-1, *[1] * (x.ndim - 1)), ball.project(tried - x), delta)
    return delta
