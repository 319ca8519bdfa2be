"""Losses of numbers: Huber's, in standard deviations of the training labels, and the share within the tolerance.

A shared change pushes numbers up (goal 1) or down (goal -1).

Reference: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 1964.
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
from medward.guard.harden.losses.base import Goal, ScoreBounds
from medward.guard.tasks.regression import Regression

_ROUNDING = 1 + 1e-9  # as `Regression.unchanged` forgives


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NumberLosses:
    """Number losses train a network to give a number; scores ``(n, 1)`` are that number, in its own unit.

    A number is right within `tolerance` of the truth and on its side of the `cut_points`. `scale` is one standard
    deviation of the labels trained on.
    """

    tolerance: float
    cut_points: tuple[float, ...] = ()
    scale: float = 1.0

    @classmethod
    def of(cls, task: Regression) -> Self:
        """Losses of a number with its tolerance and cut points."""
        return cls(tolerance=task.tolerance, cut_points=task.cut_points)

    @property
    def measure(self) -> str:
        """The share that nobody would act otherwise upon."""
        sides = " and on their side of the cut points" if self.cut_points else ""
        return f"share within the tolerance{sides}"

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Up and down."""
        return (1, -1)

    def read(self, raw: Tensor) -> Tensor:
        """Numbers ``(n, 1)``."""
        if tuple(raw.shape[1:]) not in ((), (1,)):
            raise MedwardError(f"model: gives outputs of shape {tuple(raw.shape)}, a regression model gives (n, 1)")
        return raw.reshape(-1, 1)

    def read_bounds(self, raw: ScoreBounds) -> ScoreBounds:
        """Bounds of the number."""
        return ScoreBounds(self.read(raw.low), self.read(raw.high))

    def worst_scores(self, bounds: ScoreBounds, y: Tensor) -> Tensor:
        """The end that is farther from ``y``, or the one that is over a cut point where only that is off."""
        low, high = bounds.low[:, 0], bounds.high[:, 0]
        below, above = self.changed(y, low), self.changed(y, high)
        farther = (y - low).abs() > (high - y).abs()
        return torch.where(torch.where(below == above, farther, below), low, high)[:, None]

    def targets(self, labels: Labels) -> Tensor:
        """Numbers ``(n,)`` in double precision."""
        found = np.asarray(labels)
        if found.ndim != 1 or found.dtype.kind not in "iubf" or not np.isfinite(found).all():
            raise MedwardError(
                f"labels: a regression model needs finite numbers of shape (n,), got {found.dtype} {found.shape}"
            )
        return torch.from_numpy(np.array(found, np.float64))

    def check(self, y: Tensor, what: str, *, trained: bool) -> None:
        """Refuse training labels that are one and the same number."""
        if trained and float(y.min()) == float(y.max()):
            raise MedwardError(f"{what}: every label is {float(y[0]):g}; hardening needs numbers that vary")

    def balanced(self, y: Tensor) -> Self:
        """In standard deviations of ``y``."""
        return replace(self, scale=float(y.std()))

    def loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Mean Huber loss."""
        return self.row_losses(scores, y).mean()

    def batch_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """The same: numbers have no weights."""
        return self.loss(scores, y)

    def row_losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Huber loss ``(n,)``: half the squared error up to one standard deviation, linear beyond."""
        error = (scores[:, 0] - y.to(scores.dtype)) / self.scale
        return F.huber_loss(error, torch.zeros_like(error), reduction="none")

    def divergences(self, before: Tensor, after: Tensor, y: Tensor | None = None) -> Tensor:
        """Half the squared difference ``(n,)`` in standard deviations: the divergence of normal laws that wide."""
        return ((after - before)[:, 0] / self.scale) ** 2 / 2

    def gain(self, scores: Tensor, y: Tensor, goal: Goal) -> Tensor:
        """Per row, how far up (goal 1) or down (-1) its number is, or how far from the truth (None)."""
        return self.row_losses(scores, y) if goal is None else goal * scores[:, 0] / self.scale

    def decide(self, scores: Tensor) -> Tensor:
        """The numbers ``(n,)``."""
        return scores[:, 0]

    def changed(self, before: Tensor, after: Tensor) -> Tensor:
        """Where the number is off by more than the tolerance, or on another side of a cut point."""
        off = (after.double() - before.double()).abs() > self.tolerance * _ROUNDING
        return off | (self._cells(before) != self._cells(after))

    def accuracy(self, y: Tensor, decided: Tensor) -> float:
        """The share of rows that are not off."""
        return float((~self.changed(y, decided)).double().mean())

    def chance(self, y: Tensor) -> float:
        """The share that the median of ``y`` is right about."""
        return self.accuracy(y, y.median().expand(len(y)))

    def _cells(self, values: Tensor) -> Tensor:
        """Between which cut points ``(n,)`` values lie, compared in their own precision as `Regression` does."""
        points = torch.tensor(self.cut_points, dtype=values.dtype, device=values.device)
        return torch.bucketize(values.contiguous(), points, right=True)
