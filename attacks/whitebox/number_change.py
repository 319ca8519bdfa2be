"""Success on a model of one number: it moved by more than the tolerance, or over a cut point.

Distances are in tolerances. `y` is the clean number, in the precision it was given in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medward.attacks.whitebox.criterion import MARGIN_CLAMP, TIED
from medward.attacks.whitebox.losses import LossFunction, log_chance
from medward.guard.tasks.base import WITHHELD_DECISION
from medward.guard.tasks.regression import Regression


@dataclass(frozen=True, slots=True)
class NumberChange:
    """Number change is won by a row whose number `task` no longer takes for the same (`Regression.unchanged`)."""

    task: Regression

    @property
    def losses(self) -> Mapping[str, LossFunction]:
        """The margin, whichever way a row goes, and the change up and down."""
        return {"margin": self._margin, "up": self._up, "down": self._down}

    @property
    def shared_losses(self) -> Sequence[LossFunction]:
        """Up and down, clamped, since one change for all rows must choose; then whichever way a row goes."""
        return self._clamped_up, self._clamped_down, self._standing

    @property
    def lasting(self) -> bool:
        """A number that moved by little more than the tolerance may be rounded back."""
        return False

    def decided(self, scores: Tensor) -> Tensor:
        """The number ``(n,)`` itself."""
        return scores[:, 0]

    def kept(self, scores: Tensor, decided: Tensor) -> Tensor:
        """The number that was released; NaN where it was hidden, for its cell does not say what it was."""
        return scores[:, 0]

    def decisions(self, y: Tensor) -> Tensor:
        """The cell; -1 where the number is not known."""
        known = torch.isfinite(y)
        cells = torch.as_tensor(self.task.decide(_column(torch.where(known, y, 0.0))), device=y.device)
        return torch.where(known, cells, WITHHELD_DECISION)

    def margin(self, scores: Tensor, y: Tensor) -> Tensor:
        """How far the number is beyond the nearest change that counts."""
        margin = self._margin(scores, y)
        won = torch.as_tensor(~self.task.unchanged(_column(y), _column(scores[:, 0])), device=scores.device)
        return torch.where(won, margin.clamp_min(TIED), margin.clamp_max(0.0))

    def answered(self, scores: Tensor, decided: Tensor, y: Tensor) -> Tensor:
        """Where the number released counts as changed, and where none is, another cell was answered."""
        shown = torch.isfinite(scores[:, 0])
        number = torch.where(shown, scores[:, 0], y.to(scores))
        moved = torch.as_tensor(~self.task.unchanged(_column(y), _column(number)), device=y.device)
        return (decided >= 0) & torch.where(shown, moved, decided != self.decisions(y))

    def open(self, y: Tensor, truth: Tensor | None = None) -> Tensor:
        """The rows whose clean number is known."""
        return torch.isfinite(y)

    def scale_free(self, scores: Tensor, y: Tensor, most: int) -> list[tuple[LossFunction, Tensor | None]]:
        """Up and down."""
        return [(self._up, None), (self._down, None)]

    def _up(self, scores: Tensor, y: Tensor) -> Tensor:
        return (scores[:, 0] - y.to(scores)) / self.task.tolerance

    def _down(self, scores: Tensor, y: Tensor) -> Tensor:
        return -self._up(scores, y)

    def _change(self, scores: Tensor, y: Tensor) -> Tensor:
        """The size of the change; at none its slope is upwards, so that an ascent from the clean row begins."""
        up = self._up(scores, y)
        return torch.where(up >= 0, up, -up)

    def _margin(self, scores: Tensor, y: Tensor) -> Tensor:
        beyond = self._change(scores, y) - 1
        if not self.task.cut_points:
            return beyond
        ends = torch.tensor([-torch.inf, *self.task.cut_points, torch.inf], device=scores.device, dtype=scores.dtype)
        cell, number = self.decisions(y), scores[:, 0]
        over = torch.maximum(ends[cell] - number, number - ends[cell + 1]) / self.task.tolerance
        return torch.maximum(beyond, over)

    def _clamped_up(self, scores: Tensor, y: Tensor) -> Tensor:
        return self._up(scores, y).clamp(max=MARGIN_CLAMP)

    def _clamped_down(self, scores: Tensor, y: Tensor) -> Tensor:
        return self._down(scores, y).clamp(max=MARGIN_CLAMP)

    def _standing(self, scores: Tensor, y: Tensor) -> Tensor:
        return log_chance(self._margin(scores, y))


def _column(numbers: Tensor) -> np.ndarray:
    return np.asarray(numbers.detach().cpu().numpy())[:, None]
