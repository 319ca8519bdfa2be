"""Victims that are easy to steal, and what their thieves hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.target import Response, Target
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

ROWS = 500


def spec_of(modality, classes):
    shape = (1, 8, 8) if modality == "image" else (6,)
    bounds = {"low": 0.0, "high": 1.0} if modality == "image" else {}
    names = tuple(f"c{k}" for k in range(classes))
    return ModelSpec(
        name="planted", modality=modality, shape=shape, task=Classification(classes=names, output="logits"), **bounds
    )


class Planted:
    """Linear in a few coarse parts of the input; counts and keeps what it is asked.

    `answer` may spoil a response; `asked` holds the rows in order.
    """

    def __init__(self, modality, classes, answer=None):
        self.spec, self.answer, self.asked = spec_of(modality, classes), answer or (lambda response, _: response), []
        rng = np.random.default_rng(7)
        self._weight = rng.normal(size=(classes, 6 if modality == "tabular" else 4))
        self._weight -= self._weight.mean(axis=0)

    def logits(self, inputs):
        if self.spec.modality == "tabular":
            return 4 * inputs @ self._weight.T
        blocks = inputs.reshape(len(inputs), 2, 4, 2, 4).mean(axis=(2, 4)).reshape(len(inputs), 4)
        return 20 * (blocks - 0.5) @ self._weight.T

    def __call__(self, inputs):
        self.asked.append(np.array(inputs))
        scores = self.logits(inputs)
        return self.answer(Response(scores.argmax(axis=1), scores, "logits"), inputs)

    def target(self, threat):
        return Target(self.spec, self, threat)

    def rows(self, n, seed, spread=1.0):
        rng = np.random.default_rng(seed)
        if self.spec.modality == "tabular":
            return rng.normal(0, spread, (n, 6)).astype(np.float32)
        coarse = np.kron(rng.uniform(0.5 - spread / 2, 0.5 + spread / 2, (n, 1, 2, 2)), np.ones((1, 1, 4, 4)))
        return np.clip(coarse + rng.normal(0, 0.05, (n, 1, 8, 8)), 0, 1).astype(np.float32)

    def data(self):
        """Labels are the victim's own, so that accuracy equals agreement."""
        test, craft = self.rows(ROWS, 1), self.rows(ROWS, 2)
        truth = [self.logits(each).argmax(axis=1) for each in (test, craft)]
        return AttackData(
            craft=Split(craft, truth[1]),
            test=Split(test, truth[0]),
            pool=self.rows(ROWS, 3),
            reference=truth[0],
        )


class Coarse(nn.Module):
    """The parts of the input in which `Planted` is linear."""

    def forward(self, x):
        return x if x.dim() == 2 else torch.nn.functional.avg_pool2d(x, 4)


def noisy(response, inputs):
    """Answers that have nothing to do with the input."""
    rng = np.random.default_rng(len(inputs))
    scores = rng.normal(size=response.scores.shape)
    return Response(scores.argmax(axis=1), scores, "logits")


def every_other(response, inputs):
    """Withholds the rows with an odd number in the batch."""
    odd = np.arange(len(inputs)) % 2 == 1
    scores = np.where(odd[:, None], np.nan, response.scores)
    return Response(np.where(odd, -1, response.labels), scores, "logits")


def silent(response, inputs):
    """Withholds everything."""
    return Response(np.full_like(response.labels, -1), np.full_like(response.scores, np.nan), "probabilities")
