"""Success on a model of several findings: some finding is hidden, or raised, or either.

Scores are log odds of each finding beyond its own threshold, so that a positive one is decided, wherever the operating
points lie. `y` is the set of findings as bits, as `guard.tasks.multilabel` has it.

Of a report the findings are those that it says are there or may be (`guard.tasks.report`). One that was there and then
only may be is not hidden, and one that only may be is raised: whoever reads it is told to look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from medward.attacks.whitebox.criterion import MARGIN_CLAMP
from medward.attacks.whitebox.losses import LossFunction, log_chance

Aim = Literal["any", "hide", "raise"]
"""Which change of findings counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingChange:
    """Finding change is won by a row of which some of `count` findings is decided otherwise than before.

    With the aim "hide" only a finding counts that was decided and no longer is, with "raise" one that newly is.
    """

    count: int
    aim: Aim = "any"

    @property
    def losses(self) -> Mapping[str, LossFunction]:
        """Binary cross-entropy, summed over the findings aimed at, and the margin."""
        return {"cross-entropy": self._cross_entropy, "margin": self._margin}

    @property
    def shared_losses(self) -> Sequence[LossFunction]:
        """The clamped cross-entropy, and the log of the chance of winning."""
        return self._clamped_cross_entropy, self._standing

    @property
    def lasting(self) -> bool:
        """Rounding never moves a finding over its threshold."""
        return True

    def decided(self, scores: Tensor) -> Tensor:
        """The set of findings ``(n,)`` as bits."""
        return ((scores > 0).to(torch.int64) << self._places(scores)).sum(dim=1)

    def kept(self, scores: Tensor, decided: Tensor) -> Tensor:
        """The set."""
        return decided

    def decisions(self, y: Tensor) -> Tensor:
        """The set."""
        return y

    def margin(self, scores: Tensor, y: Tensor) -> Tensor:
        """How far the finding aimed at that is farthest over its threshold is beyond it; -inf where there is none."""
        return self._margin(scores, y)

    def answered(self, scores: Tensor, decided: Tensor, y: Tensor) -> Tensor:
        """Where the set that was answered differs by a finding aimed at; how sure a report is of it does not count."""
        aimed = {"any": torch.full_like(y, -1), "hide": y, "raise": ~y}[self.aim]
        findings = (1 << self.count) - 1
        return (decided >= 0) & ((decided ^ y) & aimed & findings != 0)

    def open(self, y: Tensor, truth: Tensor | None = None) -> Tensor:
        """The rows of which some finding is known to be decided, to hide, or some is not, to raise."""
        return self._aimed(y).any(dim=1) & (y >= 0)

    def scale_free(self, scores: Tensor, y: Tensor, most: int) -> list[tuple[LossFunction, Tensor | None]]:
        """Cross-entropy, then each of the `most` findings nearest to their thresholds in the clean rows, alone."""
        nearest = torch.where(self._aimed(y), self._turned(scores, y), -torch.inf).argsort(dim=1, descending=True)
        goals = [nearest[:, i] for i in range(min(most, self.count))]
        return [(self._cross_entropy, None), *((self._towards, goal) for goal in goals)]

    def _places(self, like: Tensor) -> Tensor:
        return torch.arange(self.count, device=like.device)

    def _found(self, y: Tensor) -> Tensor:
        return (y[:, None] >> self._places(y)) & 1 == 1

    def _aimed(self, y: Tensor) -> Tensor:
        found = self._found(y)
        return {"any": torch.ones_like(found), "hide": found, "raise": ~found}[self.aim]

    def _turned(self, scores: Tensor, y: Tensor) -> Tensor:
        """How far each finding ``(n, K)`` is on the other side of its threshold than before."""
        return torch.where(self._found(y), -scores, scores)

    def _margin(self, scores: Tensor, y: Tensor) -> Tensor:
        return torch.where(self._aimed(y), self._turned(scores, y), -torch.inf).amax(dim=1)

    def _towards(self, scores: Tensor, y: Tensor, goals: Tensor) -> Tensor:
        """How far the finding `goals (n,)` is over; the margin where that one is not aimed at."""
        alone = self._turned(scores, y).gather(1, goals[:, None])[:, 0]
        return torch.where(self._aimed(y).gather(1, goals[:, None])[:, 0], alone, self._margin(scores, y))

    def _cross_entropy(self, scores: Tensor, y: Tensor) -> Tensor:
        return self._entropies(scores, y).sum(dim=1)

    def _entropies(self, scores: Tensor, y: Tensor) -> Tensor:
        return torch.where(self._aimed(y), F.softplus(self._turned(scores, y)), 0.0)

    def _clamped_cross_entropy(self, scores: Tensor, y: Tensor) -> Tensor:
        return self._entropies(scores, y).clamp(max=MARGIN_CLAMP).sum(dim=1)

    def _standing(self, scores: Tensor, y: Tensor) -> Tensor:
        return log_chance(self._margin(scores, y))
