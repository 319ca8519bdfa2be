"""Projected gradient descent: the standard per-input attack, and the floor under every universal one.

Every restart tries cross-entropy and margin from its own random start; a row is done at its first adversarial
iterate, so later restarts cost only what still stands.

Reference: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to adversarial
attacks", ICLR 2018, sec. 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medward.attacks.evasion.per_image import Tally, WhiteBox
from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.whitebox.ascent import LOSSES, Ascent, projected_ascent
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.network import Detector


@dataclass(frozen=True, slots=True, kw_only=True)
class PGD(WhiteBox):
    """The attack: `restarts` times `steps` steps with either loss."""

    steps: int = 40
    restarts: int = 2

    @property
    def name(self) -> str:
        """``pgd``."""
        return "pgd"

    @property
    def effort(self) -> int:
        """Steps per restart."""
        return self.steps

    def search(self, scene: EvasionSetup, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """The worst case per row."""
        return worst_case_pgd(
            scene.network,
            x,
            y,
            ball,
            steps=self.steps,
            restarts=self.restarts,
            generator=generator,
            detector=scene.detector,
            stop=not scene.transfer,
        )


def worst_case_pgd(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    steps: int,
    restarts: int,
    generator: torch.Generator,
    detector: Detector | None = None,
    stop: bool = True,
) -> Ascent:
    """The worst case per row over `restarts` random starts and both losses.

    Without `stop` (transfer) every row is climbed every time and keeps its largest margin on `network`.
    """
    tally = Tally(x, stop=stop)
    for attempt in range(0 if ball.empty or steps <= 0 else restarts * len(LOSSES)):
        rows = tally.standing
        if not len(rows):
            break
        found = projected_ascent(
            network,
            x[rows],
            y[rows],
            ball,
            loss=list(LOSSES.values())[attempt % len(LOSSES)],
            steps=steps,
            generator=generator,
            # A detector sees a random start; its first try is from the clean input.
            random_start=detector is None or attempt >= len(LOSSES),
            detector=detector,
            stop=stop,
        )
        tally.add(rows, found)
    return tally.best
