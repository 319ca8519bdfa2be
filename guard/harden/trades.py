"""TRADES: clean accuracy, and answers that change little within the ball, weighed against each other by ``beta``.

Reference: Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically principled trade-off between robustness and
accuracy", ICML 2019, eq. 5 and alg. 1 (`beta` is 1 / lambda; the inner maximum starts from a little noise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard.harden.course import Kind, Lesson, Method
from guard.harden.inner import climb, still
from guard.harden.training import Objective
from guard.harden.universal import divergence

START = 0.03  # of the radius: where clean and changed agree the divergence has no slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades(Method):
    """The method: `steps` signed steps of `step` radii up the divergence from the clean answers."""

    name: ClassVar = "trades"
    chosen_by: ClassVar[Kind] = "per_input"

    beta: float = 6.0
    steps: int = 7
    step: float = 0.25

    def objective(self, lesson: Lesson) -> Objective:
        """Class-weighted clean cross-entropy plus `beta` times the divergence at its inner maximum."""

        def loss(network: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
            ball = lesson.ball.scaled(lesson.training.grown(progress))
            with still(network), torch.no_grad():
                before = network(x)
            start = START * ball.random(tuple(x.shape), lesson.generator)
            worst = climb(
                network,
                x,
                start,
                ball,
                lambda scores: len(x) * divergence(before, scores),
                steps=self.steps,
                step=self.step,
            )
            clean, moved = network(torch.cat([x, worst])).chunk(2)
            return F.cross_entropy(clean, y, weight=lesson.weight) + self.beta * divergence(clean, moved)

        return loss
