"""The fast gradient sign method: one step of a full radius, the least an attacker with gradients can do.

It is here as a yardstick: an iterated attack that does worse is broken. For the norm "2" the step follows the
gradient itself.

Reference: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015, sec. 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medward.attacks.evasion.per_image import WhiteBox
from medward.attacks.whitebox.ascent import Ascent, projected_ascent
from medward.attacks.whitebox.search import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSM(WhiteBox):
    """Fast gradient sign method: one signed step of the full radius."""

    @property
    def technique(self) -> str:
        """``fgsm``."""
        return "fgsm"

    @property
    def effort(self) -> int:
        """One step."""
        return 1

    def search(self, search: Search, x: Tensor, y: Tensor) -> Ascent:
        """One step from every row."""
        return fgsm(search, x, y)


def fgsm(search: Search, x: Tensor, y: Tensor) -> Ascent:
    """One step up the criterion's first loss from rows `x (n, *shape)` decided as `y (n,)`, clipped to the ball."""
    if search.ball.empty:
        return Ascent.nothing(x)
    loss = next(iter(search.criterion.losses.values()))
    return projected_ascent(search, x, y, loss=loss, steps=1, random_start=False)
