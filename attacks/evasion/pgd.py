"""Projected gradient descent: the standard per-input attack, and the floor under every universal one.

Every restart tries each loss of its criterion from a random start of its own; a row is done at its first adversarial
iterate, so later restarts cost only what still stands.

Reference: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to adversarial
attacks", ICLR 2018, sec. 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medward.attacks.evasion.per_image import WhiteBox
from medward.attacks.evasion.tallies import Tally
from medward.attacks.whitebox.ascent import Ascent, projected_ascent
from medward.attacks.whitebox.search import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class PGD(WhiteBox):
    """The attack: `restarts` times `steps` steps with either loss."""

    steps: int = 40
    restarts: int = 2

    @property
    def technique(self) -> str:
        """``pgd``."""
        return "pgd"

    @property
    def effort(self) -> int:
        """Steps per restart."""
        return self.steps

    def search(self, search: Search, x: Tensor, y: Tensor) -> Ascent:
        """The worst case per row."""
        return worst_case_pgd(search, x, y, steps=self.steps, restarts=self.restarts)


def worst_case_pgd(search: Search, x: Tensor, y: Tensor, *, steps: int, restarts: int) -> Ascent:
    """The worst case per row over `restarts` random starts and every loss of the criterion.

    Without ``stop`` (transfer) every row is climbed every time and keeps its largest margin on the network.
    """
    tally, losses = Tally(x, stop=search.stop), list(search.criterion.losses.values())
    for attempt in range(0 if search.ball.empty or steps <= 0 else restarts * len(losses)):
        rows = tally.standing
        if not len(rows):
            break
        found = projected_ascent(
            search,
            x[rows],
            y[rows],
            loss=losses[attempt % len(losses)],
            steps=steps,
            # A detector sees a random start; its first try is from the clean input.
            random_start=search.detector is None or attempt >= len(losses),
        )
        tally.add(rows, found)
    return tally.best
