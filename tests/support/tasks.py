"""Small models of findings and of a number, what their thieves hold, and candidates that they did or did not learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medward.attacks.base import AttackData
from medward.attacks.learners.table import as_labels, learner_of
from medward.attacks.target import Response, Target
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Level

FINDINGS = Multilabel(findings=("nodule", "effusion", "mass"), output="logits", thresholds=(0.5, 0.2, 0.7))
MONTHS = Regression(quantity="bone age", tolerance=2.0, unit="months")
REPORT = WrittenReport(findings=FINDINGS.findings)
CUT = replace(MONTHS, cut_points=(-4.0, 5.0))
WHOLE = Opaque(what="a mask")
ROWS = 500


def spec_of(task, width=6):
    return ModelSpec(name="planted", modality="tabular", shape=(width,), task=task)


def rows_of(n, seed, width=6):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


class PlantedTask:
    """Linear outputs of a table for any task; `level` is how they leave, `answer` may spoil a response."""

    def __init__(self, task, level=Level.FULL, answer=None):
        self.spec, self.level, self.answer = spec_of(task), level, answer or (lambda response, _: response)
        self._weight = np.random.default_rng(7).normal(size=(6, max(1, len(task.names))))
        self._scale = 2.0 if task.output == "values" else 3.0

    def outputs(self, inputs):
        return self._scale * inputs @ self._weight

    def __call__(self, inputs):
        outputs, task = self.outputs(inputs), self.spec.task
        left = task.release(outputs, self.level, ReleaseSettings())
        kind = "probabilities" if task.output != "values" and self.level is not Level.FULL else task.output
        return self.answer(Response(task.decide(outputs), left, kind), inputs)

    def target(self, threat):
        return Target(self.spec, self, threat)

    def data(self):
        test, craft = rows_of(ROWS, 1), rows_of(ROWS, 2)
        said = [self.outputs(each) for each in (test, craft)]
        labels = [as_labels(self.spec.task, each) for each in said]
        return AttackData(
            craft=Split(craft, labels[1]),
            test=Split(test, labels[0]),
            pool=rows_of(ROWS, 3),
            reference=self.spec.decide(said[0]),
            outputs=said[0],
        )


def noise(response, inputs):
    """Answers that have nothing to do with the input."""
    order = np.random.default_rng(len(inputs)).permutation(len(inputs))
    return Response(response.labels[order], response.scores[order], response.output)


def coin_flip(task, width=20):
    """Rows whose labels are half noise, so that they can only be learned by heart: 200 of each kind, 400 shadow."""
    x, rng = rows_of(800, 8, width), np.random.default_rng(1)
    weight = rng.normal(size=(width, max(1, len(task.names))))
    outputs = x @ weight + 2 * rng.normal(size=(800, weight.shape[1])) * np.sqrt(width) / 2
    rows = Split(x, as_labels(task, outputs))
    members, others, shadow = rows.take(slice(200)), rows.take(slice(200, 400)), rows.take(slice(400, 800))
    return AttackData(craft=others, test=others, members=members, nonmembers=others, shadow=shadow)


def learned(task, rows, epochs, width=20):
    """The oracle of a network that learned `rows`, as it decides at the task's operating points."""
    spec = spec_of(task, width)
    learner = learner_of(spec)
    network = learner.fit(spec, rows.inputs, learner.known(rows.labels), epochs=epochs, seed=0)

    def said(inputs):
        import torch

        return network(torch.as_tensor(np.asarray(inputs, np.float32))).double().numpy()

    return spec, said
