"""How good a clone is: its agreement with the model and its accuracy, beside a thief without a victim."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import ACCURACY, LABEL_F1, PER_CLASS, AttackData
from medward.attacks.extraction.base import clone_values
from medward.attacks.learners.table import learner_of
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.report import WrittenReport
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
        return found | self._finding_curves(truth)

    def _finding_curves(self, truth: Array | None) -> dict[str, tuple[list[float], list[float]]]:
        """Of tasks with findings their label F1 against the model's, in all and one by one, and against true labels.

        In all, "no finding" is a label as well: else who always says one finding would look better than who says none.
        """
        if not isinstance(self._spec.task, Multilabel | WrittenReport):
            return {}
        theirs, found = self._reference >= 0.5, {}
        for who, answers in self._answers.items():
            said = [values >= 0.5 for values in answers]
            found[f"{who}{LABEL_F1}"] = (self._points, [_labels_f1(each, theirs) for each in said])
            for column, name in enumerate(self._spec.task.findings):
                if theirs[:, column].any():
                    scores = [label_f1(each[:, column], theirs[:, column]) for each in said]
                    found[f"{who}{LABEL_F1} of {name}"] = (self._points, scores)
            if truth is not None:
                found[f"{who}{LABEL_F1}{ACCURACY}"] = (self._points, [_labels_f1(each, truth >= 0.5) for each in said])
        return found

    def _share(self, reference: Array, values: Array) -> float:
        return float(np.mean(self._learner.same(reference, values)))


def label_f1(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """The F1 score over all entries of findings that are `said` and those that are in `truth`, of the same shape.

    Entries are counted together (micro average), so rare findings weigh as they come. 1 where there is none of either.
    """
    both, either = int((said & truth).sum()), int(said.sum()) + int(truth.sum())
    return 2 * both / either if either else 1.0


def _labels_f1(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """`label_f1` of sets of findings ``(n, K)`` with "no finding" as one more label."""
    return label_f1(*(np.column_stack([each, ~each.any(axis=1)]) for each in (said, truth)))
