"""Which learner a model's task has, and how rows are grouped by what was decided."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medward.attacks.learners.base import Learner
from medward.attacks.learners.classes import ClassLearner
from medward.attacks.learners.findings import FindingLearner
from medward.attacks.learners.numbers import NumberLearner
from medward.attacks.learners.reports import ReportLearner
from medward.guard.data.labels import Labels
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints

NO_FINDING = "no finding"


def learner_of(spec: ModelSpec) -> Learner:
    """What an attacker learns of a model of `spec`. Raises `MedwardError` for outputs that nobody here can read."""
    if isinstance(spec.task, Classification):
        return ClassLearner(spec.task)
    if isinstance(spec.task, Multilabel):
        return FindingLearner(spec.task)
    if isinstance(spec.task, Regression):
        return NumberLearner(spec.task)
    if isinstance(spec.task, WrittenReport):
        return ReportLearner(spec.task)
    raise MedwardError(f"{spec.name}: {spec.rule}, so there is nothing that a network could be taught of it")


def check_classes(spec: ModelSpec, technique: str) -> None:
    """Refuse a `technique` that chooses between classes for a model that has none."""
    if not isinstance(spec.task, Classification):
        raise MedwardError(f"{technique} is for models of classes, and this one {spec.rule}; use knockoff or copycat")


def as_labels(task: Task, outputs: Array) -> NDArray[np.generic]:
    """A model's outputs in the place of labels ``(n,)``: its decisions, or its numbers."""
    return np.asarray(outputs[:, 0], np.float64) if isinstance(task, Regression) else task.decide(outputs)


def row_groups(task: Task, decided: Ints) -> dict[str, NDArray[np.bool_]]:
    """The rows that were decided alike, by name: as a class, with a finding (a row may be in several), in a cell.

    Only groups that have rows. Empty where decisions are no groups of patients: multiples of a tolerance, digests.
    """
    if isinstance(task, Classification):
        return {task.classes[each]: decided == each for each in np.unique(decided)}
    if isinstance(task, Multilabel | WrittenReport):  # a report's findings that are there or may be
        sets = unpacked_findings(decided, len(task.findings))
        named = {name: sets[:, column] for column, name in enumerate(task.findings)} | {NO_FINDING: decided == 0}
        return {name: rows for name, rows in named.items() if rows.any()}
    if isinstance(task, Regression) and task.cut_points:
        return {task.word(int(each)): decided == each for each in np.unique(decided)}
    return {}


def group_names(task: Task) -> tuple[str, ...]:
    """The names that `row_groups` may give, in order."""
    if isinstance(task, Classification):
        return task.classes
    if isinstance(task, Multilabel | WrittenReport):
        return (*task.findings, NO_FINDING)
    if isinstance(task, Regression) and task.cut_points:
        return tuple(map(task.word, range(len(task.cut_points) + 1)))
    return ()


def matches_labels(task: Task, outputs: Array, labels: Labels | None) -> NDArray[np.bool_]:
    """Where ``(n,)`` a model's outputs say what the labels do: the same decision, or a number within the tolerance."""
    if labels is None:
        raise ValueError("there are no labels")
    if isinstance(task, Regression):
        return task.unchanged(np.asarray(labels, np.float64)[:, None], outputs)
    own = task.decide(outputs)
    return np.asarray((task.found_sets(own) if isinstance(task, WrittenReport) else own) == labels)


def task_balanced_accuracy(task: Task, outputs: Array, labels: Labels | None) -> float | None:
    """The mean recall over classes, or over findings that of presence and absence; None where there is neither."""
    if labels is None:
        return None
    if isinstance(task, Multilabel | WrittenReport):
        learner = FindingLearner(task) if isinstance(task, Multilabel) else ReportLearner(task)
        gains = learner.parts(learner.known(task.decide(outputs)), learner.known(labels))
        return 0.5 + float(np.mean(list(gains.values()))) if gains else None
    if isinstance(task, Classification):
        right = task.decide(outputs) == labels
        return float(np.mean([right[labels == each].mean() for each in np.unique(labels)]))
    return None


def chance_accuracy(task: Task, labels: Labels | None) -> float:
    """The balanced accuracy of guessing."""
    return 1 / max(2, len(np.unique(labels))) if labels is not None and isinstance(task, Classification) else 0.5
