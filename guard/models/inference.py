"""What a model answers, as far as it shows: a library's own words, the data's labels, the shape of its outputs.

Nothing is guessed: where two readings fit, the model is refused and both are named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.models.kinds import (
    CLASSIFICATION,
    MULTILABEL,
    OPAQUE,
    REGRESSION,
    check_task,
    refuse_kind,
)
from medward.guard.spec import AnyTask
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array, ScoreKind

LabelKind = Literal["classes", "findings", "numbers"]
"""What labels beside the data are: one class a row, several findings a row, or a number that is no class."""
OperatingPoints = float | Sequence[float] | Mapping[str, float]
"""One operating point for all, one for each column in order, or one by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Task options are what a user said of what a model answers; None and empty for what was left out.

    `task` is a word (`kinds.TASKS`). `classes` name the columns of a row of scores: classes, findings, the quantity.
    """

    task: str | None = None
    classes: Sequence[str] | None = None
    output: ScoreKind | None = None
    threshold: OperatingPoints | None = None
    tolerance: float | None = None
    cut_points: Sequence[float] = ()
    unit: str = ""


def infer_task(
    name: str,
    said: TaskOptions,
    known: Mapping[str, Any],
    raw: Callable[[], Array],
    labels: LabelKind | None = None,
) -> AnyTask:
    """The task of the model called `name` by what was `said`, what is `known` of it and, if need be, its `raw` outputs.

    `known` are an adapter's words; `raw` runs the model on a few rows. Raises `MedwardError` where what is needed is
    missing, with all that is missing, and where two readings fit.
    """
    if isinstance(said.classes, str):
        raise MedwardError(f"{name}: classes must be a list of names, got the string {said.classes!r}")
    check_task(name, said.task)
    kind, one_column = _kind(name, said, known, raw, labels)
    classes = tuple(said.classes) if said.classes is not None else known.get("classes")
    output = said.output or known.get("output")
    if kind == OPAQUE:
        _refuse(name, kind, threshold=said.threshold, tolerance=said.tolerance, cut_points=said.cut_points or None)
        return Opaque(what=said.classes[0] if said.classes else "output")
    if kind == REGRESSION:
        _refuse(name, kind, threshold=said.threshold)
        if said.tolerance is None:
            raise MedwardError(
                f"{name}: a regression model needs --tolerance (tolerance), the smallest change of its number that "
                "matters to whoever acts on it"
            )
        quantity = said.classes[0] if said.classes else "value"
        return Regression(
            quantity=quantity, tolerance=said.tolerance, cut_points=tuple(said.cut_points), unit=said.unit
        )
    _refuse(name, kind, tolerance=said.tolerance, cut_points=said.cut_points or None)
    threshold = known.get("threshold") if said.threshold is None else said.threshold
    if output is None or classes is None:
        lacking = ["say what its scores are, --output logits or --output probabilities"] * (output is None)
        lacking += ["name the classes in score order with --classes"] * (classes is None)
        raise MedwardError(f"{name}: {' and '.join(lacking)}; the model does not tell")
    if kind == MULTILABEL:
        return Multilabel(findings=classes, output=output, thresholds=_points(name, threshold, classes))
    if threshold is not None and not isinstance(threshold, float | int):
        raise MedwardError(f"{name}: threshold: one number for two classes, got {threshold!r}")
    return Classification(classes=classes, output=output, threshold=threshold, one_column=one_column)


def _kind(
    name: str,
    said: TaskOptions,
    known: Mapping[str, Any],
    raw: Callable[[], Array],
    labels: LabelKind | None,
) -> tuple[str, bool]:
    """Which task, and whether the model gives one column for two classes."""
    numbers = said.tolerance is not None or bool(said.cut_points)
    kind = said.task or known.get("task")
    if kind is None and numbers:
        kind = REGRESSION
    if kind is None and (labels == "findings" or isinstance(said.threshold, Sequence | Mapping)):
        kind = MULTILABEL
    if kind in (MULTILABEL, REGRESSION, OPAQUE):
        return kind, False
    if known.get("classes") is not None or known.get("columns"):
        return CLASSIFICATION, False
    outputs = raw()
    if kind is None and labels == "numbers":
        refuse_kind(name, "regression", "the labels are numbers that are no classes")
    if outputs.ndim > 2:
        refuse_kind(name, "segmentation", f"its output has shape {outputs.shape}, axes beyond a score for each class")
    single = outputs.ndim == 1 or outputs.shape[1:] == (1,)
    if not single:
        return CLASSIFICATION, False
    two = said.classes is not None and len(said.classes) == 2
    if kind is None and not two and said.threshold is None:
        refuse_kind(name, "single-output", f"its output has shape {outputs.shape}")
    return CLASSIFICATION, True


def _points(name: str, threshold: OperatingPoints | None, findings: Sequence[str]) -> tuple[float, ...]:
    """One operating point for each finding, 0.5 where none was said at all."""
    if threshold is None or isinstance(threshold, float | int):
        return (0.5 if threshold is None else float(threshold),) * len(findings)
    if isinstance(threshold, Mapping):
        if unlike := sorted(set(threshold) ^ set(findings)):
            raise MedwardError(
                f"{name}: threshold: needs one for each of {', '.join(findings)}, and no other; see {unlike[0]!r}"
            )
        return tuple(threshold[each] for each in findings)
    return tuple(threshold)


def _refuse(name: str, kind: str, **settings: object) -> None:
    """Refuse settings of other tasks."""
    for setting, value in settings.items():
        if value is not None:
            raise MedwardError(f"{name}: {setting}: means nothing for a model of task {kind}; leave it out")


def label_kind(labels: Any, names: Any) -> LabelKind | None:
    """What raw labels are: names or whole numbers ``(n,)``, a table ``(n, K)`` of 0 and 1, or other numbers."""
    if names is not None:
        return "classes"
    if labels is None:
        return None
    if np.ndim(labels) == 2:
        return "findings"
    return "numbers" if np.asarray(labels).dtype.kind == "f" else "classes"
