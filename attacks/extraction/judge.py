"""How good a clone is: its agreement with the model and its accuracy, beside a thief without a victim."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import ACCURACY, PER_CLASS, AttackData
from medward.attacks.extraction.base import clone_values
from medward.attacks.learners.table import learner_of
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

CLONE, NO_VICTIM = "clone", "no victim"


class CloneJudge:
    """Notes clones along a theft, beside what the undefended model of `spec` says of the test rows of `data`.

    A thief who learned nothing gives the best constant answer: the one that most of the model's are the same as.
    """

    def __init__(self, data: AttackData, spec: ModelSpec) -> None:
        self._test, self._spec, self._learner = data.test, spec, learner_of(spec)
        self._reference = self._learner.reference(data)
        self._constant = np.broadcast_to(self._learner.constant(self._reference), self._reference.shape)
        self._points: list[float] = []
        self._answers: dict[str, list[Array]] = {CLONE: [], NO_VICTIM: []}

    @property
    def outcome(self) -> NDArray[np.bool_]:
        """Whether the last clone agrees, row by row."""
        return self._learner.same(self._reference, self._answers[CLONE][-1])

    @property
    def baseline(self) -> NDArray[np.bool_]:
        """The same for the thief without a victim."""
        return self._learner.same(self._reference, self._answers[NO_VICTIM][-1])

    def note(self, queries: int, clone: nn.Module | None, naive: nn.Module | None) -> None:
        """One point of the curves: after `queries` rows, the `clone` and one learned without a victim."""
        inputs = self._test.inputs
        without = self._constant if naive is None else clone_values(self._spec, naive, inputs)
        self._points.append(float(queries))
        self._answers[NO_VICTIM].append(without)
        self._answers[CLONE].append(without if clone is None else clone_values(self._spec, clone, inputs))

    def curves(self) -> dict[str, tuple[list[float], list[float]]]:
        """Over the rows asked: each thief's agreement, in all and by part, and accuracy where labels are known."""
        found = {}
        for who, answers in self._answers.items():
            found[who] = (self._points, [self._share(self._reference, each) for each in answers])
        truth = None if self._test.labels is None else self._learner.known(self._test.labels)
        for who, answers in self._answers.items():
            parts = [self._learner.parts(each, self._reference) for each in answers]
            for name in parts[0]:
                found[f"{who}{PER_CLASS}{name}"] = (self._points, [each[name] for each in parts])
            if truth is not None:
                found[f"{who}{ACCURACY}"] = (self._points, [self._share(truth, each) for each in answers])
        return found

    def _share(self, reference: Array, values: Array) -> float:
        return float(np.mean(self._learner.same(reference, values)))
