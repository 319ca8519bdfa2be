"""A screening model: risks of a few per cent, decided at a threshold far below one half. Needs no training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, OutputKind, Outputs

THRESHOLD = 0.02
PRIOR = 3.9
SPEC = ModelSpec(
    name="triage",
    modality="tabular",
    shape=(3,),
    task=Classification(classes=("no effusion", "effusion"), output="logits", threshold=THRESHOLD),
    features=3,
)


class Risk(nn.Module):
    """Logits of log odds x1 - 3.9, which the threshold's log odds, -3.89, cut in the middle; features are the input."""

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        odds = x[:, 0] - PRIOR
        return torch.stack([torch.zeros_like(odds), odds], dim=1), x

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]


@dataclass(frozen=True)
class Screening:
    """The same model behind the model protocol."""

    spec: ModelSpec = SPEC
    network: nn.Module = field(default_factory=Risk)

    def predict(self, inputs: Array) -> Outputs:
        scores = Risk()(torch.as_tensor(np.asarray(inputs, np.float32)))
        return Outputs((scores.softmax(dim=1) if self.spec.output == "probabilities" else scores).numpy(), inputs)


def screening(threshold: float | None = THRESHOLD, output: OutputKind = "logits") -> Screening:
    """The model at another operating point, or none, and of another kind of scores."""
    return Screening(replace(SPEC, task=replace(SPEC.task, threshold=threshold, output=output)))


def rows(n: int, seed: int) -> Array:
    """Inputs ``(n, 3)``, half of them decided positive."""
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
