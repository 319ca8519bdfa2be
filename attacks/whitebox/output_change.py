"""Success on a model whose outputs only its user can read: the user's own decision on them changes.

`y` is the clean outputs, for a search that sees outputs, or the decisions on them for one that sees decisions alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medward.attacks.target import Decide
from medward.attacks.whitebox.criterion import TIED
from medward.attacks.whitebox.losses import LossFunction

BEGINNING = 1e-2  # of the outputs' size: how far from the clean ones the change is measured from


@dataclass(frozen=True, slots=True)
class OutputChange:
    """Output change is won by a row on whose outputs ``(n, ...)`` the user's `decide` says another number than before.

    What is climbed is the squared change of the outputs, and all of them up or down: what `decide` does is not known,
    and no slope leads through it. The change is measured from a point a little off the clean outputs, since at these
    themselves it would have no slope.
    """

    decide: Decide

    @property
    def losses(self) -> Mapping[str, LossFunction]:
        """The change, and the mean of the outputs up and down."""
        return {"margin": self._change, "up": self._up, "down": self._down}

    @property
    def shared_losses(self) -> Sequence[LossFunction]:
        """Up, down, and the change."""
        return self._up, self._down, self._change

    @property
    def lasting(self) -> bool:
        """Outputs leave as they are."""
        return True

    def decided(self, scores: Tensor) -> Tensor:
        """The outputs themselves."""
        return scores

    def kept(self, scores: Tensor, decided: Tensor) -> Tensor:
        """The outputs; the decisions where none are shown at all."""
        return decided if bool(torch.isnan(scores).all()) else scores

    def decisions(self, y: Tensor) -> Tensor:
        """What the user's function says of them."""
        if not y.is_floating_point():
            return y
        return torch.as_tensor(np.asarray(self.decide(y.detach().cpu().numpy()), np.int64), device=y.device)

    def margin(self, scores: Tensor, y: Tensor) -> Tensor:
        """The change where it is a success; elsewhere a negative number that rises with it."""
        change = self._change(scores, y) if y.is_floating_point() else torch.zeros(len(scores), device=scores.device)
        won = self.decisions(scores) != self.decisions(y)
        return torch.where(won, change.clamp_min(TIED), -1 / (1 + change))

    def answered(self, scores: Tensor, decided: Tensor, y: Tensor) -> Tensor:
        """Where another decision was answered."""
        return (decided >= 0) & (decided != self.decisions(y))

    def open(self, y: Tensor, truth: Tensor | None = None) -> Tensor:
        """The rows whose clean outputs, or the decision on them, are known."""
        known = torch.isfinite(y).reshape(len(y), -1).all(dim=1)
        return known if y.is_floating_point() else y >= 0

    def scale_free(self, scores: Tensor, y: Tensor, most: int) -> list[tuple[LossFunction, Tensor | None]]:
        """Up, down, and the change."""
        return [(self._up, None), (self._down, None), (self._change, None)]

    def _moved(self, scores: Tensor, y: Tensor) -> Tensor:
        """The change of each output ``(n, width)``, in root mean squares of the clean ones of its row."""
        clean = y.to(scores).reshape(len(y), -1)
        return (scores.reshape(len(y), -1) - clean) / (clean.square().mean(dim=1, keepdim=True).sqrt() + TIED)

    def _change(self, scores: Tensor, y: Tensor) -> Tensor:
        moved = self._moved(scores, y)
        signs = torch.randint(0, 2, (moved.shape[1],), generator=torch.Generator().manual_seed(0)) * 2 - 1
        return (moved + BEGINNING * signs.to(moved)).square().mean(dim=1)

    def _up(self, scores: Tensor, y: Tensor) -> Tensor:
        return self._moved(scores, y).mean(dim=1)

    def _down(self, scores: Tensor, y: Tensor) -> Tensor:
        return -self._up(scores, y)
