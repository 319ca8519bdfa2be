"""The stand-in for gradients that an attacker was not given: a network taught by answers to the craft rows.

It learns what attackers read (`attacks.whitebox.outputs`): probabilities of classes or findings moved so that the plain
rule decides as the model does, numbers as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medward.attacks.evasion.asking import answers_as_tensors
from medward.attacks.learners.table import learner_of
from medward.attacks.target import Response, Target
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.imitation import fit_numbers
from medward.attacks.whitebox.surrogate import answered_rows, deciding_probabilities, fit_classifier, fit_student
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array

SURROGATE_EPOCHS = {"image": 15, "tabular": 60}


def learned_network(
    target: Target, craft: Split, criterion: Criterion, device: str, seed: int
) -> tuple[nn.Module, Tensor]:
    """The network, and what is kept of the craft rows: as they were answered, else as it decides them itself.

    Where the target is silent the attacker's own labels teach. Raises `MedwardError` when there is nothing to learn.
    """
    spec, inputs = target.spec, np.asarray(craft.inputs, np.float32)
    response = target.query(inputs)
    settings: dict[str, Any] = {
        "modality": spec.modality,
        "shape": spec.shape,
        "epochs": SURROGATE_EPOCHS[spec.modality],
        "seed": seed,
        "device": device,
    }
    x = torch.as_tensor(inputs, device=device)
    if isinstance(spec.task, Classification):
        taught = _class_targets(response, craft, spec)
        network = fit_classifier(craft.inputs, taught, classes=len(spec.classes), **settings)
        known = torch.as_tensor(np.nan_to_num(taught).argmax(axis=1), device=device)
        answered = torch.as_tensor(answered_rows(taught), device=device)
        return network, torch.where(answered, known, network_decisions(network, x, criterion))
    if isinstance(spec.task, Multilabel):
        taught = _finding_targets(response, craft, spec.task)
        network = fit_student(inputs, taught, loss=F.binary_cross_entropy_with_logits, **settings)
    elif isinstance(spec.task, WrittenReport):
        taught = learner_of(spec).targets(response)
        network = fit_student(inputs, taught, loss=F.binary_cross_entropy_with_logits, **settings)
    else:
        taught = learner_of(spec).targets(response) if isinstance(spec.task, Regression) else response.scores
        network = fit_numbers(inputs, taught, **settings)
    y = criterion.kept(*answers_as_tensors(response, device))
    untold = torch.as_tensor(response.labels < 0, device=device)
    if y.is_floating_point():
        untold = ~torch.isfinite(y).reshape(len(y), -1).all(dim=1)
    own = network_decisions(network, x, criterion).to(y)
    return network, torch.where(untold.view(-1, *[1] * (y.ndim - 1)), own, y)


def _class_targets(response: Response, craft: Split, spec: ModelSpec) -> Array:
    """What the target says of the craft rows as probabilities ``(n, K)``; own labels where it is silent.

    The largest is the decision (`deciding_probabilities`), so that the surrogate's is too.
    """
    labels = response.labels if craft.labels is None else np.where(response.labels < 0, craft.labels, response.labels)
    taught = np.where((labels >= 0)[:, None], np.eye(len(spec.classes))[labels], np.nan)
    scored = np.isfinite(response.probabilities).all(axis=1)
    taught[scored] = deciding_probabilities(response.probabilities[scored], spec)
    return taught


def _finding_targets(response: Response, craft: Split, task: Multilabel) -> Array:
    """Probabilities ``(n, K)`` moved so that one half is each threshold; sets of findings where no score is shown."""
    labels = response.labels if craft.labels is None else np.where(response.labels < 0, craft.labels, response.labels)
    taught = np.where((labels >= 0)[:, None], unpacked_findings(labels, len(task.findings)).astype(np.float64), np.nan)
    scored = np.isfinite(response.scores).all(axis=1)
    own = replace(task, output="probabilities" if response.output == "probabilities" else "logits")
    beyond = torch.as_tensor(own.judged(response.scores[scored]), dtype=torch.float64)
    taught[scored] = beyond.sigmoid().numpy()
    return taught
