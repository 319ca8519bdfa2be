"""What universal attacks by gradients share: one run within several radii, who judges it, and its checks.

An attack here is settings and a `craft`, which turns rows and the decisions on them into one perturbation; the rest is
the same for all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medward.attacks.base import PER_CLASS, Access, AttackData, AttackResult, ThreatModel
from medward.attacks.checks import SHIFT_CHECK, TWIN_CHECK, found_nothing, run_flags, weaker_than
from medward.attacks.evasion.asking import AskedRows
from medward.attacks.evasion.fooled_share import counted_classes
from medward.attacks.evasion.memory import remembered
from medward.attacks.evasion.perturbation import (
    NOISE_DRAWS,
    Tried,
    Universal,
    apply_perturbation,
    chosen_per_row,
    envelope_curve,
    radius_curve,
    shared_attempt,
    shares_won,
    strongest_attempt,
    strongest_noise,
    strongest_radius,
)
from medward.attacks.evasion.setup import NO_ROWS, EvasionSetup, balls_within, knowledge_words
from medward.attacks.evasion.universal import UniversalAttack
from medward.attacks.intervals import rate_interval
from medward.attacks.target import Target
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.certified_change import CertifiedChange
from medward.attacks.whitebox.criterion import ClassChange, Criterion
from medward.attacks.whitebox.network import passes_per_call
from medward.attacks.whitebox.search import Search

CHOICE_ROWS = 400  # craft rows, at most, that the target is asked about to judge a perturbation before the choice


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

    @property
    def per_row(self) -> bool:
        """Whether the attacker takes the radius row by row: who knows the screens can tell what each row allows."""
        return self.rate is not None

    @abstractmethod
    def craft(self, search: Search, x: Tensor, y: Tensor) -> Universal:
        """One perturbation for rows `x (n, *shape)` decided as `y (n,)`, in the frame of a search."""

    def refine(self, search: Search, x: Tensor, y: Tensor, larger: Universal) -> Universal:
        """One perturbation within a smaller ball than that of `larger`; crafted anew where there is no better way."""
        return self.craft(search, x, y)

    def craft_rows(self, scene: EvasionSetup, aim: Criterion) -> tuple[Tensor, Tensor]:
        """The rows to craft on and the decisions on them: those that there is something to win on."""
        rows = aim.open(scene.craft_labels)
        return scene.craft[rows], scene.craft_labels[rows]

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do."""
        words = self.known(knowledge_words(self.access, self.rate))
        return ThreatModel(access=self.access, epsilon=self.epsilon, accounts=None, knowledge=words, universal=True)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Craft within each of several radii, then judge on ``data.test`` by asking the target.

        A larger perturbation is not always the worse one, since screens see it better: the attacker takes the radius
        that serves best. Each of `attempts` is a perturbation crafted for its radius, judged on every test row
        (targeted: every test row neither decided nor labelled as the class), beside it random noise of the same norm;
        with `per_row` an attempt is the best of all radii for each row. The curves are what can be achieved up to
        each radius. `outcome` is that of the attempt that fooled most, the perturbation that of the radius which did.
        With several classes there is also a curve for each: the share of test rows its own perturbation of full size
        brings there. Who knows the guard crafts one more of each against its certificate, where gradients pass that.
        Raises `MedwardError` for a class that is not there, and where there is no pool to craft on.
        """
        aims = self.aims(target.spec)
        scene = EvasionSetup.set(
            target,
            self.held(data),
            self.criterion(target.spec),
            epsilon=self.epsilon,
            rate=self.rate,
            device=self.device,
            seed=seed,
            norm=self.norm,
            rules=self.rules,
        )
        proofs = (proof for aim in aims if (proof := scene.against_certificate(aim)) is not None)
        aims = tuple(aim for aim in (*aims, *proofs) if len(_open(scene, aim)[0]))
        if not aims:
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        generator = torch.Generator().manual_seed(seed)
        tries = [
            self._tried(target, there, found, factor, generator)
            for factor, there, found in self._crafted_within(scene, aims, seed)
        ]
        full, best = tries[-1], strongest_radius(tries)
        x, y = _open(scene, full.judged)
        start = float(scene.fooled(target, x, x, y, full.judged).mean())
        attacked = envelope_curve(tries, per_row=self.per_row, start=start)
        random = envelope_curve(tries, noise=True, per_row=self.per_row, start=start)
        curves = {self.name: attacked, "random signs" if self.norm == "inf" else "random noise": random}
        if len(full.found) > 1:
            curves |= self._reached(target, scene, full.found)
        attempts = chosen_per_row(tries) if self.per_row else tuple(each.attempt for each in tries)
        judged = strongest_attempt(attempts)
        return AttackResult(
            outcome=judged.fooled,
            baseline=judged.noisy,
            attempts=attempts,
            queries=target.queries,
            gradients=sum(each.gradients for each in tries) * passes_per_call(scene.network),
            flags=(
                *self._run_flags(target, scene, tries, start),
                *self._nothing_found(scene, tries, aims, generator, seed),
                *self._borrowed(scene, full.taken, full.crafted.delta, full.judged, seed),
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

    def _crafted_within(
        self, scene: EvasionSetup, aims: tuple[Criterion, ...], seed: int
    ) -> list[tuple[float, EvasionSetup, Mapping[Criterion, Universal]]]:
        """Each share of the radius, the scene within it, and a perturbation for each of the `aims`.

        The largest is crafted first: what it found is where the search within the next smaller ball begins.
        """
        crafted: list[tuple[float, EvasionSetup, Mapping[Criterion, Universal]]] = []
        larger: Mapping[Criterion, Universal] = {}
        for factor, ball in reversed(balls_within(scene.ball)):
            there = replace(scene, ball=ball)
            larger = {aim: self._craft(there, aim, seed, larger.get(aim)) for aim in aims}
            crafted.append((factor, there, larger))
        return crafted[::-1]

    def _tried(
        self,
        target: Target,
        scene: EvasionSetup,
        found: Mapping[Criterion, Universal],
        factor: float,
        generator: torch.Generator,
    ) -> Tried:
        """The strongest of the perturbations `found` within the scene's ball, judged on the test rows."""
        taken = self._strongest(target, scene, found)
        judged, ball = _plain(taken) if self.targeted else scene.criterion, scene.ball
        crafted, (x, y) = found[taken], _open(scene, judged)
        decided = scene.criterion.decisions(y).cpu().numpy()
        classes = counted_classes(target.spec.task, decided, scene.labels(judged))

        def asked(delta: Tensor) -> AskedRows:
            return scene.asked(target, x, apply_perturbation(ball, x, delta), y, judged)

        draws = 1 if target.guarded and factor < 1.0 else NOISE_DRAWS
        noise, noisy = strongest_noise(ball, target.spec.shape, generator, asked, classes, draws=draws)
        answered, before = asked(crafted.delta), scene.unproven(judged)
        attempt = shared_attempt(
            answered, noisy, before, radius=factor * self.epsilon, decided=decided, classes=classes
        )
        return Tried(found, taken, judged, noise, attempt)

    def _run_flags(
        self,
        target: Target,
        scene: EvasionSetup,
        tries: Sequence[Tried],
        start: float,
    ) -> tuple[str, ...]:
        """What is wrong with the run: at its full radius, and with the climb within any."""
        full = tries[-1]
        x, y = _open(scene, full.judged)
        search = replace(scene, detector=None).search(criterion=full.judged)

        def won(delta: Tensor) -> float:
            return shares_won(search, x, y, delta)[0]

        shift = None
        if scene.detector is None and not self.targeted:  # a class's own perturbation is judged on other rows
            shift = self._below_shift(search, x, y, full.crafted.delta)

        craft = None
        if scene.detector is None and not self.targeted:  # what was crafted for a class is judged on any other answer
            craft = shares_won(search, *self.craft_rows(scene, full.judged), full.crafted.delta)[0]
        flags = run_flags(
            steps=self.effort,
            delta=full.crafted.delta,
            success=won(full.crafted.delta),
            noise=won(full.noise) if scene.detector is None else 0.0,
            n=len(x),
            histories=[each.crafted.history for each in tries],
            curve=radius_curve(tries, start) if target.withheld == 0 else ([], []),
            withheld=scene.withheld,
            craft=craft,
        )
        return (*flags, shift) if shift else flags

    def _below_shift(self, search: Search, x: Tensor, y: Tensor, delta: Tensor) -> str | None:
        """C8: all values made larger, or smaller, win clearly more rows than `delta`, which was searched for."""
        if not len(x):
            return None
        own = search.won(apply_perturbation(search.ball, x, delta), y)
        plain = [search.won(apply_perturbation(search.ball, x, each), y) for each in search.ball.shifts(x.shape[1:])]
        return weaker_than(own, max(plain, key=lambda each: float(each.float().mean())), SHIFT_CHECK)

    def _nothing_found(
        self,
        scene: EvasionSetup,
        tries: Sequence[Tried],
        aims: tuple[Criterion, ...],
        generator: torch.Generator,
        seed: int,
    ) -> tuple[str, ...]:
        """C11: a search that knows the screens and wins no craft row within any radius may just be broken."""
        if scene.detector is None or any(each.success for tried in tries for each in tried.found.values()):
            return ()

        def beyond_noise(larger: Ball) -> float:
            noise, there = larger.surface((1, *scene.test.shape[1:]), generator), replace(scene, ball=larger)
            return max(
                self._craft(there, aim, seed).success
                - shares_won(there.search(criterion=aim), *_open(scene, aim), noise)[0]
                for aim in aims
            )

        plain = max(self._craft(replace(scene, detector=None), aim, seed).success for aim in aims)
        return found_nothing(plain, scene.ball, beyond_noise)

    def _craft(self, scene: EvasionSetup, aim: Criterion, seed: int, larger: Universal | None = None) -> Universal:
        """One perturbation, from a `larger` one if given; a random network draws from torch's generator, seeded too."""
        rows = self.craft_rows(scene, aim)

        def crafted() -> Universal:
            search = scene.search(generator=torch.Generator().manual_seed(seed), criterion=aim)
            return self.craft(search, *rows) if larger is None else self.refine(search, *rows, larger)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if scene.detector is not None:
                return crafted()
            return remembered(scene.network, crafted, self, scene.ball, *rows, aim, seed, larger)

    def _strongest(self, target: Target, scene: EvasionSetup, found: Mapping[Criterion, Universal]) -> Criterion:
        """The aim whose perturbation wins most craft rows, as the target itself answers them.

        Shares are compared by the lower end of their intervals, so that a class with a handful of rows to win on is not
        taken for the worst by chance. Ties, as where a guard withholds everything, go by the share won in crafting.
        """
        if len(found) == 1:
            return next(iter(found))

        def won(aim: Criterion) -> tuple[float, float]:
            judged = _plain(aim) if self.targeted else scene.criterion
            rows = _spread(judged.open(scene.craft_labels), CHOICE_ROWS)
            x, y = scene.craft[rows], scene.craft_labels[rows]
            if not len(x):
                return 0.0, 0.0
            hit = scene.fooled(target, x, apply_perturbation(scene.ball, x, found[aim].delta), y, judged)
            return rate_interval(hit).low, found[aim].success

        return max(found, key=won)

    def _borrowed(
        self, scene: EvasionSetup, taken: Criterion, delta: Tensor, judged: Criterion, seed: int
    ) -> tuple[str, ...]:
        """C5: the same attack on the model before hardening finds what wins clearly more test rows than `delta`."""
        if scene.twin is None or scene.transfer or scene.detector is not None:
            return ()
        before = replace(scene, network=scene.twin)
        before = replace(before, craft_labels=before.search().decided(scene.craft))
        theirs = self._craft(before, taken, seed).delta
        search, (x, y) = scene.search(criterion=judged), _open(scene, judged)

        def won(change: Tensor) -> Tensor:
            return search.won(apply_perturbation(scene.ball, x, change), y)

        flag = weaker_than(won(delta), won(theirs), TWIN_CHECK)
        return (flag,) if flag else ()

    def _reached(
        self, target: Target, scene: EvasionSetup, found: Mapping[Criterion, Universal]
    ) -> dict[str, tuple[list[float], list[float]]]:
        """Per class, the share of test rows neither decided nor labelled so that its own perturbation brings there."""
        reached = {}
        for aim, crafted in found.items():
            if isinstance(aim, ClassChange) and aim.goal is not None:
                x, y = _open(scene, aim)
                hit = scene.fooled(target, x, apply_perturbation(scene.ball, x, crafted.delta), y, aim)
                name = f"{self.name}{PER_CLASS}{target.spec.classes[aim.goal]}"
                reached[name] = ([0.0, self.epsilon], [0.0, float(hit.mean())])
        return reached


def _spread(chosen: Tensor, most: int) -> Tensor:
    """Of the rows that are `chosen (n,)` at most so many, as indices, spread evenly: files may be sorted by class."""
    rows = torch.nonzero(chosen)[:, 0]
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most, dtype=torch.float64).round().long().to(rows.device)]


def _plain(aim: Criterion) -> Criterion:
    """What a target's answers are judged by, whatever was followed."""
    return aim.plain if isinstance(aim, CertifiedChange) else aim


def _open(scene: EvasionSetup, criterion: Criterion) -> tuple[Tensor, Tensor]:
    """The test rows that are judged, and the decisions on them."""
    rows = criterion.open(scene.test_labels, scene.truth)
    return scene.test[rows], scene.test_labels[rows]
