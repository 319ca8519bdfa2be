"""What attacks on single inputs share: settings, and the run with gradients.

An attack here is settings and a `search`; the rest is the same for all. With gradients (`WhiteBox`) the search
runs on the target's network, or on a surrogate where there is none, and the target judges what it found.
Without (`black_box.BlackBox`) the search only asks the target.

For images `epsilon` is in input units, for tables in standard deviations of each feature over the craft rows;
under the norm "2" it is the length of the change in these units.

Each row is attacked within several radii up to `epsilon` and is fooled if any of them fools it: who changes one input
can see how far that input lets him go, on a model he holds as behind a guard whose refusals show, and a large change
is seen where a small one is not. Noise gets as many tries. So a run is one verdict per row, and needs no correction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from medward.attacks.base import Access, AttackData, AttackResult, Attempt, ThreatModel
from medward.attacks.checks import found_nothing, run_flags
from medward.attacks.evasion.fooled_share import counted_classes
from medward.attacks.evasion.memory import remembered
from medward.attacks.evasion.perturbation import shares_won
from medward.attacks.evasion.radii import ALWAYS, SearchedRadius, search_radii
from medward.attacks.evasion.setup import NO_ROWS, EvasionSetup, balls_within, knowledge_words
from medward.attacks.evasion.success import criterion_of
from medward.attacks.evasion.tallies import Envelope
from medward.attacks.target import Decide, Target
from medward.attacks.whitebox.ascent import Ascent
from medward.attacks.whitebox.ball import Ball, FeatureRules, Norm
from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.finding_change import Aim
from medward.attacks.whitebox.network import passes_per_call
from medward.attacks.whitebox.search import Search
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PerImage(ABC):
    """Settings of every attack on single inputs; `rules` say what holds for features of a table.

    `aim` says which change of findings counts, `decide` what an opaque model's outputs come to (`evasion.success`).
    """

    epsilon: float
    norm: Norm = "inf"
    rules: FeatureRules | None = None
    aim: Aim = "any"
    decide: Decide | None = None
    device: str = "cpu"

    @property
    @abstractmethod
    def technique(self) -> str:
        """What the attack is called without its aim."""

    @property
    def name(self) -> str:
        """The technique, and what it aims at if that is not any change: ``pgd``, ``pgd-hide``."""
        return self.technique if self.aim == "any" else f"{self.technique}-{self.aim}"

    @property
    def family(self) -> str:
        """Evasion."""
        return "evasion"

    def ball(self, target: Target, data: AttackData) -> Ball:
        """What the attacker may change. Raises `MedwardError` for a radius or a rule that cannot be."""
        return Ball.of(target.spec, data.craft.inputs, self.epsilon, norm=self.norm, rules=self.rules).to(
            torch.device(self.device)
        )

    def criterion(self, spec: ModelSpec) -> Criterion:
        """What success is on a model of `spec`."""
        return criterion_of(spec, self.aim, self.decide)

    @property
    def _noise(self) -> str:
        return "random signs" if self.norm == "inf" else "random noise"

    def _attempt(self, attacked: Envelope, random: Envelope, decided: Tensor) -> Attempt:
        return Attempt(
            radius=self.epsilon,
            fooled=attacked.fooled,
            noisy=random.fooled,
            decided=np.asarray(decided.cpu().numpy(), np.int64),
            classes=attacked.classes,
            refused=attacked.refused,
            denied=attacked.denied,
            changed=attacked.changed,
            certified=attacked.certified,
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
    def search(self, search: Search, x: Tensor, y: Tensor) -> Ascent:
        """The attack on rows `x (n, *shape)` decided as `y (n,)`, in the frame of a search."""

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Attack every row of ``data.test`` within each radius; judged by asking the target.

        `outcome` are the rows that any radius fools, `baseline` those that random noise does, one vector per row and
        radius; the curves are the shares that radii up to each fool. Who knows the guard searches the rows that fall
        without it (`attacks.evasion.radii`), and also attacks its certificate,
        where it has one that gradients pass: for another decision that is certified, and for none. A random network
        draws from torch's generator, seeded here.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._run(target, data, seed)

    def _run(self, target: Target, data: AttackData, seed: int) -> AttackResult:
        scene = EvasionSetup.set(
            target,
            data,
            self.criterion(target.spec),
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
        decided = scene.criterion.decisions(y).cpu().numpy()
        classes = counted_classes(target.spec.task, decided, None if scene.truth is None else scene.truth.cpu().numpy())
        attacked, random = (Envelope(x, classes, scene.uncertified) for _ in range(2))
        searched = self._searches(scene, generator)
        plain, known, proof = searched[0], searched[-1], scene.against_certificate()
        proofs = () if proof is None else self._searches(scene, generator, proof, always=0)
        for i, (factor, smaller) in enumerate(balls_within(ball)):
            for each in (known, *proofs):
                rows, adversarial = each[i].of(attacked.standing)
                asked = scene.asked(target, x[rows], adversarial, y[rows])
                attacked.add(factor * self.epsilon, asked, rows)
            noisy = noisy_rows(smaller, x, smaller.surface(tuple(x.shape), generator))
            rows = random.standing
            random.add(factor * self.epsilon, scene.asked(target, x[rows], noisy[rows], y[rows]), rows)
        spent = sum(each.found.gradients for way in (*searched, *proofs) for each in way)
        if (denial := scene.against_certificate(deny=True)) is not None:
            taken = self.search(scene.search(ball, generator, denial), x, y)
            attacked.deny(scene.asked(target, x, taken.adversarial, y))
            spent += taken.gradients
        search, sample = scene.search(ball, generator), min(len(x), ALWAYS)
        adversarial = plain[-1].found.adversarial.clone()
        adversarial[known[-1].rows] = known[-1].found.adversarial
        flags = run_flags(
            steps=self.effort,
            delta=adversarial - x,
            success=float(search.won(adversarial, y).float().mean()),
            noise=float(search.won(noisy, y).float().mean()) if scene.detector is None else 0.0,
            n=len(x),
            histories=[each.history(len(x)) for each in known],
            # On the network, since what a smaller radius fooled is not asked about again.
            curve=([0.0, *attacked.radii], [start, *(each.won_of(sample) for each in plain)])
            if scene.detector is None
            else ([], []),
            curve_rows=sample,
            withheld=scene.withheld,
        )
        if scene.detector is not None and not any(each.found.won.any() for each in known):

            def beyond_noise(larger: Ball) -> float:
                noise, there = larger.surface((1, *x.shape[1:]), generator), replace(search, ball=larger)
                return float(self.search(there, x, y).won.float().mean()) - shares_won(there, x, y, noise)[0]

            flags += found_nothing(plain[-1].won_of(len(x)), ball, beyond_noise)
        return AttackResult(
            outcome=attacked.fooled,
            baseline=random.fooled,
            attempts=(self._attempt(attacked, random, scene.criterion.decisions(y)),),
            queries=target.queries,
            gradients=spent * passes_per_call(scene.network),
            flags=(*flags, *scene.flags(target, seed, adversarial=adversarial, steps=self.effort)),
            curves={self.name: attacked.curve(start), self._noise: random.curve(start)},
        )

    def _searches(
        self,
        scene: EvasionSetup,
        generator: torch.Generator,
        criterion: Criterion | None = None,
        *,
        always: int | None = None,
    ) -> tuple[list[SearchedRadius], ...]:
        """The search within each radius without the screens, and where they are known once more, knowing them.

        Without them it is run once for the bare and the guarded model. Who knows them searches the rows that fall
        without, and within the full radius all, for his search begins elsewhere.
        """
        x, y, blind = scene.test, scene.test_labels, replace(scene, detector=None)
        every = not blind.search(criterion=criterion).stop

        def unseen(ball: Ball, rows: Tensor) -> Ascent:
            frame = blind.search(ball, generator, criterion)
            mine, own = x[rows], y[rows]
            return remembered(
                frame.network,
                lambda: self.search(frame, mine, own),
                *(self, mine, own, frame.ball, frame.criterion),
                generator=generator,
            )

        plain = search_radii(
            balls_within(scene.ball),
            torch.arange(len(x), device=x.device),
            unseen,
            ALWAYS if always is None else always,
            every,
        )
        if scene.detector is None:
            return (plain,)

        def knowing(each: SearchedRadius) -> SearchedRadius:
            rows = each.rows if every or (criterion is None and each is plain[-1]) else each.fallen
            found = self.search(scene.search(each.ball, generator, criterion), x[rows], y[rows])
            return replace(each, rows=rows, found=found)

        return plain, [knowing(each) for each in plain]


def noisy_rows(ball: Ball, x: Tensor, noise: Tensor) -> Tensor:
    """Rows `x (n, *shape)` with `noise`, as they can be handed in."""
    return ball.usable(ball.clip(x + noise), x)
