"""Universal adversarial perturbation: one small change that, added to any input, changes the decision.

Minibatch ascent along the steepest direction of the norm, with momentum, so that a step follows the rows of earlier
batches too, and a step that shrinks to a small one. Restarts take turns with two losses, because what wins depends on
the radius: a clamped cross-entropy follows the rows that are about to fall, gathers them in one class and so needs the
smaller radius; the log of the chance of winning follows the rows that still stand, and only it turns both classes of
two into each other (`attacks.whitebox.criterion`). A batch's own decisions estimate the success of an epoch, so that
all rows are asked only about the few perturbations worth keeping.

Within a smaller ball the ascents begin at what was found in the next larger one, cut to size, and must beat that cut.
On PneumoniaMNIST this wins as many rows as beginning anew or more, in a third of the epochs (without screens; where
these are followed the slope changes more, and the first loss is given all epochs). It is not so everywhere: on
made-up rows of two classes that must change into each other, beginning anew won clearly more in one of three draws.

Reference: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal adversarial training", AAAI 2020,
alg. 1 and eq. 4 (clamped cross-entropy); Dong, Liao, Pang, Su, Zhu, Hu, Li, "Boosting adversarial attacks with
momentum", CVPR 2018, eq. 6 (momentum of normalised slopes); Hirano, Minagi, Takemoto, "Universal adversarial attacks
on deep neural networks for medical image classification", BMC Medical Imaging 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medward.attacks.evasion.perturbation import Universal, apply_perturbation, shares_won
from medward.attacks.evasion.white_box_universal import WhiteBoxUniversal
from medward.attacks.whitebox.ball import SMALLEST_RADIUS
from medward.attacks.whitebox.forward import input_gradient, scores_and_features
from medward.attacks.whitebox.losses import LossFunction
from medward.attacks.whitebox.search import Search
from medward.guard.policy import Policy

FIRST, LAST, SHRINKS = 0.8, 0.03, 0.7  # the step in radii, at first and in the end, and the share of epochs between
REFINED = 3  # of the epochs the share, one in so many, that an ascent takes which begins at a larger perturbation
LEAST_EPOCHS = 4  # of such an ascent, so that it can be seen to have converged
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

    def craft(self, search: Search, x: Tensor, y: Tensor) -> Universal:
        """The ascent from every start."""
        return craft_universal(search, x, y, epochs=self.epochs, restarts=self.restarts, batch=self.batch)

    def refine(self, search: Search, x: Tensor, y: Tensor, larger: Universal) -> Universal:
        """The ascent from what a larger ball gave."""
        return refine_universal(search, x, y, larger, epochs=self.epochs, batch=self.batch)


def attack_knowing_screens(attack: WhiteBoxUniversal, policy: Policy) -> UniversalPerturbation:
    """What an attacker whose technique cannot follow the screens' gradient does instead: the ascent, all else equal."""
    return UniversalPerturbation(
        epsilon=attack.epsilon,
        norm=attack.norm,
        rules=attack.rules,
        aim=attack.aim,
        decide=attack.decide,
        target_class=attack.target_class,
        craft_on=attack.craft_on,
        device=attack.device,
        access=attack.access,
        rate=policy.screen.rate,
    )


def craft_universal(search: Search, x: Tensor, y: Tensor, *, epochs: int, restarts: int, batch: int) -> Universal:
    """The best perturbation over all restarts, on rows `x (n, *shape)` decided as `y (n,)`."""
    best, spent, ball = Universal.nothing(x), 0, search.ball
    losses = search.criterion.shared_losses
    for restart in range(restarts if len(x) and epochs > 0 and not ball.empty else 0):
        start = torch.zeros_like(x[:1]) if restart < 2 else ball.surface(tuple(x[:1].shape), search.generator)
        loss = losses[restart % len(losses)]
        kept, seen = ascend_universal(search, x, y, start, loss=loss, epochs=epochs, batch=batch)
        spent += len(x) * len(seen)
        found = _best(search, x, y, seen, kept)
        if found.success > best.success or not best.history:
            best = found
        if best.success == 1.0:
            break
    return replace(best, gradients=spent)


def refine_universal(search: Search, x: Tensor, y: Tensor, larger: Universal, *, epochs: int, batch: int) -> Universal:
    """A perturbation of rows `x (n, *shape)` decided as `y (n,)`; the ascents begin at that of a `larger` ball.

    `epochs` is what an ascent from nothing takes.
    """
    if not len(x) or epochs <= 0 or search.ball.empty:
        return Universal.nothing(x)
    start, spent = search.ball.shrink(larger.delta), 0
    best = Universal(start, shares_won(search, x, y, start)[0], [], 0)
    fewer = min(epochs, max(LEAST_EPOCHS, math.ceil(epochs / REFINED)))
    for number, loss in enumerate(search.criterion.shared_losses):
        given = epochs if search.detector is not None and number == 0 else fewer
        kept, seen = ascend_universal(search, x, y, start, loss=loss, epochs=given, batch=batch)
        found, spent = _best(search, x, y, seen, kept), spent + len(x) * len(seen)
        best = found if found.success > best.success else replace(best, history=best.history or seen)
    return replace(best, gradients=spent)


def ascend_universal(
    search: Search, x: Tensor, y: Tensor, start: Tensor, *, loss: LossFunction, epochs: int, batch: int
) -> tuple[list[Tensor], list[float]]:
    """One start of the ascent on `loss`: the perturbation ``(1, *shape)`` after each epoch, the success it met.

    It ends early after an epoch whose every row was won.
    """
    ball, detector = search.ball, search.detector
    kept, seen, weight = [], [], 1.0
    delta, course = start, torch.zeros_like(start)
    momentum = UAP_MOMENTUM if detector is None else 0.0  # the weight of the penalty changes, so old slopes mislead
    for epoch in range(epochs):
        size = FIRST * (LAST / FIRST) ** min(1.0, epoch / max(SHRINKS * (epochs - 1), 1))
        won = free = torch.zeros((), dtype=torch.int64, device=x.device)
        for rows in torch.split(torch.randperm(len(x), generator=search.generator).to(x.device), batch):
            shared = delta.clone().requires_grad_(True)
            inputs = apply_perturbation(ball, x[rows], shared)
            scores, features = scores_and_features(search.network, inputs)
            objective, released = loss(scores, y[rows]), torch.ones_like(rows, dtype=torch.bool)
            if detector is not None:
                strange = detector.strangeness(inputs, scores, features)
                objective, released = objective - weight * detector.penalty(strange), detector.released(strange)
            fallen = (search.criterion.margin(scores.detach(), y[rows]) > 0) & released
            won, free = won + fallen.sum(), free + released.sum()
            slope = input_gradient(objective, shared)
            course = momentum * course + slope / slope.abs().mean().clamp_min(SMALLEST_RADIUS)
            delta = ball.shrink(delta + size * ball.step(course))
        weight *= 1.5 if int(free) < 0.9 * len(x) else 0.9
        kept.append(delta)
        seen.append(int(won) / len(x))
        if seen[-1] == 1.0:
            break
    return kept, seen


def _best(search: Search, x: Tensor, y: Tensor, seen: list[float], kept: list[Tensor]) -> Universal:
    """The last perturbation, or that of an epoch that was clearly better, whichever wins more rows.

    `seen` is the success of each epoch as its batches met it, `kept` the perturbation at its end.
    """
    promising = {len(seen) - 1}
    if max(seen) > seen[-1] + _CLEARLY or search.detector is not None:
        promising.add(max(range(len(seen)), key=lambda epoch: seen[epoch]))
    best, best_value = kept[-1], (-1.0, 0.0)
    for epoch in sorted(promising):
        for scale in SCALES if search.detector is not None else (1.0,):
            value = shares_won(search, x, y, kept[epoch] * scale)
            if value > best_value:
                best, best_value = kept[epoch] * scale, value
    return Universal(best, best_value[0], seen, 0)
