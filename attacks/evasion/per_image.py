"""What attacks on single inputs share: settings, the run with gradients and the run without, the tally of tries.

An attack here is settings and a `search`; the rest is the same for all. With gradients (`WhiteBox`) the search
runs on the target's network, or on a surrogate where there is none, and the target judges what it found.
Without (`BlackBox`) the search only asks the target, and every row it asks counts.

For images `epsilon` is in input units, for tables in standard deviations of each feature over the craft rows;
under the norm "2" it is the length of the change in these units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from attacks.adaptive import Detector, passes
from attacks.ascent import BATCH, Ascent, both, decide
from attacks.ball import Ball, FeatureRules, Norm
from attacks.base import Access, AttackData, AttackResult, Family, ThreatModel
from attacks.checks import found_nothing, run_flags
from attacks.evasion.scene import CURVE_ROWS, NO_ROWS, Scene, answers, curve, fooled, knowledge
from attacks.evasion.universal import shares
from attacks.target import Target
from guard.errors import MedwardError
from guard.policy import Policy

Ask = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows ``(n, *shape)`` to scores ``(n, K)``, NaN where withheld, and labels ``(n,)``, -1 where withheld."""
REPEATS = 3  # rows asked besides the search, for each attacked row: as it is, with noise, and what was found


@dataclass(frozen=True, slots=True, kw_only=True)
class PerImage(ABC):
    """Settings of every attack on single inputs; `rules` say what holds for features of a table."""

    epsilon: float
    norm: Norm = "inf"
    rules: FeatureRules | None = None
    device: str = "cpu"

    @property
    def family(self) -> Family:
        """Evasion."""
        return "evasion"

    def ball(self, target: Target, data: AttackData) -> Ball:
        """What the attacker may change. Raises `MedwardError` for a radius or a rule that cannot be."""
        return Ball.of(target.spec, data.craft.inputs, self.epsilon, norm=self.norm, rules=self.rules).to(
            torch.device(self.device)
        )

    def _known(self, words: str) -> str:
        return words if self.norm == "inf" else f"{words}; the radius is an L2 norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteBox(PerImage):
    """An attack by gradients. `rate` makes it detector-aware, `access` below GRADIENTS a transfer attack."""

    short: ClassVar[Mapping[str, int]] = {}
    """The settings that the curve's many runs cut, and to what."""

    rate: float | None = None
    access: Access = Access.GRADIENTS

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do."""
        words = self._known(knowledge(self.access, self.rate))
        return ThreatModel(access=self.access, epsilon=self.epsilon, accounts=None, knowledge=words)

    def adaptive(self, policy: Policy) -> Self:
        """The same attacker, knowing the screens and the rate `policy` sets them; it also lowers its strangeness."""
        return replace(self, rate=policy.screen.rate)

    @property
    @abstractmethod
    def effort(self) -> int:
        """How many steps a run takes; 0 means it never ran."""

    @abstractmethod
    def search(self, scene: Scene, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """The attack on rows `x (n, *shape)` decided as `y (n,)`, on the scene's network."""

    def quick(self) -> Self:
        """A cheaper form of the attack, for the curve."""
        return replace(self, **{name: min(getattr(self, name), most) for name, most in self.short.items()})

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Attack every row of ``data.test``; judged by asking the target.

        `baseline` is one random vector of the same norm per row. The curves attack the first `CURVE_ROWS` rows anew
        at each radius, with the cheaper form of the attack. A random network draws from torch's generator,
        seeded here.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._run(target, data, seed)

    def _run(self, target: Target, data: AttackData, seed: int) -> AttackResult:
        scene = Scene.set(
            target,
            data,
            epsilon=self.epsilon,
            rate=self.rate,
            device=self.device,
            seed=seed,
            norm=self.norm,
            rules=self.rules,
        )
        x, y, ball = scene.test, scene.test_labels, scene.ball
        if not len(x):
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        generator = torch.Generator().manual_seed(seed)
        found = self.search(scene, x, y, ball, generator)
        noise = ball.surface(tuple(x.shape), generator)
        noisy = _noisy(ball, x, noise)
        outcome, baseline = scene.fooled(target, x, found.adversarial, y), scene.fooled(target, x, noisy, y)
        some, theirs = x[:CURVE_ROWS], y[:CURVE_ROWS]

        def at(factor: float) -> float:
            weaker = self.quick().search(scene, some, theirs, ball.scaled(factor), generator)
            return float(scene.fooled(target, some, weaker.adversarial, theirs).mean())

        def noise_at(factor: float) -> float:
            return float(scene.fooled(target, some, _noisy(ball, some, noise[:CURVE_ROWS] * factor), theirs).mean())

        attacked, random = curve(at, self.epsilon), curve(noise_at, self.epsilon)
        flags = run_flags(
            steps=self.effort,
            delta=found.adversarial - x,
            success=float((decide(scene.network, found.adversarial) != y).float().mean()),
            noise=float((decide(scene.network, noisy) != y).float().mean()) if scene.detector is None else 0.0,
            n=len(x),
            history=found.history,
            curve=attacked if target.withheld == 0 else ([], []),
            withheld=scene.withheld,
        )
        if scene.detector is not None and not found.won.any():
            plain = self.search(replace(scene, detector=None), x, y, ball, generator)

            def beyond_noise(larger: Ball) -> float:
                noise = larger.surface((1, *x.shape[1:]), generator)
                won = float(self.search(scene, some, theirs, larger, generator).won.float().mean())
                return won - shares(scene.network, some, theirs, larger, noise, None, scene.detector)[0]

            flags += found_nothing(float(plain.won.float().mean()), ball, beyond_noise)
        return AttackResult(
            outcome=outcome,
            baseline=baseline,
            queries=target.queries,
            gradients=found.gradients * passes(scene.network),
            flags=(*flags, *scene.flags(target, seed, adversarial=found.adversarial, steps=self.effort)),
            curves={self.name: attacked, "random signs" if self.norm == "inf" else "random noise": random},
        )

    @property
    @abstractmethod
    def name(self) -> str:
        """What reports call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBox(PerImage):
    """An attack by questions: `queries` for each of the first `rows` test rows."""

    queries: int = 1000
    rows: int = 100

    @property
    @abstractmethod
    def name(self) -> str:
        """What reports call it."""

    @property
    @abstractmethod
    def access(self) -> Access:
        """What the attacker must be shown: labels or scores."""

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do; the budget covers the judging too."""
        shown = "scores" if self.access >= Access.SCORES else "labels"
        return ThreatModel(
            access=self.access,
            epsilon=self.epsilon,
            queries=self.rows * (max(self.queries, 0) + REPEATS + 1),
            accounts=None,
            knowledge=self._known(f"black-box: {self.queries} questions for each input, answered with {shown}"),
        )

    def adaptive(self, policy: Policy) -> Self:
        """The same attacker: what it asks is answered by the guard, and it follows those answers."""
        return self

    @abstractmethod
    def search(self, ask: Ask, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """The attack on rows `x (n, *shape)` answered with `y (n,)`, by what `ask` says."""

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Attack the first `rows` of ``data.test``; what the search found is asked once more, and that is judged.

        `baseline` is one random vector of the same norm per row. A row withheld as it is keeps its label in
        ``data.reference``, else in the data. No surrogate is trained and no gradient is used. The curve has two
        points, since each would cost all the questions again.
        """
        if self.rows < 1:
            raise MedwardError(f"rows: must be at least 1, got {self.rows}")
        ball = self.ball(target, data)
        inputs = np.asarray(data.test.inputs[: self.rows], np.float32)
        x = torch.as_tensor(inputs, device=self.device)
        if not len(x):
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        clean = target.query(inputs).labels
        withheld = float((clean < 0).mean())
        own = data.reference if data.reference is not None else data.test.labels
        if own is not None:
            clean = np.where(clean < 0, own[: self.rows], clean)
        y = torch.as_tensor(clean, device=self.device)
        generator = torch.Generator().manual_seed(seed)
        found = self.search(answers(target), x, y, ball, generator)
        noisy = _noisy(ball, x, ball.surface(tuple(x.shape), generator))
        again, baseline = fooled(target, x, y), fooled(target, noisy, y)
        outcome = fooled(target, found.adversarial, y)
        points = ([0.0, self.epsilon], [float(again.mean()), float(outcome.mean())])
        flags = run_flags(
            steps=self.queries,
            delta=found.adversarial - x,
            success=float(outcome.mean()),
            noise=float(baseline.mean()),
            n=len(x),
            history=(),  # how far it gets is its budget's doing, and the budget is part of the threat
            curve=points if target.withheld == 0 else ([], []),
            withheld=withheld,
        )
        return AttackResult(
            outcome=outcome,
            baseline=baseline,
            queries=target.queries,
            flags=flags,
            curves={
                self.name: points,
                "random signs" if self.norm == "inf" else "random noise": (
                    [0.0, self.epsilon],
                    [points[1][0], float(baseline.mean())],
                ),
            },
        )


class Tally:
    """The worst case per row over several searches; with `stop` later ones run only on rows still `standing`.

    A row that no search won keeps the iterate that ranked highest; without `stop` every row does.
    """

    def __init__(self, x: Tensor, *, stop: bool = True) -> None:
        self.best = Ascent.nothing(x)
        self._stop = stop

    @property
    def standing(self) -> Tensor:
        """The rows to try next, as indices."""
        if self._stop:
            return torch.nonzero(~self.best.won)[:, 0]
        return torch.arange(len(self.best.won), device=self.best.won.device)

    def add(self, rows: Tensor, found: Ascent) -> None:
        """Take up what a search on `rows` found."""
        best = self.best
        better = (found.value > best.value[rows]) | (found.won & ~best.won[rows])
        already = float(best.won.float().sum()) - float(best.won[rows].float().sum())
        best.adversarial[rows[better]], best.value[rows[better]] = found.adversarial[better], found.value[better]
        best.won[rows] |= found.won
        best.gradients += found.gradients
        best.queries += found.queries
        best.history.extend((already + share * len(rows)) / len(best.won) for share in found.history)


def asking(network: nn.Module, detector: Detector | None = None) -> Ask:
    """A network's answers, for a black-box search on a network at hand; what `detector` stops is withheld."""

    @torch.no_grad()
    def ask(x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [both(network, x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
        scores = torch.cat([part for part, _ in parts])
        labels = scores.argmax(dim=1)
        if detector is None:
            return scores, labels
        shown = [features for _, features in parts if features is not None]
        stopped = ~detector.released(detector.strangeness(x, scores, torch.cat(shown) if shown else None))
        return scores.masked_fill(stopped[:, None], torch.nan), labels.masked_fill(stopped, -1)

    return ask


def _noisy(ball: Ball, x: Tensor, noise: Tensor) -> Tensor:
    return ball.usable(ball.clip(x + noise), x)
