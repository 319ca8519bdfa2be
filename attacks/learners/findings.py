"""Learning findings: a probability of each alone, by binary cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from medward.attacks.base import AttackData
from medward.attacks.learners.base import reference_decisions
from medward.attacks.target import Response
from medward.attacks.whitebox.surrogate import answered_rows, fit_student
from medward.guard.spec import ModelSpec
from medward.guard.tasks.decision import threshold_odds
from medward.guard.tasks.multilabel import Multilabel, packed_findings, unpacked_findings
from medward.guard.types import Array, Ints


class AtThresholds(nn.Module):
    """Logits of findings, each lowered by the log odds of its own threshold, so that zero decides."""

    def __init__(self, network: nn.Module, thresholds: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("border", torch.tensor([threshold_odds(each) for each in thresholds]))

    def forward(self, x: Tensor) -> Tensor:
        """The logits ``(n, K)``."""
        logits: Tensor = self.network(x) - self.get_buffer("border")
        return logits


@dataclass(frozen=True, slots=True)
class FindingLearner:
    """A finding learner takes an answer for independent probabilities, and a decision for a set of certain findings."""

    task: Multilabel

    @property
    def width(self) -> int:
        """A probability for each finding."""
        return len(self.task.findings)

    def released(self, response: Response) -> Array:
        """Probabilities of each finding."""
        scores = np.asarray(response.scores, np.float64)
        return scores if response.output == "probabilities" else self.values(scores)

    def targets(self, response: Response) -> Array:
        """Probabilities moved so that one half is the threshold; ones and zeros where only the set left."""
        targets = np.full((len(response.labels), self.width), np.nan)
        shown = answered_rows(response.scores)
        if shown.any():
            own = Multilabel(
                findings=self.task.findings,
                output="probabilities" if response.output == "probabilities" else "logits",
                thresholds=self.task.thresholds,
            )
            targets[shown] = self.values(own.judged(response.scores[shown]))
        told = ~shown & (response.labels >= 0)
        targets[told] = self.known(response.labels[told])
        return targets

    def known(self, labels: NDArray[np.generic]) -> Array:
        """Ones and zeros."""
        return unpacked_findings(np.asarray(labels, np.int64), self.width).astype(np.float64)

    def certain(self, decisions: Ints) -> Array:
        """Ones and zeros."""
        return self.known(decisions)

    def reference(self, data: AttackData) -> Array:
        """The sets the model decides."""
        return self.known(reference_decisions(data))

    def fit(
        self, spec: ModelSpec, inputs: Array, targets: Array, *, epochs: int, seed: int, normalised: bool = True
    ) -> nn.Module:
        """By binary cross-entropy over all findings; the network gives logits."""
        return fit_student(
            inputs,
            targets,
            loss=nn.functional.binary_cross_entropy_with_logits,
            modality=spec.modality,
            shape=spec.shape,
            epochs=epochs,
            seed=seed,
            normalised=normalised,
        )

    def operated(self, network: nn.Module) -> nn.Module:
        """At the findings' thresholds."""
        return AtThresholds(network, self.task.thresholds)

    def values(self, outputs: Array) -> Array:
        """Probabilities of logits."""
        return np.asarray(expit(np.asarray(outputs, np.float64)))

    def decided(self, values: Array) -> Ints:
        """The set of findings at one half or more."""
        return packed_findings(np.asarray(values >= 0.5))

    def same(self, first: Array, second: Array) -> NDArray[np.bool_]:
        """Where the sets are the same."""
        return np.asarray(self.decided(first) == self.decided(second))

    def constant(self, values: Array) -> Array:
        """The most common set."""
        sets, counts = np.unique(self.decided(values), return_counts=True)
        return np.asarray(self.known(sets[counts.argmax()][None])[0])

    def parts(self, values: Array, reference: Array) -> dict[str, float]:
        """Of each finding the balanced agreement less that of a constant answer, which is one half.

        Findings that the reference has everywhere or nowhere are left out.
        """
        truth, answers = reference >= 0.5, values >= 0.5
        gains = {}
        for column, name in enumerate(self.task.findings):
            there, agree = truth[:, column], answers[:, column] == truth[:, column]
            if there.any() and not there.all():
                gains[name] = float((agree[there].mean() + agree[~there].mean()) / 2 - 0.5)
        return gains
