"""How an attacker trains a model of its own rows who knows the task and nothing of how the model was trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from medward.attacks.learners.table import learner_of
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class LearnerRecipe:
    """A learner's recipe trains the task's own learner; another process can find it by its name."""

    spec: ModelSpec
    epochs: int

    def __call__(self, rows: Split, seed: int) -> nn.Module:
        """Train one network."""
        learner = learner_of(self.spec)
        if rows.labels is None:
            raise MedwardError("shadows: need labelled rows, and these have no labels; give some")
        return learner.fit(self.spec, rows.inputs, learner.known(rows.labels), epochs=self.epochs, seed=seed)
