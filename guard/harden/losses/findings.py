"""Losses of findings: binary cross-entropy of each, balanced, and the mean of their balanced accuracies.

A shared change pushes away from the truth, towards no finding at all (goal 0), or towards all of them (goal 1).
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
from medward.guard.harden.losses.classes import network_balanced_accuracy
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FindingLosses:
    """Finding losses train a network to tell of each finding whether it is there; scores are log odds.

    They are counted from each finding's operating point, its log odds in `borders`: a finding is decided from zero on.
    With `logarithm` the network gives probabilities. ``y`` is a table ``(n, K)`` of 0 and 1; `weight (2, K)` makes rows
    without and with a finding count alike.
    """

    findings: tuple[str, ...]
    borders: tuple[float, ...]
    logarithm: bool = False
    weight: Tensor | None = None

    @classmethod
    def of(cls, task: Multilabel) -> Self:
        """Losses of findings at their operating points."""
        return cls(
            findings=task.findings,
            borders=tuple(map(border_of, task.thresholds)),
            logarithm=task.output == "probabilities",
        )

    @property
    def measure(self) -> str:
        """The mean over the findings of balanced accuracy."""
        return "mean balanced accuracy of the findings"

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Away from the truth, none, all."""
        return (None, 0, 1)

    def read(self, raw: Tensor) -> Tensor:
        """Log odds ``(n, K)`` beyond each operating point."""
        if tuple(raw.shape[1:]) != (len(self.findings),):
            raise MedwardError(
                f"model: gives scores of shape {tuple(raw.shape)}, its task needs a column for each of "
                f"{len(self.findings)} findings"
            )
        odds = raw.clamp_min(TINY).log() - (1 - raw).clamp_min(TINY).log() if self.logarithm else raw
        return odds - odds.new_tensor(self.borders)

    def read_bounds(self, raw: ScoreBounds) -> ScoreBounds:
        """Bounds of the log odds."""
        return ScoreBounds(self.read(raw.low), self.read(raw.high))

    def worst_scores(self, bounds: ScoreBounds, y: Tensor) -> Tensor:
        """The lowest log odds of a finding that is there, the highest of one that is not."""
        return torch.where(y > 0, bounds.low, bounds.high)

    def targets(self, labels: Labels) -> Tensor:
        """A table ``(n, K)`` of 0 and 1 from sets of findings ``(n,)``."""
        sets, count = np.asarray(labels), len(self.findings)
        if sets.ndim != 1 or sets.dtype.kind not in "iu" or not ((sets >= 0) & (sets < 2**count)).all():
            raise MedwardError(
                f"labels: of {count} findings are sets as whole numbers (n,) below {2**count}, got {sets.dtype} "
                f"{sets.shape}; give a table of 0 and 1 through guard.data.split.label_split"
            )
        return torch.from_numpy(unpacked_findings(sets, count).astype(np.float32))

    def check(self, y: Tensor, what: str, *, trained: bool) -> None:
        """Refuse training rows that all have, or all lack, a finding: nothing can be learned of it."""
        if not trained:
            return
        for name, share in zip(self.findings, y.mean(dim=0).tolist(), strict=True):
            if share in (0.0, 1.0):
                raise MedwardError(
                    f"{what}: {'no row has' if share == 0 else 'every row has'} the finding {name}; hardening needs "
                    "rows with and without each"
                )

    def balanced(self, y: Tensor) -> Self:
        """With weights under which absence and presence of each finding count alike."""
        present = y.mean(dim=0)
        return replace(self, weight=0.5 / torch.stack([1 - present, present]))

    def loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Binary cross-entropy with weights, normalised by those of the batch."""
        weights = self._weights(y)
        return (self._entropies(scores, y) * weights).sum() / weights.sum()

    def batch_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Mean binary cross-entropy with weights."""
        return (self._entropies(scores, y) * self._weights(y)).mean()

    def row_losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Mean binary cross-entropy ``(n,)`` of a row's findings."""
        return self._entropies(scores, y).mean(dim=1)

    def divergences(self, before: Tensor, after: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean ``(n,)`` over the findings of the Bernoulli divergence KL(before || after)."""
        likely = torch.sigmoid(before)
        each = likely * (F.logsigmoid(before) - F.logsigmoid(after))
        each = each + (1 - likely) * (F.logsigmoid(-before) - F.logsigmoid(-after))
        return (each if y is None else each * self._weights(y)).mean(dim=1)

    def gain(self, scores: Tensor, y: Tensor, goal: Goal) -> Tensor:
        """Per row, how far its findings are from the truth, each clamped, or how near to none (0) or all (1)."""
        if goal is None:
            return self._entropies(scores, y).clamp(max=CLAMP).mean(dim=1)
        return -self._entropies(scores, torch.full_like(scores, goal)).mean(dim=1)

    def decide(self, scores: Tensor) -> Tensor:
        """Which findings ``(n, K)`` are there."""
        return scores >= 0

    def changed(self, before: Tensor, after: Tensor) -> Tensor:
        """Where any finding is another."""
        return (before != after).any(dim=1)

    def accuracy(self, y: Tensor, decided: Tensor) -> float:
        """The mean over the findings of balanced accuracy; of a finding that all or no rows have, of what there is."""
        pairs = zip(y.double().T, decided.double().T, strict=True)
        return float(np.mean([network_balanced_accuracy(truth, found) for truth, found in pairs]))

    def chance(self, y: Tensor) -> float:
        """One in two."""
        return 0.5

    def _entropies(self, scores: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(scores, y.to(scores.dtype), reduction="none")

    def _weights(self, y: Tensor) -> Tensor:
        if self.weight is None:
            return torch.ones_like(y)
        return torch.where(y > 0, self.weight[1], self.weight[0])
