"""The fast gradient sign method: one step of a full radius, the least an attacker with gradients can do.

It is here as a yardstick: an iterated attack that does worse is broken. For the norm "2" the step follows the
gradient itself.

Reference: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015, sec. 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medward.attacks.evasion.per_image import WhiteBox
from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.whitebox.ascent import Ascent, LossFunction, cross_entropy, projected_ascent
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.network import Detector


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSM(WhiteBox):
    """Fast gradient sign method: one signed step of the full radius."""

    @property
    def name(self) -> str:
        """``fgsm``."""
        return "fgsm"

    @property
    def effort(self) -> int:
        """One step."""
        return 1

    def search(self, scene: EvasionSetup, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """One step from every row."""
        return fgsm(scene.network, x, y, ball, generator=generator, detector=scene.detector, stop=not scene.transfer)


def fgsm(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    generator: torch.Generator,
    loss: LossFunction = cross_entropy,
    detector: Detector | None = None,
    stop: bool = True,
) -> Ascent:
    """One step up `loss` from rows `x (n, *shape)` decided as `y (n,)`, clipped to `ball`."""
    if ball.empty:
        return Ascent.nothing(x)
    return projected_ascent(
        network, x, y, ball, loss=loss, steps=1, generator=generator, random_start=False, detector=detector, stop=stop
    )
