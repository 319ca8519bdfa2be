"""Small tables and networks of every task, trained on the spot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medward.attacks.base import AttackData
from medward.attacks.target import Target, open_oracle
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.types import Outputs

WIDTH = 12


def table(n, seed):
    return np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32)


def truth(inputs):
    """What the columns of a row come to, four numbers ``(n, 4)``."""
    weights = np.random.default_rng(7).normal(size=(WIDTH, 4)) / np.sqrt(WIDTH)
    return np.asarray(inputs @ weights + 0.3 * np.tanh(inputs[:, :4] * 2), np.float32)


@dataclass(frozen=True)
class TaskModel:
    """A network deployed under a specification."""

    spec: ModelSpec
    network: nn.Module

    def predict(self, inputs):
        with torch.no_grad():
            raw = self.network(torch.as_tensor(inputs)).numpy()
        return Outputs(self.spec.task.read(raw, self.spec.name))

    def target(self, threat, *, decide=None, oracle=None, white=True, **parts):
        network = {"network": self.network} if white else {}
        return Target(self.spec, oracle or open_oracle(self, decide), threat, **network, **parts)

    def data(self, decide=None):
        test = table(150, 3)
        outputs = self.predict(test).scores
        own = (decide or self.spec.decide)(outputs)
        return AttackData(craft=Split(table(300, 2)), test=Split(test), reference=own, outputs=outputs)


class Head(nn.Module):
    """A small network whose last step makes outputs of a form: probabilities, one column, a mask."""

    def __init__(self, width, last=None):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(WIDTH, 32), nn.Tanh(), nn.Linear(32, width))
        self.last = last

    def forward(self, x):
        out = self.body(x)
        return out if self.last is None else self.last(out)


def trained(task, width, loss, labels, last=None):
    """A model of `task`, fitted in a second."""
    x = table(600, 1)
    net, y = Head(width), torch.as_tensor(labels(truth(x)))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        loss(net(torch.as_tensor(x)), y).backward()
        optimiser.step()
    net.last = last
    spec = ModelSpec(name="small", modality="tabular", shape=(WIDTH,), task=task)
    return TaskModel(spec, net.eval().requires_grad_(False))


def found(values):
    return (values > 0.5).astype(np.float32)


def findings_model(task, last=None):
    return trained(
        task, len(task.findings), F.binary_cross_entropy_with_logits, lambda v: found(v)[:, : len(task.findings)], last
    )


def number_model(task):
    return trained(task, 1, F.mse_loss, lambda v: v[:, :1])


def mask_model(task):
    return trained(task, 4, F.mse_loss, lambda v: v, nn.Unflatten(1, (1, 2, 2)))


def column_model(task):
    last = nn.Sequential(nn.Sigmoid(), nn.Flatten(0)) if task.output == "probabilities" else None
    return trained(task, 1, F.binary_cross_entropy_with_logits, lambda v: found(v)[:, :1], last)
