"""Learning classes: probabilities that sum to one, by soft cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.learners.base import reference_decisions
from medward.attacks.target import Response
from medward.attacks.whitebox.network import AtThreshold
from medward.attacks.whitebox.surrogate import answered_rows, fit_classifier, moved_to_threshold
from medward.guard.release.scores import probabilities
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import threshold_odds
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True)
class ClassLearner:
    """A class learner takes an answer for a distribution over classes; what a row hides is spread evenly."""

    task: Classification

    @property
    def width(self) -> int:
        """A probability for each class."""
        return len(self.task.classes)

    def released(self, response: Response) -> Array:
        """Probabilities."""
        return response.probabilities

    def targets(self, response: Response) -> Array:
        """Probabilities moved to the threshold, or the label's one-hot row."""
        return moved_to_threshold(clone_targets(response), self.task.threshold)

    def known(self, labels: NDArray[np.generic]) -> Array:
        """One-hot rows."""
        return np.asarray(np.eye(self.width)[labels])

    def certain(self, decisions: Ints) -> Array:
        """One-hot rows."""
        return self.known(decisions)

    def reference(self, data: AttackData) -> Array:
        """One-hot rows of the model's decisions."""
        return self.known(reference_decisions(data))

    def fit(
        self, spec: ModelSpec, inputs: Array, targets: Array, *, epochs: int, seed: int, normalised: bool = True
    ) -> nn.Module:
        """By soft cross-entropy; the network gives logits."""
        return fit_classifier(
            inputs,
            targets,
            classes=self.width,
            modality=spec.modality,
            shape=spec.shape,
            epochs=epochs,
            seed=seed,
            normalised=normalised,
        )

    def operated(self, network: nn.Module) -> nn.Module:
        """At the threshold, where there is one."""
        threshold = self.task.threshold
        return network if threshold is None else AtThreshold(network, threshold_odds(threshold))

    def values(self, outputs: Array) -> Array:
        """Probabilities of logits."""
        return probabilities(outputs, "logits")

    def decided(self, values: Array) -> Ints:
        """The largest class."""
        return np.asarray(values.argmax(axis=1), np.int64)

    def same(self, first: Array, second: Array) -> NDArray[np.bool_]:
        """Where the largest class is the same."""
        return np.asarray(self.decided(first) == self.decided(second))

    def constant(self, values: Array) -> Array:
        """The most common class."""
        return np.asarray(np.eye(self.width)[np.bincount(self.decided(values), minlength=self.width).argmax()])

    def parts(self, values: Array, reference: Array) -> dict[str, float]:
        """Of the rows of each class the share decided so."""
        truth, answers = self.decided(reference), self.decided(values)
        return {self.task.classes[each]: float(np.mean(answers[truth == each] == each)) for each in np.unique(truth)}


def clone_targets(response: Response) -> Array:
    """What to train on ``(n, K)``: probabilities as released, a label's one-hot row, NaN if nothing left.

    Where only some classes left, the others share the rest evenly.
    """
    targets = response.probabilities
    hard = ~answered_rows(targets) & (response.labels >= 0)
    targets[hard] = np.eye(targets.shape[1])[response.labels[hard]]
    return targets
