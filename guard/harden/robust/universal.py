"""Universal adversarial training: the network learns against a bank of shared changes that learn against it.

Each step, every row is seen as it is and with one change of the bank added; the changes take a signed step up their
own objective from the same forward pass. Each change pushes towards one of the task's goals, such as away from the
label or towards one class. A change is drawn anew now and then, so that the bank does not settle where the network no
longer looks. The loss is the task's on perturbed rows, ``clean`` times that of the rows as they are and ``beta`` times
the divergence of perturbed from clean answers, all with the task's weights; ``distill`` keeps both near the answers of
the network as it came.

Reference: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal adversarial training", AAAI 2020, alg. 3
(simultaneous updates); the bank, the targeted goals and the divergence are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from medward.guard.harden.losses.base import Goal, TaskLosses
from medward.guard.harden.method import HardeningMethod, PerturbationKind, TrainingContext
from medward.guard.harden.robust.training import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class UniversalTraining(HardeningMethod):
    """Universal adversarial training: learns against a bank of shared changes.

    It trains at `margin` times `epsilon`. `bank` is how many changes there are, at least one per goal; `step` is
    theirs, in radii; every `refresh` steps one is drawn anew (0: never).
    """

    name: ClassVar = "uat"
    chosen_by: ClassVar[PerturbationKind] = "universal"

    margin: float = 1.4
    bank: int = 9
    step: float = 0.25
    refresh: int = 20
    clean: float = 0.5
    beta: float = 6.0
    distill: float = 1.0

    def objective(self, lesson: TrainingContext) -> Objective:
        """The loss, with its bank ``(B, *shape)`` inside."""
        ball, teacher, generator = lesson.ball.scaled(self.margin), lesson.teacher, lesson.generator
        losses, goals = lesson.losses, lesson.losses.goals
        size = max(self.bank, len(goals))
        goal_of = [goals[i % len(goals)] for i in range(size)]
        bank = torch.zeros(size, *lesson.rows.x.shape[1:], device=ball.radius.device)
        steps = 0

        def loss(network: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
            nonlocal bank, steps
            now = ball.scaled(lesson.training.grown(progress))
            turn = torch.arange(len(x), device=x.device) % size
            deltas = now.project(bank).requires_grad_(True)
            clean, moved = network(torch.cat([x, now.clip(x + deltas[turn])])).chunk(2)
            (slope,) = torch.autograd.grad(
                perturbation_gains(losses, moved, y, turn, goal_of), deltas, retain_graph=True
            )
            bank = now.project(deltas.detach() + self.step * now.radius * slope.sign())
            steps += 1
            if self.refresh and steps % self.refresh == 0:
                i = int(torch.randint(size, (1,), generator=generator))
                signs = torch.randint(0, 2, bank[i].shape, generator=generator) * 2 - 1
                bank[i] = signs.to(x.device) * now.radius * float(torch.rand(1, generator=generator))
            total = self.clean * losses.batch_loss(clean, y) + losses.batch_loss(moved, y)
            if self.beta:
                total = total + self.beta * losses.divergences(clean, moved, y).mean()
            if self.distill:
                with torch.no_grad():
                    taught = teacher(x)
                away = losses.divergences(taught, clean).mean() + losses.divergences(taught, moved).mean()
                total = total + self.distill * away
            return total

        return loss


def perturbation_gains(losses: TaskLosses, scores: Tensor, y: Tensor, turn: Tensor, goal_of: list[Goal]) -> Tensor:
    """The sum of what each row's change gains by `scores (n, K)`; `turn (n,)` says whose row it is."""
    parts = [losses.gain(scores[turn == i], y[turn == i], goal).sum() for i, goal in enumerate(goal_of)]
    return torch.stack(parts).sum()
