"""The kinds of model there are: which task guards each, and the few that no task does, each refused by name.

Any matrix ``(n, K)`` could be read as scores of exclusive classes, and findings, quantiles or hazards would then leave
as rival probabilities. So what a model answers is seen where something shows it (a library's own words, the shape and
values of the scores), else said (``task``), else refused with the readings that there are.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array

CLASSIFICATION, MULTILABEL, REGRESSION, OPAQUE = "classification", "multilabel", "regression", "opaque"
REPORT = "report"
TASKS = (CLASSIFICATION, MULTILABEL, REGRESSION, OPAQUE, REPORT)
"""What can be said with ``--task``."""
_WHOLE = f"say --task {OPAQUE} (task = {OPAQUE!r}) to guard it whole, and --decide to validate what it decides"
_NUMBER = f"say --task {REGRESSION} with --tolerance, the smallest change that matters (and --cut-points)"
MODEL_KINDS = {
    "multi-label": "finds several things at once, and softmax would turn its findings into rivals; "
    f"say --task {MULTILABEL} (task = {MULTILABEL!r}) and name the findings with --classes",
    "single-output": "gives one number for an input; if that is the score of the second of two classes, name both with "
    f"--classes (and its operating point with --threshold), if it is a quantity, {_NUMBER}",
    "regression": f"gives a number, not one of several classes; {_NUMBER}",
    "quantile": f"gives quantiles of a number, which are no rival classes; {_WHOLE}, or guard the middle one alone",
    "ordinal": "gives thresholds that are passed one after the other, not rival classes; "
    f"say --task {MULTILABEL}, each threshold a finding, or give the probability of each level, which sum to 1",
    "survival": f"gives hazards or risks over time, not rival classes; {_WHOLE}",
    "segmentation": f"gives a mask, not one class for an input; {_WHOLE}",
    "detection": f"gives boxes, not one class for an input; return them as one array and {_WHOLE}",
    "text": "reads or writes text; if it writes a report about an image, say --task report (task = 'report'); "
    "others are not guarded",
    "generative": "makes images or sequences; this release guards models of images and tables only",
    "clustering": "finds groups, it was not taught classes; guard a classifier fitted to the groups",
    "outlier": "tells usual from unusual inputs, it was not taught classes; guard a classifier fitted to its decisions",
}
"""What a kind gives and what can be done, by its name."""

_FEWEST = 20  # rows of scores from which their order or range is taken for a sign
HEADS = (
    ("MultiLabel", "multi-label"),
    ("SemanticSegmentation", "segmentation"),
    ("InstanceSegmentation", "segmentation"),
    ("UniversalSegmentation", "segmentation"),
    ("ObjectDetection", "detection"),
    ("DepthEstimation", "regression"),
    ("Seq2SeqLM", "text"),
    ("CausalLM", "text"),
    ("MaskedLM", "text"),
    ("SequenceClassification", "text"),
    ("TokenClassification", "text"),
    ("QuestionAnswering", "text"),
    ("ImageTextToText", "text"),
    ("ConditionalGeneration", "text"),
    ("EncoderDecoderModel", "text"),
    ("LMHeadModel", "text"),
)
"""What transformers call a head, as a part of the class's name, and the kind it makes of a model."""


def refuse_kind(name: str, kind: str, seen: str) -> NoReturn:
    """Refuse to read the model called `name` otherwise than as one of `MODEL_KINDS`; `seen` says what showed it."""
    article = "an" if kind[0] in "aeiou" else "a"
    raise MedwardError(f"{name}: this is {article} {kind} model ({seen}): it {MODEL_KINDS[kind]}")


def check_task(name: str, task: str | None) -> None:
    """Refuse the word for a task that there is not, by what it names."""
    if task is None or task in TASKS:
        return
    if task in MODEL_KINDS:
        refuse_kind(name, task, "as the task says")
    raise MedwardError(f"{name}: task must be one of {', '.join(TASKS)}, got {task!r}")


def by_class_name(name: str, class_name: str) -> None:
    """Refuse a transformers model whose class is called after a head of another kind."""
    for part, kind in HEADS:
        if part in class_name:
            refuse_kind(name, kind, class_name)


def check_output_shape(name: str, scores: object, task: Task) -> None:
    """Refuse raw `scores` whose type or axes are not those of `task` but of another kind of model.

    A list is left to who reads it.
    """
    if isinstance(task, WrittenReport):
        return
    if isinstance(scores, dict):
        kinds = {"boxes": "detection", "masks": "segmentation"}
        for key in map(str, scores):
            if key in kinds:
                refuse_kind(name, kinds[key], f"it returns {', '.join(map(str, scores))}")
    if isinstance(scores, tuple | list | dict):
        return
    found = np.asarray(scores)
    if found.dtype.kind in "US" or (found.dtype.kind == "O" and isinstance(next(iter(found.flat), None), str)):
        refuse_kind(name, "text", f"it returns strings, such as {str(next(iter(found.flat)))[:40]!r}")
    if isinstance(task, Opaque | Regression):
        return
    if found.ndim >= 4:
        refuse_kind(name, "segmentation", f"its output has shape {found.shape}, axes beyond a score for each class")
    single = isinstance(task, Classification) and not task.one_column
    if single and found.dtype.kind in "fiub" and (found.ndim == 1 or found.shape[1:] == (1,)):
        refuse_kind(name, "single-output", f"its output has shape {found.shape}, for {len(task.names)} classes")


def check_values(scores: Array, spec: ModelSpec, task: str | None, *, exclusive: bool) -> None:
    """Refuse logits ``(n, K)`` that look like another kind, or that nothing says are those of exclusive classes.

    `task` is what the user said, None for nothing. `exclusive` says that something else shows that one class is right
    for an input: the model's library, or labels of single classes. Two columns without a sign are taken for two
    classes: that is what ``classes`` of two names says.
    """
    several = isinstance(spec.task, Multilabel) or (isinstance(spec.task, Classification) and spec.task.one_column)
    if several and spec.output == "logits" and len(scores) >= _FEWEST and ((scores >= 0) & (scores <= 1)).all():
        raise MedwardError(
            f"{spec.name}: the scores are said to be logits, but all lie in [0, 1], as probabilities do; say --output "
            "probabilities"
        )
    if not isinstance(spec.task, Classification) or several or spec.output != "logits" or task is not None:
        return
    n, k = scores.shape
    said = f"--task {CLASSIFICATION} (task = {CLASSIFICATION!r})"
    if n >= _FEWEST and (scores >= 0).all() and (scores <= 1).all():
        refuse_kind(
            spec.name,
            "multi-label",
            f"all its {k} scores lie in [0, 1] and a row sums to {float(scores[0].sum()):.3g}, as sigmoids do; "
            f"say {said} if they are logits of classes of which one is right all the same",
        )
    steps = np.diff(scores, axis=1)
    if k > 2 and not exclusive and n >= _FEWEST and ((steps >= 0).all() or (steps <= 0).all()):
        refuse_kind(
            spec.name,
            "quantile",
            f"its {k} scores are in order on every row, as quantiles or ordinal thresholds are; "
            f"say {said} if they are logits of classes of which one is right all the same",
        )
    if k > 2 and not exclusive:
        raise MedwardError(
            f"{spec.name}: {k} scores can be logits of {k} classes of which one is right, or {k} findings, quantiles "
            f"or hazards; say {said} if one is right, --task {MULTILABEL} if each is a finding of its own, --task "
            f"{OPAQUE} otherwise, or give labels (one class a row) with the benign data"
        )
