"""What contracts are checked on: a linear model of three numbers, and small networks of every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Outputs

if TYPE_CHECKING:
    from torch import nn

    from medward.attacks.base import AttackData
    from medward.attacks.target import Decide, Target
    from medward.attacks.threat import ThreatModel
    from medward.guard.spec import AnyTask

TASK_WIDTH = 12


def hold_contract(condition: bool, said: str) -> None:
    """Raise `MedwardError`, which says what does not hold, unless `condition`."""
    if not condition:
        raise MedwardError(f"contract: {said}")


@dataclass
class LinearModel:
    """A linear model scores three classes by three features, which it shows: scores = x W. It needs no training."""

    spec: ModelSpec = field(
        default_factory=lambda: ModelSpec(
            name="linear",
            modality="tabular",
            shape=(3,),
            task=Classification(classes=("a", "b", "c"), output="logits"),
            low=-100,
            high=100,
        )
    )
    weights: Array = field(default_factory=lambda: np.eye(3, dtype=np.float32))

    def predict(self, inputs: Array) -> Outputs:
        """Scores ``(n, 3)``."""
        return Outputs(inputs @ self.weights)


def linear_rows(count: int, seed: int) -> Array:
    """Benign rows of the linear model."""
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def task_rows(count: int, seed: int) -> Array:
    """Rows of the small networks."""
    return np.random.default_rng(seed).normal(size=(count, TASK_WIDTH)).astype(np.float32)


def task_truth(inputs: Array) -> Array:
    """What the columns of a row come to, four numbers ``(n, 4)``."""
    weights = np.random.default_rng(7).normal(size=(TASK_WIDTH, 4)) / np.sqrt(TASK_WIDTH)
    return np.asarray(inputs @ weights + 0.3 * np.tanh(inputs[:, :4] * 2), np.float32)


@dataclass(frozen=True)
class TaskModel:
    """A task model is a small network deployed under a specification."""

    spec: ModelSpec
    network: nn.Module

    def predict(self, inputs: Array) -> Outputs:
        """Outputs as the task reads them."""
        import torch

        with torch.no_grad():
            raw = self.network(torch.as_tensor(inputs)).numpy()
        return Outputs(self.spec.task.read(raw, self.spec.name))

    def target(
        self, threat: ThreatModel, *, decide: Decide | None = None, oracle: Any = None, white: bool = True, **parts: Any
    ) -> Target:
        """What an attacker is given: the model itself, or with `oracle` whatever answers for it."""
        from medward.attacks.target import Target, open_oracle

        network = self.network if white else None
        return Target(self.spec, oracle or open_oracle(self, decide), threat, network=network, **parts)

    def data(self, decide: Decide | None = None) -> AttackData:
        """What an attacker holds and is judged on."""
        from medward.attacks.base import AttackData
        from medward.guard.data.split import Split

        test = task_rows(150, 3)
        outputs = self.predict(test).scores
        own = (decide or self.spec.decide)(outputs)
        return AttackData(craft=Split(task_rows(300, 2)), test=Split(test), reference=own, outputs=outputs)


def trained_task(
    task: AnyTask, width: int, loss: Callable[..., Any], labels: Callable[[Array], Array], last: nn.Module | None = None
) -> TaskModel:
    """A model of `task` with `width` outputs, fitted in a second; `last` makes of them what the task reads."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(TASK_WIDTH, 32), nn.Tanh(), nn.Linear(32, width))
    x = task_rows(600, 1)
    y, optimiser = torch.as_tensor(labels(task_truth(x))), torch.optim.Adam(body.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        loss(body(torch.as_tensor(x)), y).backward()
        optimiser.step()
    network = body if last is None else nn.Sequential(body, last)
    spec = ModelSpec(name="small", modality="tabular", shape=(TASK_WIDTH,), task=task)
    return TaskModel(spec, network.eval().requires_grad_(False))
