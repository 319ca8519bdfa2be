"""What hardening must know of a task: how outputs are read, what is minimised, what is climbed, what is counted.

Everything is on tensors and differentiable where it is trained on. Reading moves every output so that an operating
point lies at zero: what is trained, attacked and measured is the decision that the model is operated at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from medward.guard.data.labels import Labels
from medward.guard.tasks.decision import threshold_odds

Goal = int | None
"""Where a shared change pushes: None for away from the truth, else what the task's losses say a number means."""
CLAMP = 9.0  # a row this far beyond the boundary pulls a shared change no more
TINY = 1e-12  # in the place of a probability of zero, which has no logarithm


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBounds:
    """Score bounds hold the scores of n rows between `low` and `high` ``(n, K)``, wherever in their ball an input is.

    `differences` ``(n, K, K)`` are upper bounds of score j minus score i at ``[:, i, j]``; None where nothing tighter
    is known than what `low` and `high` give.
    """

    low: Tensor
    high: Tensor
    differences: Tensor | None = None

    def leads(self, of: Tensor) -> Tensor:
        """How far ``(n, K)`` each score can be above that in column `of` ``(n,)``, which itself stands at 0."""
        rows = torch.arange(len(of), device=of.device)
        if self.differences is not None:
            return self.differences[rows, of]
        apart = self.high - self.low[rows, of][:, None]
        return apart.scatter(1, of[:, None], 0.0)


class TaskLosses(Protocol):
    """Task losses hold a task's settings and, once `balanced`, what makes rare classes or wide numbers count alike.

    `raw` is what the network gives, ``scores (n, K)`` what `read` makes of it, ``y`` what `targets` makes of labels.
    """

    @property
    def measure(self) -> str:
        """What `accuracy` is called."""
        ...

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Where shared changes push that the network is trained against and judged under."""
        ...

    def read(self, raw: Tensor) -> Tensor:
        """Scores ``(n, K)`` of what the network gave; raises `MedwardError` for the shape of another task."""
        ...

    def read_bounds(self, raw: ScoreBounds) -> ScoreBounds:
        """Bounds of the scores that `read` makes of what the network gave."""
        ...

    def worst_scores(self, bounds: ScoreBounds, y: Tensor) -> Tensor:
        """The scores ``(n, K)`` within the bounds at which the loss of ``y`` is largest; of classes as leads.

        They are decided otherwise than ``y`` if any within the bounds are.
        """
        ...

    def targets(self, labels: Labels) -> Tensor:
        """Labels ``(n,)`` of the task, as `guard.data.split` has them, as the ``y`` of n rows."""
        ...

    def check(self, y: Tensor, what: str, *, trained: bool) -> None:
        """Refuse ``y`` that is not of the task or, where it is `trained` on, lacks what must be learned."""
        ...

    def balanced(self, y: Tensor) -> Self:
        """The same losses, weighed for training rows of ``y``."""
        ...

    def loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """The weighted mean loss of a batch."""
        ...

    def batch_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """The same, not normalised by the weights that a batch happens to hold."""
        ...

    def row_losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """The loss ``(n,)`` of each row, without weights: what a change for one row climbs."""
        ...

    def divergences(self, before: Tensor, after: Tensor, y: Tensor | None = None) -> Tensor:
        """How far ``(n,)`` scores `after` say something else than those `before`; weighed where ``y`` is given."""
        ...

    def gain(self, scores: Tensor, y: Tensor, goal: Goal) -> Tensor:
        """How far ``(n,)`` each row has gone towards `goal`."""
        ...

    def decide(self, scores: Tensor) -> Tensor:
        """What each row is decided to be, comparable with ``y``."""
        ...

    def changed(self, before: Tensor, after: Tensor) -> Tensor:
        """Which rows ``(n,)`` are decided otherwise `after` than `before`."""
        ...

    def accuracy(self, y: Tensor, decided: Tensor) -> float:
        """The share, from 0 to 1, that is decided rightly, as `measure` says."""
        ...

    def chance(self, y: Tensor) -> float:
        """The accuracy on ``y`` of an answer that never looks at the input."""
        ...


def border_of(threshold: float | None) -> float:
    """The log odds of an operating point; 0 for none."""
    return 0.0 if threshold is None else threshold_odds(threshold)
