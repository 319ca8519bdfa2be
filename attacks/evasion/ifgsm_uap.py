"""Universal perturbation by iterative FGSM, image by image: as published, and with its traps mended.

As published (`faithful`) the loop adds one small sign step for each image that still stands, but only where that one
step ends it. So it stalls at exactly zero on a model that no single step moves, and then looks like robustness. It
takes the sign whatever the norm, never clips to the range of images, keeps the last perturbation, and counts images
that were in the target class to begin with. The mended form takes steps until the image falls and keeps them anyway,
in the direction of its norm, clips, and keeps the best. The target is asked about clipped images in both forms, since
an endpoint refuses others.

Reference: Hirano, Minagi, Takemoto, "Universal adversarial attacks on deep neural networks for medical image
classification", BMC Medical Imaging 2021, alg. 1 and the code published with it; after Moosavi-Dezfooli et al.,
"Universal adversarial perturbations", CVPR 2017, alg. 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.evasion.uap import UniversalPerturbation, attack_knowing_screens
from medward.attacks.evasion.universal import (
    Goal,
    Universal,
    WhiteBoxUniversal,
    apply_perturbation,
    rows_won,
    shares_won,
)
from medward.attacks.whitebox.ascent import cross_entropy, input_gradient, scores_and_features
from medward.attacks.whitebox.ball import Ball, Norm
from medward.attacks.whitebox.network import Detector
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Array

PASSES = 15
_ENOUGH = 1 - 1e-6  # success at which the published loop stops
INNER = 0.0024 / 2  # its step, of the range of images
STEP, STEPS = 0.03, 3  # the mended form: radii per step, and steps per image at most


@dataclass(frozen=True, slots=True, kw_only=True)
class IterativeFGSM(WhiteBoxUniversal):
    """The attack; `faithful` is the published form. `zeta_radius` gives the radius the paper would use."""

    passes: int = PASSES
    faithful: bool = False

    @property
    def technique(self) -> str:
        """``ifgsm-uap``, or ``ifgsm-uap-as-published``."""
        return "ifgsm-uap-as-published" if self.faithful else "ifgsm-uap"

    @property
    def effort(self) -> int:
        """Passes over the craft rows."""
        return self.passes

    def adaptive(self, policy: Policy) -> UniversalPerturbation:
        """The ascent that can follow the screens' gradient, at the same radius; this loop cannot."""
        return attack_knowing_screens(self, policy)

    def craft(
        self,
        scene: EvasionSetup,
        x: Tensor,
        y: Tensor,
        goal: Goal,
        detector: Detector | None,
        generator: torch.Generator,
    ) -> Universal:
        """The loop over the craft rows; as published, over those in the target class too. No screen is known to it."""
        if detector is not None:
            raise MedwardError("rate: this loop cannot follow a screen; use adaptive(policy), which can")
        ball = scene.ball
        if not self.faithful:
            return mended_ifgsm(scene.network, x, y, ball, goal=goal, passes=self.passes, generator=generator)
        if ball.low is None or ball.high is None:
            raise MedwardError("faithful: the published step is a share of the range of images, and this has no bounds")
        step = INNER * (ball.high - ball.low)
        x, y = scene.craft, scene.craft_labels
        return published_ifgsm(scene.network, x, y, ball, goal=goal, step=step, passes=self.passes, generator=generator)


def zeta_radius(
    images: Array, zeta: float, *, norm: Norm = "inf", low: float = 0.0, first_channel: bool = False
) -> float:
    """`zeta` (a share, 0.04 in the paper) of the mean norm of `images (n, C, H, W)` above `low`, over all channels.

    `first_channel` takes the norm of channel 0 alone, as the published code does: for RGB under the norm "2" it is
    about sqrt(3) too small.
    """
    rows = np.asarray(images[:, :1] if first_channel else images, np.float64).reshape(len(images), -1) - low
    norms = np.abs(rows).max(axis=1) if norm == "inf" else np.sqrt(np.square(rows).sum(axis=1))
    return float(zeta * norms.mean())


def published_ifgsm(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    goal: Goal,
    step: float,
    passes: int,
    generator: torch.Generator,
) -> Universal:
    """The published loop on rows `x (n, *shape)` decided as `y (n,)`; `step` is in input units.

    The perturbation is the last one; success counts every row, those in the target class to begin with too.
    """
    free = replace(ball, low=None, high=None)
    delta, history, spent = Universal.nothing(x).delta, [0.0], 0
    while len(history) <= passes and len(x) and history[-1] < _ENOUGH:
        for row in torch.randperm(len(x), generator=generator).tolist():
            own, point = y[row : row + 1], x[row : row + 1] + delta
            slope, there = _slope(network, point, own, goal)
            if there:
                continue
            spent += 1
            moved = point + step * slope.sign()
            if _won(network, moved, own, goal):
                delta = free.shrink(moved - x[row : row + 1])
        history.append(shares_won(network, x, y, free, delta, goal, None)[0])
    return Universal(delta, history[-1], history[1:], spent)


def mended_ifgsm(
    network: nn.Module, x: Tensor, y: Tensor, ball: Ball, *, goal: Goal, passes: int, generator: torch.Generator
) -> Universal:
    """The mended loop on rows `x (n, *shape)` decided as `y (n,)`, none of them in class `goal`."""
    best = Universal.nothing(x)
    delta, history, spent = best.delta, [], 0
    for _ in range(passes if len(x) and not ball.empty else 0):
        for row in torch.randperm(len(x), generator=generator).tolist():
            own, image = y[row : row + 1], x[row : row + 1]
            for _ in range(STEPS):
                slope, there = _slope(network, apply_perturbation(ball, image, delta), own, goal)
                if there:
                    break
                spent += 1
                delta = ball.shrink(delta + STEP * ball.step(slope))
        history.append(shares_won(network, x, y, ball, delta, goal, None)[0])
        if history[-1] > best.success:
            best = Universal(delta, history[-1], [], 0)
        if history[-1] == 1.0:
            break
    return replace(best, history=history, gradients=spent)


def _slope(network: nn.Module, point: Tensor, own: Tensor, goal: Goal) -> tuple[Tensor, bool]:
    """Where one row's loss rises (the target's falls), and whether the row has won already."""
    point = point.detach().requires_grad_(True)
    scores, _ = scores_and_features(network, point)
    if bool(rows_won(scores, own, goal)):
        return torch.zeros_like(point), True
    loss = cross_entropy(scores, own) if goal is None else -cross_entropy(scores, torch.full_like(own, goal))
    return input_gradient(loss, point), False


@torch.no_grad()
def _won(network: nn.Module, point: Tensor, own: Tensor, goal: Goal) -> bool:
    return bool(rows_won(scores_and_features(network, point)[0], own, goal))
