"""The quality of a model on labelled rows, measured as its task asks."""

from __future__ import annotations

from medward.guard.data.finding_quality import FindingQuality, measure_findings
from medward.guard.data.labels import Labels
from medward.guard.data.number_quality import NumberQuality, measure_numbers
from medward.guard.data.quality import Quality, measure_quality
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints

AnyQuality = Quality | FindingQuality | NumberQuality


def task_quality(spec: ModelSpec, scores: Array, labels: Labels, patients: Ints | None = None) -> AnyQuality | None:
    """How well a model of `spec` does that gave `scores (n, ...)` on rows of `labels (n,)`; None without a measure.

    Raises `MedwardError` when classes or findings clearly have each other's names.
    """
    task = spec.task
    if isinstance(task, Opaque):
        return None
    if isinstance(task, Multilabel | WrittenReport):
        return measure_findings(scores, labels, task, patients)
    if isinstance(task, Regression):
        return measure_numbers(scores, labels, task)
    return measure_quality(scores, task.decide(scores), labels, spec, patients)
