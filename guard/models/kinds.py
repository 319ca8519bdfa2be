"""The kinds of model that are not guarded in this release, each refused by name.

What is guarded chooses one of several classes: its scores are logits or probabilities of exclusive classes. Any matrix
``(n, K)`` could be read so, and findings, quantiles or hazards would then leave as rival probabilities. So the kind is
seen where something shows it (a library's own words, the shape and values of the scores), else said (`task`), else
refused.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array

CLASSIFICATION = "classification"
COLUMNS = "return a column per class: for one logit z of the second class torch.cat([0 * z, z], 1) as logits, for its"
ONE_NUMBER = f"{COLUMNS} probability p torch.cat([1 - p, p], 1) as probabilities, each (n, 1)"
UNGUARDED_KINDS = {
    "multi-label": "finds several things at once, and softmax would turn its findings into rivals; "
    "guard each finding as a model of its own, with the columns [1 - p, p] as probabilities",
    "single-output": f"gives one number for an input; if that is a binary classifier's score, {ONE_NUMBER}",
    "regression": "gives a number, not one of several classes; "
    "guard a classifier of the ranges that matter to a decision, or wait for the release that knows numbers",
    "quantile": "gives quantiles of a number, which are no rival classes; "
    "guard a classifier of the ranges that matter to a decision, or wait for the release that knows numbers",
    "ordinal": "gives thresholds that are passed one after the other, not rival classes; "
    "give the probability of each level: the differences of neighbouring P(level > k), which sum to 1",
    "survival": "gives hazards or risks over time, not rival classes; "
    "guard a classifier of the risk groups that matter to a decision, or wait for the release that knows numbers",
    "segmentation": "gives a mask, not one class for an input; guard a classifier of what the mask decides",
    "detection": "gives boxes, not one class for an input; guard a classifier of what the boxes decide",
    "text": "reads or writes text; this release guards classifiers of images and tables only",
    "generative": "makes images or sequences; this release guards classifiers of images and tables only",
    "clustering": "finds groups, it was not taught classes; guard a classifier fitted to the groups",
    "outlier": "tells usual from unusual inputs, it was not taught classes; guard a classifier fitted to its decisions",
}
"""Why a kind is not guarded, and what can be done, by its name."""
TASK_NAMES = (CLASSIFICATION, *UNGUARDED_KINDS)
"""What can be said with ``--task``; only the first is guarded."""

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
    """Refuse the model called `name` as one of `UNGUARDED_KINDS`; `seen` says what showed it."""
    article = "an" if kind[0] in "aeiou" else "a"
    raise MedwardError(f"{name}: this is {article} {kind} model ({seen}): it {UNGUARDED_KINDS[kind]}")


def check_task(name: str, task: str | None) -> None:
    """Refuse a `task` that is not classification, by its name."""
    if task is None or task == CLASSIFICATION:
        return
    if task not in UNGUARDED_KINDS:
        raise MedwardError(
            f"{name}: task must be {CLASSIFICATION!r}, the one that is guarded, got {task!r}; models of other kinds "
            f"are refused by name: {', '.join(UNGUARDED_KINDS)}"
        )
    refuse_kind(name, task, "as the task says")


def by_class_name(name: str, class_name: str) -> None:
    """Refuse a transformers model whose class is called after a head of another kind."""
    for part, kind in HEADS:
        if part in class_name:
            refuse_kind(name, kind, class_name)


def check_output_shape(name: str, scores: object, task: Task) -> None:
    """Refuse raw `scores` whose type or axes are not those of `task` but of another kind of model.

    A list is left to who reads it.
    """
    if isinstance(task, Opaque | Regression):
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
    if spec.output != "logits" or task == CLASSIFICATION:
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
            f"or hazards; say {said} if one is right, or give labels (one class a row) with the benign data"
        )
