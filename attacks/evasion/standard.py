"""The standard evaluation: Auto-PGD with two losses, then Square; per row the worst of all.

Cross-entropy and the margin ratio fail on different models, and Square needs no gradient at all, so a model that
withstands the three is unlikely to owe it to masked gradients. Later searches run only on rows still standing.

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, sec. 5 (AutoAttack; the minimal-norm attack FAB is left out).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medward.attacks.evasion.apgd import TARGETS, worst_case_apgd
from medward.attacks.evasion.per_image import Tally, WhiteBox, score_query
from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.evasion.square import square
from medward.attacks.whitebox.ascent import Ascent, loss_and_gradient, margin_loss
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.network import Detector


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard(WhiteBox):
    """The attack: `steps` and `restarts` of Auto-PGD, `queries` of Square for each row, on the network."""

    steps: int = 100
    restarts: int = 2
    targets: int = TARGETS
    queries: int = 5000

    @property
    def name(self) -> str:
        """``standard``."""
        return "standard"

    @property
    def effort(self) -> int:
        """Steps per run of Auto-PGD."""
        return self.steps

    def search(self, scene: EvasionSetup, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """The worst case per row."""
        return worst_case_standard(
            scene.network,
            x,
            y,
            ball,
            generator,
            steps=self.steps,
            restarts=self.restarts,
            targets=self.targets,
            queries=self.queries,
            detector=scene.detector,
            stop=not scene.transfer,
        )


def worst_case_standard(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    generator: torch.Generator,
    *,
    steps: int = 100,
    restarts: int = 2,
    targets: int = TARGETS,
    queries: int = 5000,
    detector: Detector | None = None,
    stop: bool = True,
) -> Ascent:
    """The worst case per row `x (n, *shape)` decided as `y (n,)`; a row already decided otherwise is won as it is.

    With a `detector` Square counts a row that would be stopped as withheld.
    """
    tally = Tally(x, stop=stop)
    if ball.empty or not len(x):
        return tally.best
    seen = loss_and_gradient(network, x, y, loss=margin_loss, detector=detector, climb=False)
    tally.add(tally.standing, Ascent(x, seen.win, seen.value))
    if steps > 0 and len(rows := tally.standing):
        climbed = worst_case_apgd(
            network,
            x[rows],
            y[rows],
            ball,
            steps=steps,
            restarts=restarts,
            targets=targets,
            generator=generator,
            detector=detector,
            stop=stop,
        )
        tally.add(rows, climbed)
    if queries > 0 and len(rows := tally.standing):
        ask = score_query(network, detector)
        tally.add(rows, square(ask, x[rows], y[rows], ball, queries=queries, rescale=False, generator=generator))
    return tally.best
