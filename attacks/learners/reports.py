"""Learning what reports say: of each finding whether it is there or may be, as a set of findings is learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.learners.findings import FindingLearner
from medward.attacks.target import Response
from medward.attacks.whitebox.surrogate import answered_rows
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True)
class ReportLearner:
    """A report learner takes a report for the set of findings that it says are there or may be.

    How sure a report is of them is not learned, and not compared: two that name the same findings say the same.
    """

    task: WrittenReport

    @property
    def width(self) -> int:
        """A probability for each finding."""
        return len(self.task.findings)

    def released(self, response: Response) -> Array:
        """Ones and zeros by what left of the findings; a row of NaN where they did not."""
        scores = np.asarray(response.scores, np.float64)
        return np.where(np.isnan(scores), np.nan, scores > 0)

    def targets(self, response: Response) -> Array:
        """Ones and zeros: a text that left says no more of the findings than the decision, which leaves with it."""
        targets = self.released(response)
        told = ~answered_rows(targets) & (response.labels >= 0)
        targets[told] = self.known(response.labels[told])
        return targets

    def known(self, labels: NDArray[np.generic]) -> Array:
        """Ones and zeros."""
        return self._set.known(labels)

    def certain(self, decisions: Ints) -> Array:
        """Ones and zeros."""
        return self._set.known(decisions)

    def reference(self, data: AttackData) -> Array:
        """The sets that the model's reports name."""
        return self._set.reference(data)

    def fit(
        self, spec: ModelSpec, inputs: Array, targets: Array, *, epochs: int, seed: int, normalised: bool = True
    ) -> nn.Module:
        """As of findings; the network gives logits and writes nothing."""
        return self._set.fit(spec, inputs, targets, epochs=epochs, seed=seed, normalised=normalised)

    def operated(self, network: nn.Module) -> nn.Module:
        """As it is: reports have no operating points."""
        return network

    def values(self, outputs: Array) -> Array:
        """Probabilities of logits."""
        return self._set.values(outputs)

    def decided(self, values: Array) -> Ints:
        """The set of findings at one half or more."""
        return self._set.decided(values)

    def same(self, first: Array, second: Array) -> NDArray[np.bool_]:
        """Where the sets are the same."""
        return self._set.same(first, second)

    def constant(self, values: Array) -> Array:
        """The most common set: what the most common report names."""
        return self._set.constant(values)

    def parts(self, values: Array, reference: Array) -> dict[str, float]:
        """Of each finding the balanced agreement less one half, as of findings."""
        return self._set.parts(values, reference)

    @property
    def _set(self) -> FindingLearner:
        """The same findings at one half."""
        count = len(self.task.findings)
        return FindingLearner(
            Multilabel(findings=self.task.findings, output="probabilities", thresholds=(0.5,) * count)
        )
