"""Adversarial training: the network learns on the worst change of each row that a few gradient steps find.

What withstands every change of a size withstands every shared one of that size, so this defends more than universal
training does, and costs more clean accuracy.

Reference: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to adversarial attacks",
ICLR 2018, eq. 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from medward.guard.harden.method import HardeningMethod, PerturbationKind, TrainingContext
from medward.guard.harden.robust.inner import inner_ascent
from medward.guard.harden.robust.training import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class AdversarialTraining(HardeningMethod):
    """The method: `steps` signed steps of `step` radii from a random start, then the task's loss at what they found."""

    name: ClassVar = "pgd"
    chosen_by: ClassVar[PerturbationKind] = "per_input"

    steps: int = 7
    step: float = 0.25

    def objective(self, lesson: TrainingContext) -> Objective:
        """The task's weighted loss at the inner maximum."""

        def loss(network: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
            ball = lesson.ball.scaled(lesson.training.grown(progress))
            worst = inner_ascent(
                network,
                x,
                ball.random(tuple(x.shape), lesson.generator),
                ball,
                lambda scores: lesson.losses.row_losses(scores, y).sum(),
                steps=self.steps,
                step=self.step,
            )
            return lesson.losses.loss(network(worst), y)

        return loss
