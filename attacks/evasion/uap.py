"""Universal adversarial perturbation: one small change that, added to any input, changes the decision.

Minibatch sign-gradient ascent on a clamped loss. Restarts alternate cross-entropy and margin; the step
shrinks every epoch; the best iterate on the craft rows is kept, not the last. For images `epsilon`
is in input units, for tables in standard deviations of each feature over the craft rows.

Reference: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal adversarial training", AAAI 2020,
alg. 1 and eq. 4 (clamped cross-entropy); Hirano, Minagi, Takemoto, "Universal adversarial attacks on deep
neural networks for medical image classification", BMC Medical Imaging 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from attacks.adaptive import Detector
from attacks.ascent import BATCH, LOSSES, both, decide, gradient
from attacks.ball import Ball
from attacks.base import Access, AttackData, AttackResult, Family, ThreatModel
from attacks.checks import found_nothing, run_flags
from attacks.evasion.scene import CURVE_ROWS, NO_ROWS, Bools, Scene, curve, knowledge
from attacks.target import Target
from guard.errors import MedwardError
from guard.policy import Policy

CLAMP = 9.0  # beta of eq. 4: a row this far beyond the boundary pulls no more
STEP, DECAY = 0.8, 0.9  # the first step in radii, and what each epoch leaves of it
PATIENCE = 4  # epochs without gain after which a restart ends
SCALES = (1.0, 0.7, 0.4)  # a detector-aware attacker also tries its perturbation turned down


@dataclass(frozen=True, slots=True, kw_only=True)
class UniversalPerturbation:
    """The attack.

    With `target_class` it is targeted: success is being answered that class, on rows that were not before.
    `rate` makes it detector-aware (see `adaptive`); `access` below GRADIENTS makes it a transfer attack.
    """

    epsilon: float
    target_class: int | None = None
    epochs: int = 12
    restarts: int = 2
    batch: int = 50
    rate: float | None = None
    access: Access = Access.GRADIENTS
    device: str = "cpu"

    @property
    def name(self) -> str:
        """``uap`` or ``uap-targeted``."""
        return "uap" if self.target_class is None else "uap-targeted"

    @property
    def family(self) -> Family:
        """Evasion."""
        return "evasion"

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do."""
        return ThreatModel(
            access=self.access, epsilon=self.epsilon, accounts=None, knowledge=knowledge(self.access, self.rate)
        )

    def adaptive(self, policy: Policy) -> UniversalPerturbation:
        """The same attacker, knowing the screens and the rate `policy` sets them; it also lowers its strangeness."""
        return replace(self, rate=policy.screen.rate)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Craft on ``data.craft``, judge on ``data.test`` by asking the target.

        `outcome` has one entry per test row (targeted: per test row the model does not already give that
        class). `baseline` is one random sign vector of the same norm, drawn from `seed` and added to every
        row. The curves scale the crafted and the random vector, on the first `CURVE_ROWS` rows; the crafting
        is not repeated for each radius.
        """
        goal, last = self.target_class, len(target.spec.classes) - 1
        if goal is not None and not 0 <= goal <= last:
            raise MedwardError(f"target_class: must be a class from 0 to {last}, got {goal}")
        scene = Scene.set(target, data, epsilon=self.epsilon, rate=self.rate, device=self.device, seed=seed)
        x, y = _others(scene.test, scene.test_labels, goal)
        if not len(x):
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        generator = torch.Generator().manual_seed(seed)

        def crafting(detector: Detector | None) -> Universal:
            return craft(
                scene.network,
                *_others(scene.craft, scene.craft_labels, goal),
                scene.ball,
                goal=goal,
                epochs=self.epochs,
                restarts=self.restarts,
                batch=self.batch,
                detector=detector,
                generator=generator,
            )

        crafted = crafting(scene.detector)
        noise = scene.ball.surface((1, *target.spec.shape), generator)

        def fooled(delta: Tensor, rows: int) -> Bools:
            return scene.fooled(target, x[:rows], scene.ball.clip(x[:rows] + delta), y[:rows], goal)

        def share(delta: Tensor) -> float:
            labels = decide(scene.network, scene.ball.clip(x + delta))
            return float((labels != y if goal is None else labels == goal).float().mean())

        outcome, baseline = fooled(crafted.delta, len(x)), fooled(noise, len(x))
        attacked = curve(lambda k: float(fooled(crafted.delta * k, CURVE_ROWS).mean()), self.epsilon)
        random = curve(lambda k: float(fooled(noise * k, CURVE_ROWS).mean()), self.epsilon)
        flags = run_flags(
            steps=self.epochs,
            delta=crafted.delta,
            success=share(crafted.delta),
            noise=share(noise) if scene.detector is None else 0.0,
            n=min(len(x), CURVE_ROWS),
            history=crafted.history,
            curve=attacked if target.withheld == 0 else ([], []),
            withheld=scene.withheld,
        )
        if scene.detector is not None and crafted.success == 0:
            flags += found_nothing(crafting(None).success)
        return AttackResult(
            outcome=outcome,
            baseline=baseline,
            queries=target.queries,
            gradients=crafted.gradients,
            flags=(*flags, *scene.flags(target, seed)),
            curves={self.name: attacked, "random signs": random},
            images={"perturbation": crafted.delta[0].cpu().numpy()},
        )


@dataclass(frozen=True, slots=True)
class Universal:
    """A perturbation ``(1, *shape)``, the share of craft rows won, that per epoch, row gradients spent."""

    delta: Tensor
    success: float
    history: list[float]
    gradients: int


def craft(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    goal: int | None,
    epochs: int,
    restarts: int,
    batch: int,
    detector: Detector | None,
    generator: torch.Generator,
) -> Universal:
    """The best perturbation over all restarts, on rows `x (n, *shape)` decided as `y (n,)`."""
    best = Universal(torch.zeros_like(x[:1]), 0.0, [], 0)
    spent = 0
    for restart in range(restarts if len(x) and epochs > 0 and not ball.empty else 0):
        loss = list(LOSSES)[restart % len(LOSSES)]
        start = torch.zeros_like(x[:1]) if restart < len(LOSSES) else ball.surface(tuple(x[:1].shape), generator)
        found = _climb(network, x, y, ball, start, loss, goal, epochs, batch, detector, generator)
        spent += found.gradients
        if found.success > best.success or not best.history:
            best = found
    return replace(best, gradients=spent)


def _climb(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    delta: Tensor,
    loss: str,
    goal: int | None,
    epochs: int,
    batch: int,
    detector: Detector | None,
    generator: torch.Generator,
) -> Universal:
    best, best_value, history, spent, weight = delta, (-1.0, 0.0), [], 0, 1.0
    for epoch in range(epochs):
        shuffled = torch.randperm(len(x), generator=generator).to(x.device)
        for first in range(0, len(x), batch):
            rows = shuffled[first : first + batch]
            shared = delta.clone().requires_grad_(True)
            inputs = ball.clip(x[rows] + shared)
            scores, features = both(network, inputs)
            objective = _objective(scores, y[rows], loss, goal)
            if detector is not None:
                strange = detector.strangeness(inputs, scores, features)
                objective = objective - weight * detector.penalty(strange)
            slope = gradient(objective, shared)
            spent += len(rows)
            delta = delta + STEP * DECAY**epoch * ball.radius * slope.sign()
            delta = torch.maximum(torch.minimum(delta, ball.radius), -ball.radius)
        for scale in SCALES if detector is not None else (1.0,):
            won, quiet = _shares(network, x, y, ball, delta * scale, goal, detector)
            if (won, quiet) > best_value:
                best, best_value = delta * scale, (won, quiet)
        history.append(best_value[0])
        weight *= 1.5 if quiet < 0.9 else 0.9
        stale = len(history) > PATIENCE and history[-1] == history[-1 - PATIENCE]
        if best_value[0] == 1.0 or (stale and detector is None):
            break
    return Universal(best, max(best_value[0], 0.0), history, spent)


def _objective(scores: Tensor, y: Tensor, loss: str, goal: int | None) -> Tensor:
    """What one row adds to the ascent, clamped."""
    if goal is None:
        return LOSSES[loss](scores, y).clamp(max=CLAMP)
    return (-LOSSES[loss](scores, torch.full_like(y, goal))).clamp(max=CLAMP)


@torch.no_grad()
def _shares(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    delta: Tensor,
    goal: int | None,
    detector: Detector | None,
) -> tuple[float, float]:
    """The share of rows that win, and the share the detector would release."""
    won = free = 0
    for first in range(0, len(x), BATCH):
        inputs = ball.clip(x[first : first + BATCH] + delta)
        scores, features = both(network, inputs)
        labels = scores.argmax(dim=1)
        fooled = labels != y[first : first + BATCH] if goal is None else labels == goal
        released = torch.ones_like(fooled)
        if detector is not None:
            released = detector.released(detector.strangeness(inputs, scores, features))
        won += int((fooled & released).sum())
        free += int(released.sum())
    return won / len(x), free / len(x)


def _others(x: Tensor, y: Tensor, goal: int | None) -> tuple[Tensor, Tensor]:
    """The rows a targeted attack has something to win on: those not already in class `goal`."""
    if goal is None:
        return x, y
    return x[y != goal], y[y != goal]
