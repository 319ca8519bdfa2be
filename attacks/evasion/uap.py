"""Universal adversarial perturbation: one small change that, added to any input, changes the decision.

Minibatch ascent along the steepest direction of the norm, with momentum, so that a step follows the rows of earlier
batches too, and a step that shrinks to a small one. Restarts take turns with two losses, because what wins depends on
the radius: a clamped cross-entropy follows the rows that are about to fall, gathers them in one class and so needs the
smaller radius; the `flip_loss` loss follows the rows that still stand, and only it turns both classes of two into each
other. A batch's own decisions estimate the success of an epoch, so that all rows are asked only about the few
perturbations worth keeping.

Reference: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal adversarial training", AAAI 2020,
alg. 1 and eq. 4 (clamped cross-entropy); Dong, Liao, Pang, Su, Zhu, Hu, Li, "Boosting adversarial attacks with
momentum", CVPR 2018, eq. 6 (momentum of normalised slopes); Hirano, Minagi, Takemoto, "Universal adversarial attacks
on deep neural networks for medical image classification", BMC Medical Imaging 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.evasion.universal import (
    Goal,
    Universal,
    WhiteBoxUniversal,
    apply_perturbation,
    rows_won,
    shares_won,
)
from medward.attacks.whitebox.ascent import cross_entropy, input_gradient, margin_loss, scores_and_features
from medward.attacks.whitebox.ball import SMALLEST_RADIUS, Ball
from medward.attacks.whitebox.network import Detector
from medward.guard.policy import Policy

MARGIN_CLAMP = 9.0  # beta of eq. 4: a row this far beyond the boundary pulls no more
FIRST, LAST, SHRINKS = 0.8, 0.03, 0.7  # the step in radii, at first and in the end, and the share of epochs between
UAP_MOMENTUM = 0.9  # what stays of the direction of earlier batches
_CLEARLY = 0.02  # what an earlier epoch must have on the last to be looked at again
SCALES = (1.0, 0.7, 0.4)  # a detector-aware attacker also tries its perturbation turned down


@dataclass(frozen=True, slots=True, kw_only=True)
class UniversalPerturbation(WhiteBoxUniversal):
    """Universal perturbation attack: one small change for all inputs, by gradient ascent."""

    epochs: int = 12
    restarts: int = 2
    batch: int = 50

    @property
    def technique(self) -> str:
        """``uap``."""
        return "uap"

    @property
    def effort(self) -> int:
        """Passes over the craft rows."""
        return self.epochs

    def adaptive(self, policy: Policy) -> UniversalPerturbation:
        """The same attacker, knowing the screens and the rate `policy` sets them; it also lowers its strangeness."""
        return replace(self, rate=policy.screen.rate)

    def craft(
        self,
        scene: EvasionSetup,
        x: Tensor,
        y: Tensor,
        goal: Goal,
        detector: Detector | None,
        generator: torch.Generator,
    ) -> Universal:
        """The ascent from every start."""
        return craft_universal(
            scene.network,
            x,
            y,
            scene.ball,
            goal=goal,
            epochs=self.epochs,
            restarts=self.restarts,
            batch=self.batch,
            detector=detector,
            generator=generator,
        )


def attack_knowing_screens(attack: WhiteBoxUniversal, policy: Policy) -> UniversalPerturbation:
    """What an attacker whose technique cannot follow the screens' gradient does instead: the ascent, all else equal."""
    return UniversalPerturbation(
        epsilon=attack.epsilon,
        norm=attack.norm,
        rules=attack.rules,
        target_class=attack.target_class,
        craft_on=attack.craft_on,
        device=attack.device,
        access=attack.access,
        rate=policy.screen.rate,
    )


def craft_universal(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    goal: Goal,
    epochs: int,
    restarts: int,
    batch: int,
    detector: Detector | None,
    generator: torch.Generator,
) -> Universal:
    """The best perturbation over all restarts, on rows `x (n, *shape)` decided as `y (n,)`."""
    best, spent = Universal.nothing(x), 0
    for restart in range(restarts if len(x) and epochs > 0 and not ball.empty else 0):
        start = torch.zeros_like(x[:1]) if restart < 2 else ball.surface(tuple(x[:1].shape), generator)
        kept, seen = ascend_universal(
            network,
            x,
            y,
            ball,
            start,
            loss=restart % 2,
            goal=goal,
            epochs=epochs,
            batch=batch,
            detector=detector,
            generator=generator,
        )
        spent += len(x) * len(seen)
        found = _best(network, x, y, ball, seen, kept, goal, detector)
        if found.success > best.success or not best.history:
            best = found
        if best.success == 1.0:
            break
    return replace(best, gradients=spent)


def ascend_universal(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    start: Tensor,
    *,
    loss: int,
    goal: Goal,
    epochs: int,
    batch: int,
    detector: Detector | None,
    generator: torch.Generator,
) -> tuple[list[Tensor], list[float]]:
    """One start of the ascent: the perturbation ``(1, *shape)`` after each epoch, and the success its batches met.

    `loss` 0 is the clamped cross-entropy, 1 the one that follows rows still standing. It ends early after an epoch
    whose every row was won.
    """
    kept, seen, weight = [], [], 1.0
    delta, course = start, torch.zeros_like(start)
    momentum = UAP_MOMENTUM if detector is None else 0.0  # the weight of the penalty changes, so old slopes mislead
    for epoch in range(epochs):
        size = FIRST * (LAST / FIRST) ** min(1.0, epoch / max(SHRINKS * (epochs - 1), 1))
        won = free = torch.zeros((), dtype=torch.int64, device=x.device)
        for rows in torch.split(torch.randperm(len(x), generator=generator).to(x.device), batch):
            shared = delta.clone().requires_grad_(True)
            inputs = apply_perturbation(ball, x[rows], shared)
            scores, features = scores_and_features(network, inputs)
            objective, released = _objective(scores, y[rows], loss, goal), torch.ones_like(rows, dtype=torch.bool)
            if detector is not None:
                strange = detector.strangeness(inputs, scores, features)
                objective, released = objective - weight * detector.penalty(strange), detector.released(strange)
            won, free = won + (rows_won(scores, y[rows], goal) & released).sum(), free + released.sum()
            slope = input_gradient(objective, shared)
            course = momentum * course + slope / slope.abs().mean().clamp_min(SMALLEST_RADIUS)
            delta = ball.shrink(delta + size * ball.step(course))
        weight *= 1.5 if int(free) < 0.9 * len(x) else 0.9
        kept.append(delta)
        seen.append(int(won) / len(x))
        if seen[-1] == 1.0:
            break
    return kept, seen


def _best(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    seen: list[float],
    kept: list[Tensor],
    goal: Goal,
    detector: Detector | None,
) -> Universal:
    """The last perturbation, or that of an epoch that was clearly better, whichever wins more rows.

    `seen` is the success of each epoch as its batches met it, `kept` the perturbation at its end.
    """
    promising = {len(seen) - 1}
    if max(seen) > seen[-1] + _CLEARLY or detector is not None:
        promising.add(max(range(len(seen)), key=lambda epoch: seen[epoch]))
    best, best_value = kept[-1], (-1.0, 0.0)
    for epoch in sorted(promising):
        for scale in SCALES if detector is not None else (1.0,):
            value = shares_won(network, x, y, ball, kept[epoch] * scale, goal, detector)
            if value > best_value:
                best, best_value = kept[epoch] * scale, value
    return Universal(best, best_value[0], seen, 0)


def _objective(scores: Tensor, y: Tensor, loss: int, goal: Goal) -> Tensor:
    """What one row adds to the ascent, ``(n,)``."""
    if goal is None:
        return flip_loss(scores, y) if loss else cross_entropy(scores, y).clamp(max=MARGIN_CLAMP)
    aim = torch.full_like(y, goal)
    return (-(margin_loss if loss else cross_entropy)(scores, aim)).clamp(max=MARGIN_CLAMP)


def flip_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """-log(1 + exp(-margin)) per row ``(n,)``: log of the chance of the best other class against the label.

    Its slope is full on rows far from falling and none on rows far beyond; inflated logits do not end it.
    """
    return -F.softplus(-margin_loss(scores, labels))
