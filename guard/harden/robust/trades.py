"""TRADES: clean accuracy, and answers that change little within the ball, weighed against each other by ``beta``.

Reference: Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically principled trade-off between robustness and
accuracy", ICML 2019, eq. 5 and alg. 1 (`beta` is 1 / lambda; the inner maximum starts from a little noise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from medward.guard.harden.method import HardeningMethod, PerturbationKind, TrainingContext
from medward.guard.harden.robust.inner import frozen_statistics, inner_ascent
from medward.guard.harden.robust.training import Objective

START = 0.03  # of the radius: where clean and changed agree the divergence has no slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades(HardeningMethod):
    """The method: `steps` signed steps of `step` radii up the divergence from the clean answers."""

    name: ClassVar = "trades"
    chosen_by: ClassVar[PerturbationKind] = "per_input"

    beta: float = 6.0
    steps: int = 7
    step: float = 0.25

    def objective(self, lesson: TrainingContext) -> Objective:
        """The task's weighted loss clean, plus `beta` times the divergence at its inner maximum."""
        losses = lesson.losses

        def loss(network: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
            ball = lesson.ball.scaled(lesson.training.grown(progress))
            with frozen_statistics(network), torch.no_grad():
                before = network(x)
            start = START * ball.random(tuple(x.shape), lesson.generator)
            worst = inner_ascent(
                network,
                x,
                start,
                ball,
                lambda scores: len(x) * losses.divergences(before, scores).mean(),
                steps=self.steps,
                step=self.step,
            )
            clean, moved = network(torch.cat([x, worst])).chunk(2)
            return losses.loss(clean, y) + self.beta * losses.divergences(clean, moved).mean()

        return loss
