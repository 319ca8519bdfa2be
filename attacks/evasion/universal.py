"""What universal attacks share: settings, where they are crafted, one run, and who judges it.

An attack here is settings and a `craft`, which turns rows and the decisions on them into one perturbation; the rest is
the same for all. Images are clipped to their range and whole-numbered features stay whole, in crafting as in judging.
For images `epsilon` is in input units, for tables in standard deviations of each feature over the craft rows; under
the norm "2" it is the length of the change in these units.

Reference: Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, "Universal adversarial perturbations", CVPR 2017; crafting on
natural images only: Minagi, Hirano, Takemoto, "Natural images allow universal adversarial attacks on medical image
classification using deep neural networks with transfer learning", Journal of Imaging 2022.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from attacks.adaptive import Detector, passes
from attacks.ascent import BATCH, both
from attacks.ball import Ball, FeatureRules, Norm
from attacks.base import Access, AttackData, AttackResult, Family, ThreatModel
from attacks.checks import found_nothing, run_flags
from attacks.evasion.scene import CURVE_ROWS, NO_ROWS, Bools, Scene, curve, knowledge
from attacks.target import Target
from guard.data import Split
from guard.errors import MedwardError

Goal = int | None
"""The class to reach, None for any other than before."""


@dataclass(frozen=True, slots=True)
class Universal:
    """A perturbation ``(1, *shape)``, the share of craft rows won, that per epoch, row gradients spent."""

    delta: Tensor
    success: float
    history: list[float]
    gradients: int

    @classmethod
    def nothing(cls, x: Tensor) -> Universal:
        """No change to rows like `x (n, *shape)`, nothing spent."""
        return cls(torch.zeros_like(x[:1]) if len(x) else x.new_zeros((1, *x.shape[1:])), 0.0, [], 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UniversalAttack(ABC):
    """Settings of every universal attack; `rules` say what holds for features of a table.

    With a `target_class` success is being answered that class, on rows that were not before. `craft_on` "pool" crafts
    on the pool of natural images: no medical data is seen.
    """

    epsilon: float
    norm: Norm = "inf"
    rules: FeatureRules | None = None
    target_class: int | Literal["all"] | None = None
    craft_on: Literal["craft", "pool"] = "craft"
    device: str = "cpu"

    @property
    @abstractmethod
    def technique(self) -> str:
        """What the attack is called without its target and its craft rows."""

    @property
    def name(self) -> str:
        """The technique, and how it differs from its plain form: ``uap``, ``uap-targeted``, ``uap-all-natural``."""
        kind = "" if self.target_class is None else "-all" if self.target_class == "all" else "-targeted"
        return f"{self.technique}{kind}{'-natural' if self.craft_on == 'pool' else ''}"

    @property
    def family(self) -> Family:
        """Evasion."""
        return "evasion"

    def goals(self, classes: int) -> tuple[Goal, ...]:
        """What to craft for. Raises `MedwardError` for a class that is not there."""
        if self.target_class == "all":
            return (None, *range(classes))
        if self.target_class is not None and not 0 <= self.target_class < classes:
            raise MedwardError(f"target_class: must be a class from 0 to {classes - 1}, got {self.target_class}")
        return (self.target_class,)

    def held(self, data: AttackData) -> AttackData:
        """What the attacker holds: with "pool" nothing but natural images takes the place of the craft rows."""
        if self.craft_on == "craft":
            return data
        if data.pool is None or not len(data.pool):
            raise MedwardError("craft_on: crafting on natural images needs a pool of them, and there is none")
        return replace(data, craft=Split(data.pool))

    def known(self, words: str) -> str:
        """The threat model in words: `words`, the norm, and what the attacker crafts on."""
        words += "; the radius is an L2 norm" if self.norm == "2" else ""
        return words + ("; no medical data, only natural images" if self.craft_on == "pool" else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteBoxUniversal(UniversalAttack):
    """An attack by gradients. `rate` makes it detector-aware, `access` below GRADIENTS a transfer attack.

    With `target_class` "all" one perturbation is crafted without a target and one for each class, and the one that
    changes the decision on the most craft rows is judged.
    """

    rate: float | None = None
    access: Access = Access.GRADIENTS

    @property
    @abstractmethod
    def effort(self) -> int:
        """How many rounds a run takes; 0 means it never ran."""

    @abstractmethod
    def craft(
        self, scene: Scene, x: Tensor, y: Tensor, goal: Goal, detector: Detector | None, generator: torch.Generator
    ) -> Universal:
        """One perturbation for rows `x (n, *shape)` decided as `y (n,)`, on the scene's network, in its ball."""

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do."""
        words = self.known(knowledge(self.access, self.rate))
        return ThreatModel(access=self.access, epsilon=self.epsilon, accounts=None, knowledge=words)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Craft, then judge on ``data.test`` by asking the target.

        `outcome` has one entry per test row (targeted: per test row the model does not already give that class).
        `baseline` is one random vector of the same norm, drawn from `seed` and added to every row. The curves scale
        the crafted and the random vector, on the first `CURVE_ROWS` rows; the crafting is not repeated for each
        radius. With "all" there is also a curve per class: the share of rows its own perturbation brings there.
        Raises `MedwardError` for a class that is not there, and where there is no pool to craft on.
        """
        goals = self.goals(len(target.spec.classes))
        scene = Scene.set(
            target,
            self.held(data),
            epsilon=self.epsilon,
            rate=self.rate,
            device=self.device,
            seed=seed,
            norm=self.norm,
            rules=self.rules,
        )
        judged = self.target_class if isinstance(self.target_class, int) else None
        x, y = others(scene.test, scene.test_labels, judged)
        if not len(x):
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # a random network draws from torch's generator
            torch.manual_seed(seed)
            found = {goal: self._craft(scene, goal, scene.detector, generator) for goal in goals}
        crafted, ball = _strongest(scene, found), scene.ball
        noise = ball.surface((1, *target.spec.shape), generator)

        def asked(delta: Tensor, rows: int) -> Bools:
            return scene.fooled(target, x[:rows], applied(ball, x[:rows], delta), y[:rows], judged)

        def won(delta: Tensor) -> float:
            return shares(scene.network, x, y, ball, delta, judged, None)[0]

        outcome, baseline = asked(crafted.delta, len(x)), asked(noise, len(x))
        attacked = curve(lambda k: float(asked(crafted.delta * k, CURVE_ROWS).mean()), self.epsilon)
        random = curve(lambda k: float(asked(noise * k, CURVE_ROWS).mean()), self.epsilon)
        curves = {self.name: attacked, "random signs" if self.norm == "inf" else "random noise": random}
        if self.target_class == "all":
            curves |= self._reached(target, scene, found)
        flags = run_flags(
            steps=self.effort,
            delta=crafted.delta,
            success=won(crafted.delta),
            noise=won(noise) if scene.detector is None else 0.0,
            n=min(len(x), CURVE_ROWS),
            history=crafted.history,
            curve=attacked if target.withheld == 0 else ([], []),
            withheld=scene.withheld,
            craft=crafted.success if scene.detector is None and judged is None else None,
        )
        if scene.detector is not None and crafted.success == 0:

            def beyond_noise(larger: Ball) -> float:
                delta = larger.surface((1, *target.spec.shape), generator)
                won = max(
                    self._craft(replace(scene, ball=larger), goal, scene.detector, generator).success for goal in goals
                )
                return won - shares(scene.network, x, y, larger, delta, judged, scene.detector)[0]

            plain = max(self._craft(scene, goal, None, generator).success for goal in goals)
            flags += found_nothing(plain, ball, beyond_noise)
        return AttackResult(
            outcome=outcome,
            baseline=baseline,
            queries=target.queries,
            gradients=sum(each.gradients for each in found.values()) * passes(scene.network),
            flags=(
                *flags,
                *scene.flags(target, seed, adversarial=applied(ball, scene.test, crafted.delta), universal=True),
            ),
            curves=curves,
            images={"perturbation": crafted.delta[0].cpu().numpy()},
        )

    def _craft(self, scene: Scene, goal: Goal, detector: Detector | None, generator: torch.Generator) -> Universal:
        return self.craft(scene, *others(scene.craft, scene.craft_labels, goal), goal, detector, generator)

    def _reached(
        self, target: Target, scene: Scene, found: Mapping[Goal, Universal]
    ) -> dict[str, tuple[list[float], list[float]]]:
        """Per class, the share of test rows not there before that its own perturbation brings there."""
        reached = {}
        for goal, crafted in found.items():
            x, y = others(scene.test, scene.test_labels, goal)
            if goal is not None and len(x):
                hit = scene.fooled(target, x, applied(scene.ball, x, crafted.delta), y, goal)
                reached[f"{self.name} to class {goal}"] = ([0.0, self.epsilon], [0.0, float(hit.mean())])
        return reached


def others(x: Tensor, y: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """The rows a targeted attack has something to win on: those not already in class `goal`."""
    if goal is None:
        return x, y
    return x[y != goal], y[y != goal]


def applied(ball: Ball, x: Tensor, delta: Tensor) -> Tensor:
    """Rows `x (n, *shape)` with `delta` as they can be handed in; the slope in `delta` is that of the clipping."""
    moved = ball.clip(x + delta)
    return moved if ball.whole is None else moved + (ball.usable(moved, x) - moved).detach()


@torch.no_grad()
def shares(
    network: nn.Module, x: Tensor, y: Tensor, ball: Ball, delta: Tensor, goal: Goal, detector: Detector | None
) -> tuple[float, float]:
    """The share of rows that win, and the share the detector would release."""
    won = free = 0
    for first in range(0, len(x), BATCH):
        some = slice(first, first + BATCH)
        inputs = applied(ball, x[some], delta)
        scores, features = both(network, inputs)
        released = torch.ones_like(y[some], dtype=torch.bool)
        if detector is not None:
            released = detector.released(detector.strangeness(inputs, scores, features))
        won += int((wins(scores, y[some], goal) & released).sum())
        free += int(released.sum())
    return (won / len(x), free / len(x)) if len(x) else (0.0, 0.0)


def wins(scores: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """Which rows ``(n,)`` of `scores (n, K)` are decided otherwise than `y (n,)`, or as `goal`."""
    labels = scores.detach().argmax(dim=1)
    return labels != y if goal is None else labels == goal


def _strongest(scene: Scene, found: Mapping[Goal, Universal]) -> Universal:
    """The perturbation that changes the decision on the most craft rows, whatever it was crafted for."""
    if len(found) == 1:
        return next(iter(found.values()))
    x, y, ball = scene.craft, scene.craft_labels, scene.ball

    def changed(crafted: Universal) -> float:
        return shares(scene.network, x, y, ball, crafted.delta, None, scene.detector)[0]

    best = max(found.values(), key=changed)
    return replace(best, success=changed(best))
