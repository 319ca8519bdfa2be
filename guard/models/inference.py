"""What a model answers, as far as it shows: a library's own words, the data's labels, the shape of its outputs.

Nothing is guessed: where two readings fit, the model is refused and both are named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.models.kinds import (
    CLASSIFICATION,
    MULTILABEL,
    OPAQUE,
    REGRESSION,
    REPORT,
    check_task,
    refuse_kind,
)
from medward.guard.spec import AnyTask
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, ScoreKind

LabelKind = Literal["classes", "findings", "one-hot", "numbers"]
"""What labels beside the data are: one class a row, findings a row, a table that may be either, or other numbers."""
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
    said = _plain(name, said)
    kind, one_column = _kind(name, said, known, raw, labels)
    classes = tuple(said.classes) if said.classes is not None else known.get("classes")
    output = said.output or known.get("output")
    if kind == OPAQUE:
        _refuse(name, kind, threshold=said.threshold, tolerance=said.tolerance, cut_points=said.cut_points or None)
        _refuse(name, kind, output=said.output)
        return Opaque(what=said.classes[0] if said.classes else "output")
    if kind == REPORT:
        _refuse(name, kind, threshold=said.threshold, tolerance=said.tolerance, cut_points=said.cut_points or None)
        _refuse(name, kind, output=said.output)
        bound = known.get("length"), known.get("vocabulary")
        sized = {key: each for key, each in zip(("length", "vocabulary"), bound, strict=True) if each is not None}
        return WrittenReport(**sized) if said.classes is None else WrittenReport(findings=tuple(said.classes), **sized)
    if kind == REGRESSION:
        _refuse(name, kind, threshold=said.threshold, output=said.output)
        if said.classes is not None and len(said.classes) != 1:
            raise MedwardError(
                f"{name}: classes: name the one quantity of a regression model, got {list(said.classes)}"
            )
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


def _plain(name: str, said: TaskOptions) -> TaskOptions:
    """`said` with plain floats for numbers of any library; refuses what is no number."""
    threshold, points = said.threshold, said.cut_points
    if isinstance(threshold, Mapping):
        threshold = {str(each): _number(name, "threshold", value) for each, value in threshold.items()}
    elif isinstance(threshold, Sequence | np.ndarray) and not isinstance(threshold, str):
        threshold = [_number(name, "threshold", value) for value in threshold]
    elif threshold is not None:
        threshold = _number(name, "threshold", threshold)
    if isinstance(points, str) or not isinstance(points, Sequence | np.ndarray):
        raise MedwardError(f"{name}: cut_points: a list of numbers is needed, got {points!r}")
    return replace(
        said,
        threshold=threshold,
        tolerance=None if said.tolerance is None else _number(name, "tolerance", said.tolerance),
        cut_points=tuple(_number(name, "cut_points", value) for value in points),
    )


def _number(name: str, what: str, value: object) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise MedwardError(f"{name}: {what}: a number is needed, got {value!r}")
    return float(value)


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
    several = isinstance(said.threshold, Sequence | Mapping) and not isinstance(said.threshold, str)
    if kind is None and (labels in ("findings", "one-hot") or several):
        if known.get("classes") is not None:
            raise MedwardError(
                f"{name}: the model itself has the classes {', '.join(known['classes'])}, one of which is right; give "
                "one class per row as labels (labels.argmax(axis=1)) and one --threshold, or say --task"
            )
        if labels == "one-hot":
            raise MedwardError(
                f"{name}: every row of the labels has exactly one 1, so they can be classes of which one is right, or "
                f"findings; give labels.argmax(axis=1) for classes, or say --task {MULTILABEL}"
            )
        kind = MULTILABEL
    if kind in (MULTILABEL, REGRESSION, OPAQUE, REPORT):
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
    """What raw labels are: names or whole numbers ``(n,)``, a table ``(n, K)`` of 0 and 1, or other numbers.

    A table each of whose rows has exactly one 1 is "one-hot": one class of several, or one finding in every row.
    """
    if names is not None:
        return "classes"
    if labels is None:
        return None
    if np.ndim(labels) == 2:
        return "one-hot" if (np.asarray(labels).sum(axis=1) == 1).all() else "findings"
    return "numbers" if np.asarray(labels).dtype.kind == "f" else "classes"
