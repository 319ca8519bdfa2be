"""Projected gradient descent: the standard per-input attack, and the floor under every universal one.

Every restart tries cross-entropy and margin from its own random start; a row is done at its first adversarial
iterate, so later restarts cost only what still stands. For images `epsilon` is in input units, for tables in
standard deviations of each feature over the craft rows.

Reference: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to adversarial
attacks", ICLR 2018, sec. 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from attacks.adaptive import Detector
from attacks.ascent import LOSSES, Ascent, ascend, decide, margin
from attacks.ball import Ball
from attacks.base import Access, AttackData, AttackResult, Family, ThreatModel
from attacks.checks import found_nothing, run_flags
from attacks.evasion.scene import CURVE_ROWS, NO_ROWS, Scene, curve, knowledge
from attacks.target import Target
from guard.policy import Policy

CURVE_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PGD:
    """The attack. `rate` makes it detector-aware, `access` below GRADIENTS a transfer attack."""

    epsilon: float
    steps: int = 40
    restarts: int = 2
    rate: float | None = None
    access: Access = Access.GRADIENTS
    device: str = "cpu"

    @property
    def name(self) -> str:
        """``pgd``."""
        return "pgd"

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

    def adaptive(self, policy: Policy) -> PGD:
        """The same attacker, knowing the screens and the rate `policy` sets them; it also lowers its strangeness."""
        return replace(self, rate=policy.screen.rate)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Attack every row of ``data.test``; judged by asking the target.

        `baseline` is one random sign vector per row. The curves attack the first `CURVE_ROWS` rows anew at
        each radius, with one restart of `CURVE_STEPS` steps.
        """
        scene = Scene.set(target, data, epsilon=self.epsilon, rate=self.rate, device=self.device, seed=seed)
        x, y = scene.test, scene.test_labels
        if not len(x):
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        generator = torch.Generator().manual_seed(seed)
        found = self._attack(scene, x, y, scene.ball, self.steps, self.restarts, generator)
        noisy = scene.ball.clip(x + scene.ball.surface(tuple(x.shape), generator))
        outcome, baseline = scene.fooled(target, x, found.adversarial, y), scene.fooled(target, x, noisy, y)
        some, theirs = x[:CURVE_ROWS], y[:CURVE_ROWS]

        def at(factor: float) -> float:
            steps = min(self.steps, CURVE_STEPS)
            weaker = self._attack(scene, some, theirs, scene.ball.scaled(factor), steps, 1, generator)
            return float(scene.fooled(target, some, weaker.adversarial, theirs).mean())

        def noise_at(factor: float) -> float:
            change = (noisy[:CURVE_ROWS] - some) * factor
            return float(scene.fooled(target, some, scene.ball.clip(some + change), theirs).mean())

        attacked, random = curve(at, self.epsilon), curve(noise_at, self.epsilon)
        flags = run_flags(
            steps=self.steps,
            delta=found.adversarial - x,
            success=float((decide(scene.network, found.adversarial) != y).float().mean()),
            noise=float((decide(scene.network, noisy) != y).float().mean()) if scene.detector is None else 0.0,
            n=len(x),
            history=found.history,
            curve=attacked if target.withheld == 0 else ([], []),
            withheld=scene.withheld,
        )
        if scene.detector is not None and not found.won.any():
            unaware = replace(scene, detector=None)
            plain = self._attack(unaware, x, y, scene.ball, self.steps, self.restarts, generator)
            flags += found_nothing(float(plain.won.float().mean()))
        return AttackResult(
            outcome=outcome,
            baseline=baseline,
            queries=target.queries,
            gradients=found.gradients,
            flags=(*flags, *scene.flags(target, seed)),
            curves={self.name: attacked, "random signs": random},
        )

    def _attack(
        self,
        scene: Scene,
        x: Tensor,
        y: Tensor,
        ball: Ball,
        steps: int,
        restarts: int,
        generator: torch.Generator,
    ) -> Ascent:
        return strongest(
            scene.network,
            x,
            y,
            ball,
            steps=steps,
            restarts=restarts,
            generator=generator,
            detector=scene.detector,
            stop=not scene.transfer,
        )


def strongest(
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
    best = Ascent(x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device), 0, [])
    if ball.empty or steps <= 0:
        return best
    reach = torch.full((len(x),), -torch.inf, device=x.device)
    for attempt in range(restarts * len(LOSSES)):
        rows = torch.nonzero(~best.won)[:, 0] if stop else torch.arange(len(x), device=x.device)
        if not len(rows):
            break
        found = ascend(
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
        with torch.no_grad():
            value = margin(network(found.adversarial), y[rows])
        better = (value > reach[rows]) | (found.won if stop else torch.zeros_like(found.won))
        already = float(best.won.float().sum()) - float(best.won[rows].float().sum())
        best.adversarial[rows[better]], reach[rows[better]] = found.adversarial[better], value[better]
        best.won[rows] |= found.won
        best.gradients += found.gradients
        best.history.extend((already + share * len(rows)) / len(x) for share in found.history)
    return best
