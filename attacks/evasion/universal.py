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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.base import PER_CLASS, Access, AttackData, AttackResult, Attempt, ThreatModel
from medward.attacks.checks import TWIN_CHECK, found_nothing, run_flags, weaker_than
from medward.attacks.evasion.memory import remembered
from medward.attacks.evasion.setup import NO_ROWS, EvasionSetup, balls_within, knowledge_words, success_curve
from medward.attacks.intervals import rate_interval
from medward.attacks.target import Target
from medward.attacks.whitebox.ascent import ROWS_PER_PASS, network_decisions, scores_and_features
from medward.attacks.whitebox.ball import Ball, FeatureRules, Norm
from medward.attacks.whitebox.network import Detector, passes_per_call
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError

Goal = int | None
"""The class to reach, None for any other than before."""
CHOICE_ROWS = 1000  # craft rows, at most, that the target is asked about to choose among perturbations


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


@dataclass(frozen=True, slots=True)
class Tried:
    """One radius: the perturbation `found` for each goal, the `goal` whose one was taken, what it was `judged` on.

    `noise` is a random vector ``(1, *shape)`` of the same norm, `attempt` what the target answered to either.
    """

    found: Mapping[Goal, Universal]
    goal: Goal
    judged: Goal
    noise: Tensor
    attempt: Attempt

    @property
    def crafted(self) -> Universal:
        """The perturbation that was judged."""
        return self.found[self.goal]

    @property
    def gradients(self) -> int:
        """What all goals cost, in row gradients."""
        return sum(each.gradients for each in self.found.values())


def strongest_radius(tries: Sequence[Tried]) -> Tried:
    """The radius at which most rows were fooled, by the lower end of its interval; of equal ones the largest."""
    return max(tries, key=lambda tried: (rate_interval(tried.attempt.fooled).low, tried.attempt.radius))


@dataclass(frozen=True, slots=True, kw_only=True)
class UniversalAttack(ABC):
    """Settings of every universal attack; `rules` say what holds for features of a table.

    With a `target_class` success is being answered that class, on rows that are neither decided nor labelled so; with
    "worst" it is the class that can be reached most, and with "all" success is any other answer than before, whatever
    the perturbation was crafted for. `craft_on` "pool" crafts on the pool of natural images: no medical data is seen.
    """

    epsilon: float
    norm: Norm = "inf"
    rules: FeatureRules | None = None
    target_class: int | Literal["worst", "all"] | None = None
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
    def family(self) -> str:
        """Evasion."""
        return "evasion"

    @property
    def targeted(self) -> bool:
        """Whether success is one class's."""
        return self.target_class not in (None, "all")

    def goals(self, classes: int) -> tuple[Goal, ...]:
        """What to craft for. Raises `MedwardError` for a class that is not there."""
        if isinstance(self.target_class, str):
            every: tuple[Goal, ...] = tuple(range(classes))
            return every if self.targeted else (None, *every)
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
    """An attack by gradients. `rate_interval` makes it detector-aware, `access` below GRADIENTS a transfer attack.

    With `target_class` "worst" one perturbation is crafted for each class, and with "all" one more without a target,
    from the same random numbers, so that no verdict depends on the order of the classes. Craft rows decide which is
    judged. Time grows with the number of classes: none is left out, and none is sought less hard.
    """

    rate: float | None = None
    access: Access = Access.GRADIENTS

    @property
    @abstractmethod
    def effort(self) -> int:
        """How many rounds a run takes; 0 means it never ran."""

    @abstractmethod
    def craft(
        self,
        scene: EvasionSetup,
        x: Tensor,
        y: Tensor,
        goal: Goal,
        detector: Detector | None,
        generator: torch.Generator,
    ) -> Universal:
        """One perturbation for rows `x (n, *shape)` decided as `y (n,)`, on the scene's network, in its ball."""

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do."""
        words = self.known(knowledge_words(self.access, self.rate))
        return ThreatModel(access=self.access, epsilon=self.epsilon, accounts=None, knowledge=words)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Craft within each of several radii, then judge on ``data.test`` by asking the target.

        A larger perturbation is not always the worse one, since screens see it better: the attacker takes the radius
        that serves best. Each of `attempts` is a perturbation crafted anew, judged on every test row (targeted: every
        test row neither decided nor labelled as the class), and a random vector of the same norm added to the same
        rows; the curves are their shares. `outcome` and the perturbation are those of the attempt that fooled most.
        With several classes there is also a curve for each: the share of test rows its own perturbation of full size
        brings there. Raises `MedwardError` for a class that is not there, and where there is no pool to craft on.
        """
        goals = self.goals(len(target.spec.classes))
        scene = EvasionSetup.set(
            target,
            self.held(data),
            epsilon=self.epsilon,
            rate=self.rate,
            device=self.device,
            seed=seed,
            norm=self.norm,
            rules=self.rules,
        )
        goals = tuple(goal for goal in goals if len(_open(scene, goal)[0]))
        if not goals:
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        generator = torch.Generator().manual_seed(seed)
        tries = [
            self._tried(target, replace(scene, ball=ball), goals, factor, generator, seed)
            for factor, ball in balls_within(scene.ball)
        ]
        full, best = tries[-1], strongest_radius(tries)
        x, y = _open(scene, full.judged)
        start = float(scene.fooled(target, x, x, y, full.judged).mean())
        radii = [each.attempt.radius for each in tries]
        attacked = success_curve(radii, [each.attempt.fooled for each in tries], start)
        random = success_curve(radii, [each.attempt.noisy for each in tries], start)
        curves = {self.name: attacked, "random signs" if self.norm == "inf" else "random noise": random}
        if len(full.found) > 1:
            curves |= self._reached(target, scene, full.found)
        return AttackResult(
            outcome=best.attempt.fooled,
            baseline=best.attempt.noisy,
            attempts=tuple(each.attempt for each in tries),
            queries=target.queries,
            gradients=sum(each.gradients for each in tries) * passes_per_call(scene.network),
            flags=(
                *self._run_flags(target, scene, tries, attacked, seed),
                *self._nothing_found(scene, tries, goals, generator, seed),
                *self._borrowed(scene, full.goal, full.crafted.delta, full.judged, seed),
                *scene.flags(
                    target,
                    seed,
                    adversarial=apply_perturbation(scene.ball, scene.test, full.crafted.delta),
                    universal=True,
                ),
            ),
            curves=curves,
            images={"perturbation": best.crafted.delta[0].cpu().numpy()},
        )

    def _tried(
        self,
        target: Target,
        scene: EvasionSetup,
        goals: tuple[Goal, ...],
        factor: float,
        generator: torch.Generator,
        seed: int,
    ) -> Tried:
        """A perturbation for each of the `goals` within the scene's ball, and the strongest judged on the test rows."""
        found = {goal: self._craft(scene, goal, scene.detector, seed) for goal in goals}
        goal = self._strongest(target, scene, found)
        judged, ball = goal if self.targeted else None, scene.ball
        crafted, (x, y) = found[goal], _open(scene, judged)
        noise = ball.surface((1, *target.spec.shape), generator)
        attempt = Attempt(
            radius=factor * self.epsilon,
            fooled=scene.fooled(target, x, apply_perturbation(ball, x, crafted.delta), y, judged),
            noisy=scene.fooled(target, x, apply_perturbation(ball, x, noise), y, judged),
            decided=y.cpu().numpy(),
        )
        return Tried(found, goal, judged, noise, attempt)

    def _run_flags(
        self,
        target: Target,
        scene: EvasionSetup,
        tries: Sequence[Tried],
        attacked: tuple[list[float], list[float]],
        seed: int,
    ) -> tuple[str, ...]:
        """What is wrong with the run: at its full radius, and with the climb within any."""
        full = tries[-1]
        x, y = _open(scene, full.judged)

        def won(delta: Tensor) -> float:
            return shares_won(scene.network, x, y, scene.ball, delta, full.judged, None)[0]

        craft = None
        if scene.detector is None and full.judged is None:  # what was crafted for a class is judged on any other answer
            rows = scene.craft, scene.craft_labels
            craft = shares_won(scene.network, *rows, scene.ball, full.crafted.delta, None, None)[0]
        return run_flags(
            steps=self.effort,
            delta=full.crafted.delta,
            success=won(full.crafted.delta),
            noise=won(full.noise) if scene.detector is None else 0.0,
            n=len(x),
            histories=[each.crafted.history for each in tries],
            curve=attacked if target.withheld == 0 else ([], []),
            withheld=scene.withheld,
            craft=craft,
        )

    def _nothing_found(
        self,
        scene: EvasionSetup,
        tries: Sequence[Tried],
        goals: tuple[Goal, ...],
        generator: torch.Generator,
        seed: int,
    ) -> tuple[str, ...]:
        """C11: a search that knows the screens and wins no craft row within any radius may just be broken."""
        if scene.detector is None or any(each.success for tried in tries for each in tried.found.values()):
            return ()

        def beyond_noise(larger: Ball) -> float:
            noise, there = larger.surface((1, *scene.test.shape[1:]), generator), replace(scene, ball=larger)
            return max(
                self._craft(there, goal, scene.detector, seed).success
                - shares_won(scene.network, *_open(scene, goal), larger, noise, goal, scene.detector)[0]
                for goal in goals
            )

        plain = max(self._craft(scene, goal, None, seed).success for goal in goals)
        return found_nothing(plain, scene.ball, beyond_noise)

    def _craft(self, scene: EvasionSetup, goal: Goal, detector: Detector | None, seed: int) -> Universal:
        """One perturbation; a random network draws from torch's generator, seeded here too."""
        rows = rows_to_win(scene.craft, scene.craft_labels, goal)

        def crafted() -> Universal:
            return self.craft(scene, *rows, goal, detector, torch.Generator().manual_seed(seed))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if detector is not None:
                return crafted()
            return remembered(scene.network, crafted, self, scene.ball, scene.craft, scene.craft_labels, goal, seed)

    def _strongest(self, target: Target, scene: EvasionSetup, found: Mapping[Goal, Universal]) -> Goal:
        """The goal whose perturbation wins most craft rows, as the target itself answers them.

        Shares are compared by the lower end of their intervals, so that a class with a handful of rows to win on is not
        taken for the worst by chance. Ties, as where a guard withholds everything, go by the share won in crafting.
        """
        if len(found) == 1:
            return next(iter(found))

        def won(goal: Goal) -> tuple[float, float]:
            aim = goal if self.targeted else None
            x, y = rows_to_win(scene.craft[:CHOICE_ROWS], scene.craft_labels[:CHOICE_ROWS], aim)
            if not len(x):
                return 0.0, 0.0
            hit = scene.fooled(target, x, apply_perturbation(scene.ball, x, found[goal].delta), y, aim)
            return rate_interval(hit).low, found[goal].success

        return max(found, key=won)

    def _borrowed(self, scene: EvasionSetup, goal: Goal, delta: Tensor, judged: Goal, seed: int) -> tuple[str, ...]:
        """C5: the same attack on the model before hardening finds what wins clearly more test rows than `delta`."""
        if scene.twin is None or scene.transfer or scene.detector is not None:
            return ()
        before = replace(scene, network=scene.twin, craft_labels=network_decisions(scene.twin, scene.craft))
        theirs = self._craft(before, goal, None, seed).delta
        x, y = _open(scene, judged)

        def won(change: Tensor) -> Tensor:
            answers = network_decisions(scene.network, apply_perturbation(scene.ball, x, change))
            return answers != y if judged is None else answers == judged

        flag = weaker_than(won(delta), won(theirs), TWIN_CHECK)
        return (flag,) if flag else ()

    def _reached(
        self, target: Target, scene: EvasionSetup, found: Mapping[Goal, Universal]
    ) -> dict[str, tuple[list[float], list[float]]]:
        """Per class, the share of test rows neither decided nor labelled so that its own perturbation brings there."""
        reached = {}
        for goal, crafted in found.items():
            if goal is not None:
                x, y = _open(scene, goal)
                hit = scene.fooled(target, x, apply_perturbation(scene.ball, x, crafted.delta), y, goal)
                name = f"{self.name}{PER_CLASS}{target.spec.classes[goal]}"
                reached[name] = ([0.0, self.epsilon], [0.0, float(hit.mean())])
        return reached


def rows_to_win(x: Tensor, y: Tensor, goal: Goal, truth: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The rows a targeted attack has something to win on: neither decided nor, where that is known, labelled `goal`."""
    if goal is None:
        return x, y
    rest = y != goal if truth is None else (y != goal) & (truth != goal)
    return x[rest], y[rest]


def apply_perturbation(ball: Ball, x: Tensor, delta: Tensor) -> Tensor:
    """Rows `x (n, *shape)` with `delta` as they can be handed in; the slope in `delta` is that of the clipping."""
    moved = ball.clip(x + delta)
    return moved if ball.whole is None else moved + (ball.usable(moved, x) - moved).detach()


@torch.no_grad()
def shares_won(
    network: nn.Module, x: Tensor, y: Tensor, ball: Ball, delta: Tensor, goal: Goal, detector: Detector | None
) -> tuple[float, float]:
    """The share of rows that win, and the share the detector would release."""
    won = free = 0
    for first in range(0, len(x), ROWS_PER_PASS):
        some = slice(first, first + ROWS_PER_PASS)
        inputs = apply_perturbation(ball, x[some], delta)
        scores, features = scores_and_features(network, inputs)
        released = torch.ones_like(y[some], dtype=torch.bool)
        if detector is not None:
            released = detector.released(detector.strangeness(inputs, scores, features))
        won += int((rows_won(scores, y[some], goal) & released).sum())
        free += int(released.sum())
    return (won / len(x), free / len(x)) if len(x) else (0.0, 0.0)


def rows_won(scores: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """Which rows ``(n,)`` of `scores (n, K)` are decided otherwise than `y (n,)`, or as `goal`."""
    labels = scores.detach().argmax(dim=1)
    return labels != y if goal is None else labels == goal


def _open(scene: EvasionSetup, goal: Goal) -> tuple[Tensor, Tensor]:
    """The test rows that are judged, and the decisions on them."""
    return rows_to_win(scene.test, scene.test_labels, goal, scene.truth)
