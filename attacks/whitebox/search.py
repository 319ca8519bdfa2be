"""What every search on a network is handed: the network, what success is, how far it may go, who watches."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.forward import batched_scores
from medward.attacks.whitebox.network import Detector


@dataclass(frozen=True, slots=True)
class Search:
    """A search is the frame in which an attack looks for changes of rows: everything but its own technique.

    `generator` gives all of its random numbers. With a `detector` a row counts as won only where the screens would let
    it through. With `stop` a row that is won is left alone; without (transfer, numbers that answers round) the
    largest margin is looked for throughout.
    """

    network: nn.Module
    criterion: Criterion
    ball: Ball
    generator: torch.Generator = field(default_factory=torch.Generator)
    detector: Detector | None = None
    stop: bool = True

    def decided(self, x: Tensor) -> Tensor:
        """What the network decides ``(n,)`` on rows `x (n, *shape)`."""
        return self.criterion.decided(batched_scores(self.network, x))

    def margins(self, x: Tensor, y: Tensor) -> Tensor:
        """How far rows `x (n, *shape)`, clean decided as `y (n,)`, are beyond the point of success."""
        return self.criterion.margin(batched_scores(self.network, x), y)

    def won(self, x: Tensor, y: Tensor) -> Tensor:
        """Which rows ``(n,)`` the network alone gives to the attacker, whatever the screens say."""
        return self.margins(x, y) > 0
