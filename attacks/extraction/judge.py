"""How good a clone is: its agreement with the model and its accuracy, beside a thief without a victim."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import ACCURACY, PER_CLASS
from medward.attacks.extraction.base import clone_decisions
from medward.guard.data.split import Split
from medward.guard.types import Ints

CLONE, NO_VICTIM = "clone", "no victim"


class CloneJudge:
    """Notes clones along a theft. `reference (n,)` is the undefended model's decision on each row of `test`.

    A thief who learned nothing gives the best constant answer, the most common of `reference`.
    """

    def __init__(self, test: Split, reference: Ints, classes: Sequence[str]) -> None:
        self._test, self._reference, self._classes = test, reference, classes
        self._constant = np.full(len(reference), np.bincount(reference, minlength=len(classes)).argmax())
        self._points: list[float] = []
        self._answers: dict[str, list[Ints]] = {CLONE: [], NO_VICTIM: []}

    @property
    def outcome(self) -> NDArray[np.bool_]:
        """Whether the last clone agrees, row by row."""
        return np.asarray(self._answers[CLONE][-1] == self._reference)

    @property
    def baseline(self) -> NDArray[np.bool_]:
        """The same for the thief without a victim."""
        return np.asarray(self._answers[NO_VICTIM][-1] == self._reference)

    def note(self, queries: int, clone: nn.Module | None, naive: nn.Module | None) -> None:
        """One point of the curves: after `queries` rows, the `clone` and one learned without a victim."""
        naive_labels = self._constant if naive is None else clone_decisions(naive, self._test.inputs)
        self._points.append(float(queries))
        self._answers[NO_VICTIM].append(naive_labels)
        self._answers[CLONE].append(naive_labels if clone is None else clone_decisions(clone, self._test.inputs))

    def curves(self) -> dict[str, tuple[list[float], list[float]]]:
        """Over the rows asked: each thief's agreement, in all and per class, and accuracy where labels are known."""
        found = {}
        for who, answers in self._answers.items():
            found[who] = (self._points, [float(np.mean(each == self._reference)) for each in answers])
        for who, answers in self._answers.items():
            for label in np.unique(self._reference):
                rows = self._reference == label
                shares = [float(np.mean(each[rows] == label)) for each in answers]
                found[f"{who}{PER_CLASS}{self._classes[label]}"] = (self._points, shares)
            if self._test.labels is not None:
                shares = [float(np.mean(each == self._test.labels)) for each in answers]
                found[f"{who}{ACCURACY}"] = (self._points, shares)
        return found
