"""What success means to an attacker: which change of a decision counts, and what is climbed to bring it about.

An attack knows nothing of classes. It asks its criterion what a row is decided as, how far another answer is from being
a success, and for losses to climb. The target that judges in the end is read through the same criterion.

Reference: the idea of Rauber, Brendel, Bethge, "Foolbox", ICML 2017 workshop (criteria as objects).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medward.attacks.whitebox.losses import LossFunction, cross_entropy, log_chance, margin_loss, margin_ratio

MARGIN_CLAMP = 9.0  # beta of Shafahi et al. 2020, eq. 4: a row this far beyond the boundary pulls no more
TIED = 1e-9  # the margin of a row won by the order of equal scores alone


class Criterion(Protocol):
    """A criterion says when a row is won. Implementations are frozen, and functions of rows one by one.

    `scores` are those of the network as an attacker sees it (`attacks.whitebox.network.as_attacker_sees`), `y` with a
    row for each is what is kept of the clean rows. "margin" is among the `losses`.
    """

    @property
    def losses(self) -> Mapping[str, LossFunction]:
        """What an ascent on single rows climbs, by name."""
        ...

    @property
    def shared_losses(self) -> Sequence[LossFunction]:
        """What an ascent on many rows at once climbs, in turn: rows that are won no longer pull."""
        ...

    @property
    def lasting(self) -> bool:
        """Whether what just wins on the network also wins where answers are rounded; if not, farther is better."""
        ...

    def decided(self, scores: Tensor) -> Tensor:
        """What rows are decided as; kept as the `y` of clean ones."""
        ...

    def kept(self, scores: Tensor, decided: Tensor) -> Tensor:
        """The `y` of clean rows that were answered with `scores`, NaN where hidden, and decisions `decided (n,)`."""
        ...

    def decisions(self, y: Tensor) -> Tensor:
        """The decisions ``(n,)`` that the `y` of clean rows stands for, as the task numbers them."""
        ...

    def margin(self, scores: Tensor, y: Tensor) -> Tensor:
        """How far rows ``(n,)`` are beyond the point of success: positive exactly where the attack has won."""
        ...

    def answered(self, scores: Tensor, decided: Tensor, y: Tensor) -> Tensor:
        """Which rows ``(n,)`` a target's answers give to the attacker; scores are NaN and `decided` -1 if withheld."""
        ...

    def open(self, y: Tensor, truth: Tensor | None = None) -> Tensor:
        """The rows ``(n,)`` that there is something to win on; `truth (n,)` is what they are labelled, where known."""
        ...

    def scale_free(self, scores: Tensor, y: Tensor, most: int) -> list[tuple[LossFunction, Tensor | None]]:
        """What Auto-PGD climbs in turn, of rows with clean `scores`: losses, and at most so many goals ``(n,)``."""
        ...


@dataclass(frozen=True, slots=True)
class ClassChange:
    """Class change is won by a row that is decided as another class than before, or as the class `goal`.

    Of equal scores the first decides, as everywhere.
    """

    goal: int | None = None

    @property
    def losses(self) -> Mapping[str, LossFunction]:
        """Cross-entropy and margin."""
        return {"cross-entropy": self._cross_entropy, "margin": self._margin}

    @property
    def shared_losses(self) -> Sequence[LossFunction]:
        """The clamped cross-entropy, and the loss that follows rows still standing."""
        return self._clamped_cross_entropy, self._standing

    @property
    def lasting(self) -> bool:
        """Rounding never moves a class."""
        return True

    def decided(self, scores: Tensor) -> Tensor:
        """The class with the largest score."""
        return scores.argmax(dim=1)

    def kept(self, scores: Tensor, decided: Tensor) -> Tensor:
        """The class."""
        return decided

    def decisions(self, y: Tensor) -> Tensor:
        """The class."""
        return y

    def margin(self, scores: Tensor, y: Tensor) -> Tensor:
        """The best other score less the clean class's, or the goal's less the best other."""
        margin = self._margin(scores, y)
        labels = scores.detach().argmax(dim=1)
        won = labels != y if self.goal is None else labels == self.goal
        return torch.where(won & (margin == 0), TIED, margin)

    def answered(self, scores: Tensor, decided: Tensor, y: Tensor) -> Tensor:
        """Where another class was answered, or the goal."""
        return (decided >= 0) & (decided != y if self.goal is None else decided == self.goal)

    def open(self, y: Tensor, truth: Tensor | None = None) -> Tensor:
        """All rows; with a goal those neither decided nor, where that is known, labelled so."""
        if self.goal is None:
            return torch.ones_like(y, dtype=torch.bool)
        return y != self.goal if truth is None else (y != self.goal) & (truth != self.goal)

    def scale_free(self, scores: Tensor, y: Tensor, most: int) -> list[tuple[LossFunction, Tensor | None]]:
        """Cross-entropy, then the margin ratio towards each of the `most` best other classes of the clean rows.

        With two classes there is one such class, and no goal is needed.
        """
        if self.goal is not None:
            return [(self._cross_entropy, None), (margin_ratio, torch.full_like(y, self.goal))]
        others = scores.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)[:, : scores.shape[1] - 1]
        goals: list[Tensor | None] = [others[:, i] for i in range(min(most, others.shape[1]))]
        return [(cross_entropy, None), *((margin_ratio, goal) for goal in (goals if len(goals) > 1 else [None]))]

    def _cross_entropy(self, scores: Tensor, y: Tensor) -> Tensor:
        if self.goal is None:
            return cross_entropy(scores, y)
        return -cross_entropy(scores, torch.full_like(y, self.goal))

    def _margin(self, scores: Tensor, y: Tensor) -> Tensor:
        return margin_loss(scores, y) if self.goal is None else -margin_loss(scores, torch.full_like(y, self.goal))

    def _clamped_cross_entropy(self, scores: Tensor, y: Tensor) -> Tensor:
        return self._cross_entropy(scores, y).clamp(max=MARGIN_CLAMP)

    def _standing(self, scores: Tensor, y: Tensor) -> Tensor:
        margin = self._margin(scores, y)
        return log_chance(margin) if self.goal is None else margin.clamp(max=MARGIN_CLAMP)


ANY_CLASS = ClassChange()
