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
from torch import Tensor

from medward.attacks.evasion.perturbation import Universal, apply_perturbation, shares_won
from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.evasion.uap import UniversalPerturbation, attack_knowing_screens
from medward.attacks.evasion.white_box_universal import WhiteBoxUniversal
from medward.attacks.whitebox.ball import Norm
from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.forward import input_gradient, scores_and_features
from medward.attacks.whitebox.search import Search
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

    def craft(self, search: Search, x: Tensor, y: Tensor) -> Universal:
        """The loop over the craft rows. No screen is known to it."""
        if search.detector is not None:
            raise MedwardError("rate: this loop cannot follow a screen; use adaptive(policy), which can")
        ball = search.ball
        if not self.faithful:
            return mended_ifgsm(search, x, y, passes=self.passes)
        if ball.low is None or ball.high is None:
            raise MedwardError("faithful: the published step is a share of the range of images, and this has no bounds")
        return published_ifgsm(search, x, y, step=INNER * (ball.high - ball.low), passes=self.passes)

    def craft_rows(self, scene: EvasionSetup, aim: Criterion) -> tuple[Tensor, Tensor]:
        """As published all craft rows, those in the target class too."""
        if self.faithful:
            return scene.craft, scene.craft_labels
        return super(IterativeFGSM, self).craft_rows(scene, aim)


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


def published_ifgsm(search: Search, x: Tensor, y: Tensor, *, step: float, passes: int) -> Universal:
    """The published loop on rows `x (n, *shape)` decided as `y (n,)`; `step` is in input units.

    The perturbation is the last one; success counts every row, those in the target class to begin with too.
    """
    free = replace(search, ball=replace(search.ball, low=None, high=None))
    delta, history, spent = Universal.nothing(x).delta, [0.0], 0
    while len(history) <= passes and len(x) and history[-1] < _ENOUGH:
        for row in torch.randperm(len(x), generator=search.generator).tolist():
            own, point = y[row : row + 1], x[row : row + 1] + delta
            slope, there = _slope(search, point, own)
            if there:
                continue
            spent += 1
            moved = point + step * slope.sign()
            if search.won(moved, own):
                delta = free.ball.shrink(moved - x[row : row + 1])
        history.append(shares_won(free, x, y, delta)[0])
    return Universal(delta, history[-1], history[1:], spent)


def mended_ifgsm(search: Search, x: Tensor, y: Tensor, *, passes: int) -> Universal:
    """The mended loop on rows `x (n, *shape)` decided as `y (n,)`, none of them won as it is."""
    best, ball = Universal.nothing(x), search.ball
    delta, history, spent = best.delta, [], 0
    for _ in range(passes if len(x) and not ball.empty else 0):
        for row in torch.randperm(len(x), generator=search.generator).tolist():
            own, image = y[row : row + 1], x[row : row + 1]
            for _ in range(STEPS):
                slope, there = _slope(search, apply_perturbation(ball, image, delta), own)
                if there:
                    break
                spent += 1
                delta = ball.shrink(delta + STEP * ball.step(slope))
        history.append(shares_won(search, x, y, delta)[0])
        if history[-1] > best.success:
            best = Universal(delta, history[-1], [], 0)
        if history[-1] == 1.0:
            break
    return replace(best, history=history, gradients=spent)


def _slope(search: Search, point: Tensor, own: Tensor) -> tuple[Tensor, bool]:
    """Where one row's loss, the criterion's first, rises, and whether the row has won already."""
    point = point.detach().requires_grad_(True)
    scores, _ = scores_and_features(search.network, point)
    if bool(search.criterion.margin(scores.detach(), own) > 0):
        return torch.zeros_like(point), True
    loss = next(iter(search.criterion.losses.values()))
    return input_gradient(loss(scores, own), point), False
