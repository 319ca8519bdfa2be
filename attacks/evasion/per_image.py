"""What attacks on single inputs share: settings, the run with gradients and the run without, the tally of tries.

An attack here is settings and a `search`; the rest is the same for all. With gradients (`WhiteBox`) the search
runs on the target's network, or on a surrogate where there is none, and the target judges what it found.
Without (`BlackBox`) the search only asks the target, and every row it asks counts.

For images `epsilon` is in input units, for tables in standard deviations of each feature over the craft rows;
under the norm "2" it is the length of the change in these units.

Each row is attacked within several radii up to `epsilon` and is fooled if any of them fools it: who changes one input
can see how far that input lets him go, on a model he holds as behind a guard whose refusals show, and a large change
is seen where a small one is not. Noise gets as many tries. So a run is one verdict per row, and needs no correction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.base import Access, AttackData, AttackResult, Attempt, ThreatModel
from medward.attacks.checks import found_nothing, run_flags
from medward.attacks.evasion.memory import remembered
from medward.attacks.evasion.setup import (
    FACTORS,
    NO_ROWS,
    Bools,
    EvasionSetup,
    balls_within,
    black_box_answers,
    fooled_rows,
    knowledge_words,
)
from medward.attacks.evasion.universal import shares_won
from medward.attacks.target import Target
from medward.attacks.whitebox.ascent import ROWS_PER_PASS, Ascent, network_decisions, scores_and_features
from medward.attacks.whitebox.ball import Ball, FeatureRules, Norm
from medward.attacks.whitebox.network import Detector, passes_per_call
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy

ScoreQuery = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows ``(n, *shape)`` to scores ``(n, K)``, NaN where withheld, and labels ``(n,)``, -1 where withheld."""
_REPEATS = 2  # rows asked besides the search, for each attacked row and radius: with noise, and what was found


@dataclass(frozen=True, slots=True, kw_only=True)
class PerImage(ABC):
    """Settings of every attack on single inputs; `rules` say what holds for features of a table."""

    epsilon: float
    norm: Norm = "inf"
    rules: FeatureRules | None = None
    device: str = "cpu"

    @property
    def family(self) -> str:
        """Evasion."""
        return "evasion"

    def ball(self, target: Target, data: AttackData) -> Ball:
        """What the attacker may change. Raises `MedwardError` for a radius or a rule that cannot be."""
        return Ball.of(target.spec, data.craft.inputs, self.epsilon, norm=self.norm, rules=self.rules).to(
            torch.device(self.device)
        )

    @property
    def _noise(self) -> str:
        return "random signs" if self.norm == "inf" else "random noise"

    def _attempt(self, attacked: Envelope, random: Envelope, y: Tensor) -> Attempt:
        return Attempt(
            radius=self.epsilon, fooled=attacked.fooled, noisy=random.fooled, decided=np.asarray(y.cpu().numpy())
        )

    def _known(self, words: str) -> str:
        return words if self.norm == "inf" else f"{words}; the radius is an L2 norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteBox(PerImage):
    """An attack by gradients. `rate` makes it detector-aware, `access` below GRADIENTS a transfer attack."""

    rate: float | None = None
    access: Access = Access.GRADIENTS

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do."""
        words = self._known(knowledge_words(self.access, self.rate))
        return ThreatModel(access=self.access, epsilon=self.epsilon, accounts=None, knowledge=words)

    def adaptive(self, policy: Policy) -> Self:
        """The same attacker, knowing the screens and the rate `policy` sets them; it also lowers its strangeness."""
        return replace(self, rate=policy.screen.rate)

    @property
    @abstractmethod
    def effort(self) -> int:
        """How many steps a run takes; 0 means it never ran."""

    @abstractmethod
    def search(self, scene: EvasionSetup, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """The attack on rows `x (n, *shape)` decided as `y (n,)`, on the scene's network."""

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Attack every row of ``data.test`` within each radius; judged by asking the target.

        `outcome` are the rows that any radius fools, `baseline` those that random noise does, one vector per row and
        radius; the curves are the shares that radii up to each fool. A random network draws from torch's generator,
        seeded here.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._run(target, data, seed)

    def _run(self, target: Target, data: AttackData, seed: int) -> AttackResult:
        scene = EvasionSetup.set(
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
        start = float(scene.fooled(target, x, x, y).mean())
        attacked, random, searches, on_network = Envelope(x), Envelope(x), [], []
        for factor, smaller in balls_within(ball):
            found = self._searched(scene, x, y, smaller, generator)
            noisy = _noisy(smaller, x, smaller.surface(tuple(x.shape), generator))
            for envelope, points in ((attacked, found.adversarial), (random, noisy)):
                rows = envelope.standing
                envelope.add(factor * self.epsilon, scene.fooled(target, x[rows], points[rows], y[rows]))
            searches.append(found)
            on_network.append(_changed(scene, found.adversarial, y))
        adversarial = searches[-1].adversarial
        flags = run_flags(
            steps=self.effort,
            delta=adversarial - x,
            success=on_network[-1],
            noise=_changed(scene, noisy, y) if scene.detector is None else 0.0,
            n=len(x),
            histories=[each.history for each in searches],
            # On the network, since what a smaller radius fooled is not asked about again.
            curve=([0.0, *attacked.radii], [start, *on_network]) if scene.detector is None else ([], []),
            withheld=scene.withheld,
        )
        if scene.detector is not None and not any(each.won.any() for each in searches):
            plain = self.search(replace(scene, detector=None), x, y, ball, generator)

            def beyond_noise(larger: Ball) -> float:
                noise = larger.surface((1, *x.shape[1:]), generator)
                won = float(self.search(scene, x, y, larger, generator).won.float().mean())
                return won - shares_won(scene.network, x, y, larger, noise, None, scene.detector)[0]

            flags += found_nothing(float(plain.won.float().mean()), ball, beyond_noise)
        return AttackResult(
            outcome=attacked.fooled,
            baseline=random.fooled,
            attempts=(self._attempt(attacked, random, y),),
            queries=target.queries,
            gradients=sum(each.gradients for each in searches) * passes_per_call(scene.network),
            flags=(*flags, *scene.flags(target, seed, adversarial=adversarial, steps=self.effort)),
            curves={self.name: attacked.curve(start), self._noise: random.curve(start)},
        )

    def _searched(self, scene: EvasionSetup, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """`search`, once for the bare and the guarded model; an attacker who knows the screens searches anew."""

        def search() -> Ascent:
            return self.search(scene, x, y, ball, generator)

        if scene.detector is not None:
            return search()
        return remembered(scene.network, search, self, x, y, ball, generator=generator)

    @property
    @abstractmethod
    def name(self) -> str:
        """What reports call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBox(PerImage):
    """An attack by questions: `queries` for each of the first `rows` test rows, and for each radius it is tried at.

    The full radius comes first, and smaller ones only for rows that still stand, since every try costs all the
    questions again.
    """

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
        asked = f"{self.queries} questions for each input and size"
        return ThreatModel(
            access=self.access,
            epsilon=self.epsilon,
            queries=self.rows * (len(FACTORS) * (max(self.queries, 0) + _REPEATS) + _REPEATS),
            accounts=None,
            knowledge=self._known(f"black-box: {asked}, answered with {shown}"),
        )

    def adaptive(self, policy: Policy) -> Self:
        """The same attacker: what it asks is answered by the guard, and it follows those answers."""
        return self

    @abstractmethod
    def search(self, ask: ScoreQuery, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Ascent:
        """The attack on rows `x (n, *shape)` answered with `y (n,)`, by what `ask` says."""

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Attack the first `rows` of ``data.test``; what each search found is asked once more, and that is judged.

        `outcome` are the rows that any radius fools, `baseline` those that random noise does, one vector per row and
        radius. A row withheld as it is keeps its label in ``data.reference``, else in the data. No surrogate is
        trained and no gradient is used. The curve has two points, nothing and everything up to the full radius.
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
        start = float(fooled_rows(target, x, y).mean())
        attacked, random, made = Envelope(x), Envelope(x), x.clone()
        for factor, smaller in reversed(balls_within(ball)):
            rows = attacked.standing
            found = self.search(black_box_answers(target), x[rows], y[rows], smaller, generator)
            if factor == 1.0:
                made = found.adversarial
            attacked.add(factor * self.epsilon, fooled_rows(target, found.adversarial, y[rows]))
            rows = random.standing
            noisy = _noisy(smaller, x[rows], smaller.surface(tuple(x[rows].shape), generator))
            random.add(factor * self.epsilon, fooled_rows(target, noisy, y[rows]))
        success, noise = float(attacked.fooled.mean()), float(random.fooled.mean())
        flags = run_flags(
            steps=self.queries,
            delta=made - x,
            success=success,
            noise=noise,
            n=len(x),
            histories=(),  # how far it gets is its budget's doing, and the budget is part of the threat
            curve=([0.0, self.epsilon], [start, success]) if target.withheld == 0 else ([], []),
            withheld=withheld,
        )
        return AttackResult(
            outcome=attacked.fooled,
            baseline=random.fooled,
            attempts=(self._attempt(attacked, random, y),),
            queries=target.queries,
            flags=flags,
            curves={
                self.name: ([0.0, self.epsilon], [start, success]),
                self._noise: ([0.0, self.epsilon], [start, noise]),
            },
        )


class Envelope:
    """Which rows each radius in turn, or one before it, fools; rows still `standing` are all that need be asked."""

    def __init__(self, x: Tensor) -> None:
        self.radii: list[float] = []
        self._shares: list[float] = []
        self._fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    @property
    def standing(self) -> Tensor:
        """The rows that nothing has fooled yet, as indices."""
        return torch.nonzero(~self._fooled)[:, 0]

    @property
    def fooled(self) -> Bools:
        """The rows ``(n,)`` that any radius so far fools."""
        return np.asarray(self._fooled.cpu().numpy())

    def add(self, radius: float, fooled: Bools) -> None:
        """Take up which of the standing rows `radius` fools."""
        self._fooled[self.standing] = torch.as_tensor(fooled, device=self._fooled.device)
        self.radii.append(radius)
        self._shares.append(float(self.fooled.mean()))

    def curve(self, start: float) -> tuple[list[float], list[float]]:
        """The share fooled by radii up to each, from `start` at a radius of zero."""
        return [0.0, *self.radii], [start, *self._shares]


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


def score_query(network: nn.Module, detector: Detector | None = None) -> ScoreQuery:
    """A network's answers, for a black-box search on a network at hand; what `detector` stops is withheld."""

    @torch.no_grad()
    def ask(x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [scores_and_features(network, x[i : i + ROWS_PER_PASS]) for i in range(0, len(x), ROWS_PER_PASS)]
        scores = torch.cat([part for part, _ in parts])
        labels = scores.argmax(dim=1)
        if detector is None:
            return scores, labels
        shown = [features for _, features in parts if features is not None]
        stopped = ~detector.released(detector.strangeness(x, scores, torch.cat(shown) if shown else None))
        return scores.masked_fill(stopped[:, None], torch.nan), labels.masked_fill(stopped, -1)

    return ask


def _changed(scene: EvasionSetup, points: Tensor, y: Tensor) -> float:
    """The share of rows that the scene's network decides otherwise than `y (n,)`."""
    return float((network_decisions(scene.network, points) != y).float().mean())


def _noisy(ball: Ball, x: Tensor, noise: Tensor) -> Tensor:
    return ball.usable(ball.clip(x + noise), x)
