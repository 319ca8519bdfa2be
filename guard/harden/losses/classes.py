"""Losses of classes: cross-entropy with class weights, and balanced accuracy.

A goal is the class that a shared change pushes towards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medward.guard.data.labels import Labels
from medward.guard.errors import MedwardError
from medward.guard.harden.losses.base import CLAMP, TINY, Goal, ScoreBounds, border_of
from medward.guard.tasks.classification import Classification


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassLosses:
    """Class losses train a network to give one right class of several; scores are logits.

    With `logarithm` the network gives probabilities, whose logarithms are logits. With `one_column` it gives the second
    class's score alone. The second of two logits is lowered by `border`, the log odds of an operating point: the
    largest is the decision. `weight (K,)` balances the classes.
    """

    classes: int = 2
    logarithm: bool = False
    one_column: bool = False
    border: float = 0.0
    weight: Tensor | None = None

    @classmethod
    def of(cls, task: Classification) -> Self:
        """Losses of a classification at its operating point."""
        return cls(
            classes=len(task.classes),
            logarithm=task.output == "probabilities",
            one_column=task.one_column,
            border=border_of(task.threshold),
        )

    @property
    def measure(self) -> str:
        """The mean of the classes' recalls."""
        return "balanced accuracy"

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Away from the label, and towards each class."""
        return (None, *range(self.classes))

    def read(self, raw: Tensor) -> Tensor:
        """Logits ``(n, K)``, at an operating point those whose largest is the decision."""
        columns = 1 if self.one_column else self.classes
        if tuple(raw.shape[1:]) != (columns,) and not (self.one_column and raw.ndim == 1):
            raise MedwardError(f"model: gives scores of shape {tuple(raw.shape)}, its task needs (n, {columns})")
        scores = self._completed(raw.reshape(len(raw))) if self.one_column else raw
        logits = scores.clamp_min(TINY).log() if self.logarithm else scores
        return logits - logits.new_tensor([0.0, self.border]) if self.border else logits

    def read_bounds(self, raw: ScoreBounds) -> ScoreBounds:
        """Bounds of the logits; at an operating point differences move with it."""
        low, high = self.read(raw.low), self.read(raw.high)
        if self.one_column or self.logarithm:  # the first of two columns falls where the second rises
            return ScoreBounds(torch.minimum(low, high), torch.maximum(low, high))
        if raw.differences is None or not self.border:
            return ScoreBounds(low, high, raw.differences)
        moved = low.new_tensor([0.0, self.border])
        return ScoreBounds(low, high, raw.differences + moved[:, None] - moved[None, :])

    def worst_scores(self, bounds: ScoreBounds, y: Tensor) -> Tensor:
        """How far each class can lead the right one, which stands at 0."""
        return bounds.leads(y)

    def targets(self, labels: Labels) -> Tensor:
        """Class numbers ``(n,)``."""
        found = np.asarray(labels)
        if found.ndim != 1 or found.dtype.kind not in "iub":
            raise MedwardError(
                f"labels: classes are whole numbers of shape (n,), got {found.dtype} {found.shape}; say --task "
                "multilabel for several findings a row, --task regression for numbers"
            )
        return torch.from_numpy(np.array(found, np.int64))

    def check(self, y: Tensor, what: str, *, trained: bool) -> None:
        """Refuse labels that the model has no score for, and classes without a row."""
        lowest, highest = int(y.min()), int(y.max())
        if lowest < 0 or highest >= self.classes:
            raise MedwardError(
                f"{what}: the model has {self.classes} classes, so labels are 0 to {self.classes - 1}, got {lowest} to "
                f"{highest}"
            )
        missing = sorted(set(range(self.classes)) - set(y.tolist()))
        if missing:
            raise MedwardError(f"{what}: has no row of class {missing[0]}; hardening needs rows of every class")

    def balanced(self, y: Tensor) -> Self:
        """With weights under which every class of ``y`` counts alike."""
        counts = torch.bincount(y, minlength=self.classes).float()
        return replace(self, weight=len(y) / (self.classes * counts))

    def loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy with class weights."""
        return F.cross_entropy(scores, y, weight=self.weight)

    def batch_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy with class weights, not normalised by those that a batch happens to hold."""
        return F.cross_entropy(scores, y, weight=self.weight, reduction="none").mean()

    def row_losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy ``(n,)``."""
        return F.cross_entropy(scores, y, reduction="none")

    def divergences(self, before: Tensor, after: Tensor, y: Tensor | None = None) -> Tensor:
        """The Kullback-Leibler divergence ``(n,)`` of `before` from `after`, weighed by the class in ``y``."""
        log_p, log_q = F.log_softmax(before, dim=1), F.log_softmax(after, dim=1)
        per_row = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
        return per_row if y is None or self.weight is None else per_row * self.weight[y]

    def gain(self, scores: Tensor, y: Tensor, goal: Goal) -> Tensor:
        """Per row, how far scores are from deciding ``y``, clamped, or how near to the class `goal`."""
        if goal is None:
            return F.cross_entropy(scores, y, reduction="none").clamp(max=CLAMP)
        return -F.cross_entropy(scores, torch.full_like(y, goal), reduction="none")

    def decide(self, scores: Tensor) -> Tensor:
        """The largest."""
        return scores.argmax(dim=1)

    def changed(self, before: Tensor, after: Tensor) -> Tensor:
        """Where the class is another."""
        return before != after

    def accuracy(self, y: Tensor, decided: Tensor) -> float:
        """Balanced accuracy."""
        return network_balanced_accuracy(y, decided)

    def chance(self, y: Tensor) -> float:
        """One in so many classes."""
        return 1 / self.classes

    def _completed(self, second: Tensor) -> Tensor:
        first = 1 - second if self.logarithm else torch.zeros_like(second)
        return torch.stack([first, second], dim=1)


def network_balanced_accuracy(y: Tensor, decided: Tensor) -> float:
    """The mean over the classes present in `y (n,)` of the share of their rows decided so."""
    return float(
        torch.stack([(decided[y == label] == label).double().mean() for label in sorted(set(y.tolist()))]).mean()
    )
