"""What attacks on single inputs share that only ask the target: the settings and the run.

An attack here is settings and a `search`, which sees answers and nothing else; every row it asks counts.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.checks import run_flags
from medward.attacks.evasion.asking import (
    BlackBoxSearch,
    asked_rows,
    black_box_answers,
    clean_rows,
    fooled_rows,
    known_answers,
)
from medward.attacks.evasion.fooled_share import counted_classes, larger_share
from medward.attacks.evasion.per_image import PerImage, noisy_rows
from medward.attacks.evasion.setup import FACTORS, NO_ROWS, balls_within
from medward.attacks.evasion.tallies import Envelope
from medward.attacks.target import Target
from medward.attacks.whitebox.ascent import Ascent
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy

_REPEATS = 2  # rows asked besides the search, for each attacked row and radius: with noise, and what was found


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
    def search(self, search: BlackBoxSearch, x: Tensor, y: Tensor) -> Ascent:
        """The attack on rows `x (n, *shape)` answered with `y (n,)`, by what is answered when it asks."""

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Attack the first `rows` of ``data.test``; what each search found is asked once more, and that is judged.

        `outcome` are the rows that any radius fools, `baseline` those that random noise does, one vector per row and
        radius. A row withheld as it is keeps its label in ``data.reference``, else in the data. No surrogate is
        trained and no gradient is used. The curve has two points, nothing and everything up to the full radius.
        """
        if self.rows < 1:
            raise MedwardError(f"rows: must be at least 1, got {self.rows}")
        ball, criterion = self.ball(target, data), self.criterion(target.spec)
        inputs = np.asarray(data.test.inputs[: self.rows], np.float32)
        x = torch.as_tensor(inputs, device=self.device)
        if not len(x):
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        clean = target.query(inputs)
        withheld = float((clean.labels < 0).mean())
        own = known_answers(data, target.spec)
        y, _ = clean_rows(clean, criterion, self.device, None if own is None else own[: self.rows])
        judged = criterion.open(y)
        x, y = x[judged], y[judged]
        if not len(x):
            return AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        generator = torch.Generator().manual_seed(seed)
        start = float(fooled_rows(target, x, y, criterion).mean())
        decided, labels = criterion.decisions(y).cpu().numpy(), data.test.labels
        known = None if labels is None else labels[: self.rows][judged.cpu().numpy()]
        classes = counted_classes(target.spec.task, decided, known)
        before = None if clean.uncertified is None else clean.uncertified[judged.cpu().numpy()]
        attacked, random, made = Envelope(x, classes, before), Envelope(x, classes, before), x.clone()
        for factor, smaller in reversed(balls_within(ball)):
            rows = attacked.standing
            search = BlackBoxSearch(black_box_answers(target), criterion, smaller, generator)
            found = self.search(search, x[rows], y[rows])
            if factor == 1.0:
                made = found.adversarial
            attacked.add(factor * self.epsilon, asked_rows(target, found.adversarial, y[rows], criterion), rows)
            rows = random.standing
            noisy = noisy_rows(smaller, x[rows], smaller.surface(tuple(x[rows].shape), generator))
            random.add(factor * self.epsilon, asked_rows(target, noisy, y[rows], criterion), rows)
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
            judged=np.flatnonzero(judged.cpu().numpy()),
            attempts=(self._attempt(attacked, random, criterion.decisions(y)),),
            queries=target.queries,
            flags=flags,
            curves={
                self.name: ([0.0, self.epsilon], [start, larger_share(attacked.fooled, classes)]),
                self._noise: ([0.0, self.epsilon], [start, larger_share(random.fooled, classes)]),
            },
        )
