"""The fast gradient sign method: one step of a full radius, the least an attacker with gradients can do.

It is here as a yardstick: an iterated attack that does worse is broken. For the norm "2" the step follows the
gradient itself.

Reference: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015, sec. 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.adaptive import Detector
from attacks.ascent import Ascent, Loss, ascend, cross_entropy
from attacks.ball import Ball
from attacks.evasion.per_image import WhiteBox
from attacks.evasion.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSM(WhiteBox):
    """The attack."""

    @property
    def name(self) -> str:
        """``fgsm``."""
        return "fgsm"

    @property
    def effort(self) -> int:
        """One step."""
        return 1

    def search(self, scene: Scene, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """One step from every row."""
        return fgsm(scene.network, x, y, ball, generator=generator, detector=scene.detector, stop=not scene.transfer)


def fgsm(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    generator: torch.Generator,
    loss: Loss = cross_entropy,
    detector: Detector | None = None,
    stop: bool = True,
) -> Ascent:
    """One step up `loss` from rows `x (n, *shape)` decided as `y (n,)`, clipped to `ball`."""
    if ball.empty:
        return Ascent.nothing(x)
    return ascend(
        network, x, y, ball, loss=loss, steps=1, generator=generator, random_start=False, detector=detector, stop=stop
    )
