"""What a network to be hardened answers: as it was said, else as its scores, its library and the labels show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from medward.guard.data.labels import Labels, Names
from medward.guard.errors import MedwardError
from medward.guard.harden.network import raw_scores
from medward.guard.harden.output_range import are_bounded
from medward.guard.models import describe_model
from medward.guard.models.inference import LabelKind, TaskOptions, infer_task, label_kind
from medward.guard.models.kinds import CLASSIFICATION, MULTILABEL, OPAQUE, REGRESSION, REPORT, check_task, check_values
from medward.guard.models.torch_front import own_module
from medward.guard.spec import AnyTask, ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Modality, ScoreKind

_SUM = 1e-3  # how far a row of probabilities may sum from 1


def plain_classification(network: nn.Module, sample: Tensor, device: str) -> Classification:
    """One right class of as many as `network` gives scores for the rows `sample`, with nothing more said."""
    scores = raw_scores(network, sample, device).numpy()
    task = _inferred(TaskOptions(), {}, scores, "classes", bounded=are_bounded(network, sample, device))
    assert isinstance(task, Classification)  # labels are of classes
    return task


def said_task(task: AnyTask | str | None, **words: Any) -> AnyTask | TaskOptions:
    """What a user said of a task: the task itself, or words (`TaskOptions`) that tell it; not both."""
    if isinstance(task, str | None):
        return TaskOptions(task=task, **words)
    if any(words.values()):
        raise MedwardError("model: give the task itself, or words that tell it, not both")
    return task


def network_task(
    network: nn.Module, sample: Tensor, said: AnyTask | TaskOptions, labels: Labels | None, names: Names | None
) -> AnyTask:
    """What `network` answers, by what was `said` and the raw labels; refused where its scores for `sample` differ.

    Columns without names are numbered from 0, unless labels are names: their order must be said. Labels of one class a
    row are those of a classification, a table of 0 and 1 of findings. Scores that are rows of probabilities, or each
    held in [0, 1] by how the network is made, are taken for probabilities where nothing is said: that scores happen to
    lie there shows nothing, for the network may never have been trained.
    """
    options = said if isinstance(said, TaskOptions) else TaskOptions(task=said.kind)
    check_task("model", options.task)
    known, scores = describe_model(own_module(network)), raw_scores(network, sample).numpy()
    bounded = are_bounded(network, sample)
    if isinstance(said, TaskOptions):
        kind = label_kind(labels, names)
        unnamed = options.classes is None and known.get("classes") is None
        if names is not None and unnamed and options.task in (None, CLASSIFICATION):
            raise MedwardError(
                "labels are names, and a network's scores have none; name the classes in the order of the scores with "
                "--classes, or give the number of each one's score, from 0"
            )
        task = _inferred(options, known, scores, kind, bounded=bounded)
    else:
        task = said
    if task.kind in (OPAQUE, REPORT):
        return task
    outputs = task.read(scores, "model")
    modality: Modality = "image" if sample.ndim == 4 else "tabular"
    spec = ModelSpec(name="model", modality=modality, shape=tuple(sample.shape[1:]), task=task)
    if bounded:
        check_values(outputs, spec, options.task, exclusive=True)
    return task


def _inferred(
    said: TaskOptions, known: dict[str, object], scores: Array, labels: LabelKind | None, *, bounded: bool
) -> AnyTask:
    """The task of raw `scores`, with numbers for names, and with probabilities where they are `bounded` or sum to 1."""
    kind = said.task or known.get("task")
    number = kind in (REGRESSION, OPAQUE, REPORT) or said.tolerance is not None or bool(said.cut_points)
    if not number:
        columns = 1 if scores.ndim == 1 else scores.shape[1]
        several = columns > 1 or kind == MULTILABEL
        two = kind == CLASSIFICATION or said.threshold is not None
        if said.classes is None and known.get("classes") is None and (several or two):
            said = replace(said, classes=tuple(map(str, range(columns if several else 2))))
        if said.output is None and known.get("output") is None:
            apart = columns == 1 or kind == MULTILABEL or labels == "findings"
            said = replace(said, output=_seen_output(scores, bounded, apart=apart))
    return infer_task("model", said, known, lambda: scores, labels)


def _seen_output(scores: Array, bounded: bool, *, apart: bool) -> ScoreKind:
    """Probabilities where scores show it: `bounded` where columns stand `apart`, else rows that sum to 1."""
    if not apart:
        bounded = bool((scores >= 0).all() and np.abs(scores.sum(axis=1) - 1).max() < _SUM)
    return "probabilities" if bounded else "logits"
