"""What an attacker learns who is told decisions alone: whether an answer is what is true of a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.candidates.channels import Mask
from medward.attacks.candidates.signals import candidate_rows
from medward.attacks.learners.table import learner_of
from medward.attacks.membership.attack import membership_result, spread_scores
from medward.attacks.target import Target
from medward.guard.data.labels import Labels
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOnlyAttack(ABC):
    """A label-only attack reads decisions and no scores; what hides scores does not hinder it."""

    family: ClassVar[str] = "membership"

    @property
    def threat(self) -> ThreatModel:
        """Decisions, and the candidates' true labels."""
        return ThreatModel(access=Access.LABELS, knowledge="each candidate's input and true label")

    def adaptive(self, policy: Policy) -> Self:
        """The same: a guard that answers less still answers decisions."""
        return self

    @abstractmethod
    def scored(self, asker: Asker, inputs: Array, seed: int) -> Array:
        """Scores ``(n,)`` of candidates that were answered."""

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Score every candidate, those without an answer as the median; raises `MedwardError` without candidates."""
        rows, labels, _ = candidate_rows(data)
        asker = Asker(target, labels, np.random.default_rng(seed))
        known = asker.ask(rows.inputs)[1]
        scores: Array = np.zeros(0)
        if known.any():
            some = Asker(target, labels[known], np.random.default_rng(seed))
            scores = self.scored(some, np.asarray(rows.inputs[known], np.float32), seed)
        return membership_result(target, data, spread_scores(scores, known), seed=seed)


@dataclass(frozen=True, slots=True)
class Asker:
    """An asker asks one version of every candidate at a time, in random order, as no account's history may tell."""

    target: Target
    labels: Labels
    rng: np.random.Generator

    @property
    def spec(self) -> ModelSpec:
        """The model's."""
        return self.target.spec

    def ask(self, inputs: Array) -> tuple[Mask, Mask]:
        """Which of ``(n, ...)`` were answered with what is true ``(n,)``, and which at all."""
        learner = learner_of(self.spec)
        order = self.rng.permutation(len(inputs))
        said = np.full(len(inputs), -1)
        said[order] = self.target.query(np.asarray(inputs[order], np.float32)).labels
        answered = said >= 0
        right = np.zeros(len(inputs), bool)
        right[answered] = learner.same(learner.certain(said[answered]), learner.known(self.labels[answered]))
        return right, answered

    def right(self, inputs: Array) -> Mask:
        """Which of ``(n, ...)`` were answered with what is true; what was withheld was not."""
        return self.ask(inputs)[0]

    def bounded(self, inputs: Array) -> Array:
        """Inputs within the model's bounds."""
        low, high = self.spec.low, self.spec.high
        return np.asarray(
            np.clip(inputs, -np.inf if low is None else low, np.inf if high is None else high), np.float32
        )
