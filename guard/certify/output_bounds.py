"""Bounds of what decides, and which decisions no input between them can change, by the task's own rule."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.affine import class_pairs
from medward.guard.certify.rounding import SOFTMAX_ERROR
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array, Ints

UNCERTAIN = -1
"""In the place of a decision that some input within the radius may change."""
_MOST_CELLS = 2.0**46  # as many as `Regression` tells apart


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputBounds:
    """Output bounds hold what deciding numbers ``(n, m)`` are at least and at most, for every input within a radius.

    With `differences` those are of scores j - i for the pairs i < j of classes in order, else of the scores themselves.
    With `softmax` the scores are beneath a softmax whose probabilities are what is decided by.
    """

    lower: Array
    upper: Array
    differences: bool = False
    softmax: bool = False

    def worst_scores(self, decision: int, classes: int) -> Array:
        """Scores ``(n, classes)`` at which the class `decision` is least likely to be decided, each at its own bound.

        Whatever is decided at an input within the radius, its scores favour `decision` at least as much.
        """
        if self.differences:
            others = self._advantages(decision, classes)
        else:
            others = np.array(self.upper)
            others[:, decision] = self.lower[:, decision]
        return _slanted_softmax(others, decision) if self.softmax else others

    def _advantages(self, decision: int, classes: int) -> Array:
        """By how much each class may at most exceed the class `decision`."""
        most = np.zeros((len(self.lower), classes), self.lower.dtype)
        for place, (first, second) in enumerate(zip(*class_pairs(classes), strict=True)):
            if first == decision:
                most[:, second] = self.upper[:, place]
            elif second == decision:
                most[:, first] = -self.lower[:, place]
        return most


def certain_decisions(bounds: OutputBounds, spec: ModelSpec) -> Ints:
    """The decision ``(n,)`` of every input within the bounds, by the task's own rule; `UNCERTAIN` where there are two.

    Of a multilabel model the whole set of findings is one decision. Bounds that are no numbers make nothing certain.
    """
    bounds, whole = _finite_rows(bounds)
    task = spec.task
    if isinstance(task, Classification) and not task.one_column:
        found = np.full(len(bounds.lower), UNCERTAIN, np.int64)
        for decision in range(len(task.classes)):
            worst = bounds.worst_scores(decision, len(task.classes))
            found[task.decide(worst) == decision] = decision
    else:
        low, high = _end_outputs(bounds, spec)
        least, most = task.decide(low), task.decide(high)
        found = np.where(least == most, least, UNCERTAIN)
    return np.where(whole, found, UNCERTAIN)


def certain_findings(bounds: OutputBounds, spec: ModelSpec) -> NDArray[np.bool_]:
    """Which findings ``(n, K)`` of a multilabel model are decided alike by every input within the bounds."""
    if not isinstance(spec.task, Multilabel):
        raise TypeError(f"findings are those of a multilabel model, got {spec.task.kind}")
    bounds, whole = _finite_rows(bounds)
    low, high = _end_outputs(bounds, spec)
    return np.asarray((spec.task.found(low) == spec.task.found(high)) & whole[:, None])


def _end_outputs(bounds: OutputBounds, spec: ModelSpec) -> tuple[Array, Array]:
    """The outputs that the task reads at either end; every column is at its least, or at its largest."""
    ends = (bounds.lower, bounds.upper)
    if spec.output == "probabilities":
        ends = (np.clip(ends[0], 0, 1), np.clip(ends[1], 0, 1))
    if isinstance(spec.task, Classification):
        return spec.task.read(ends[0], spec.name), spec.task.read(ends[1], spec.name)
    if isinstance(spec.task, Regression):  # numbers farther out are no answers, and have no cell
        most = _MOST_CELLS * spec.task.tolerance
        return np.clip(ends[0], -most, most), np.clip(ends[1], -most, most)
    return ends


def _slanted_softmax(scores: Array, decision: int) -> NDArray[np.float32]:
    """Probabilities ``(n, K)`` of scores, wrong by as much as a runtime's may be, against the class `decision`."""
    wide = np.asarray(scores, np.float64)
    likely = np.exp(wide - wide.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    slant = np.full(wide.shape[1], 1 + SOFTMAX_ERROR)
    slant[decision] = 1 - SOFTMAX_ERROR
    slanted: NDArray[np.float32] = (likely * slant).astype(np.float32)
    return slanted


def _finite_rows(bounds: OutputBounds) -> tuple[OutputBounds, NDArray[np.bool_]]:
    """The bounds with zeros in rows of anything but finite numbers, which say nothing, and which rows are whole."""
    whole: NDArray[np.bool_] = np.isfinite(np.concatenate([bounds.lower, bounds.upper], axis=1)).all(axis=1)
    lower, upper = (np.where(whole[:, None], each, 0) for each in (bounds.lower, bounds.upper))
    return replace(bounds, lower=lower, upper=upper), whole
