"""The standard evaluation: Auto-PGD with two losses, then Square; per row the worst of all.

Cross-entropy and the margin ratio fail on different models, and Square needs no gradient at all, so a model that
withstands the three is unlikely to owe it to masked gradients. Later searches run only on rows still standing.

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, sec. 5 (AutoAttack; the minimal-norm attack FAB is left out).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medward.attacks.evasion.apgd import TARGETS, worst_case_apgd
from medward.attacks.evasion.asking import without_gradients
from medward.attacks.evasion.per_image import WhiteBox
from medward.attacks.evasion.square import square
from medward.attacks.evasion.tallies import Tally
from medward.attacks.whitebox.ascent import Ascent, loss_and_gradient
from medward.attacks.whitebox.search import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard(WhiteBox):
    """The attack: `steps` and `restarts` of Auto-PGD, `queries` of Square for each row, on the network."""

    steps: int = 100
    restarts: int = 2
    targets: int = TARGETS
    queries: int = 5000

    @property
    def technique(self) -> str:
        """``standard``."""
        return "standard"

    @property
    def effort(self) -> int:
        """Steps per run of Auto-PGD."""
        return self.steps

    def search(self, search: Search, x: Tensor, y: Tensor) -> Ascent:
        """The worst case per row."""
        effort = {"steps": self.steps, "restarts": self.restarts, "targets": self.targets, "queries": self.queries}
        return worst_case_standard(search, x, y, **effort)


def worst_case_standard(
    search: Search,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 100,
    restarts: int = 2,
    targets: int = TARGETS,
    queries: int = 5000,
) -> Ascent:
    """The worst case per row `x (n, *shape)` decided as `y (n,)`; a row that is won already is won as it is.

    With a detector Square counts a row that would be stopped as withheld.
    """
    tally = Tally(x, stop=search.stop)
    if search.ball.empty or not len(x):
        return tally.best
    seen = loss_and_gradient(search, x, y, loss=search.criterion.losses["margin"], climb=False)
    tally.add(tally.standing, Ascent(x, seen.win, seen.value))
    if steps > 0 and len(rows := tally.standing):
        tally.add(rows, worst_case_apgd(search, x[rows], y[rows], steps=steps, restarts=restarts, targets=targets))
    if queries > 0 and len(rows := tally.standing):
        tally.add(rows, square(without_gradients(search), x[rows], y[rows], queries=queries, rescale=False))
    return tally.best
