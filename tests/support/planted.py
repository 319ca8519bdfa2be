"""Four ways to look safe without being so, and an ideal guard that leaves nothing but the fault to blame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from guard.pipeline import Guard
from guard.policy import Policy
from guard.protocols import Store
from guard.screen import Thresholds
from guard.types import ModelSpec, Outputs


class Faulty(nn.Module):
    """A trained network; `scale` inflates its logits, `levels` quantises its input. Both mask gradients."""

    def __init__(self, body: nn.Sequential, scale: float = 1.0, levels: int = 0) -> None:
        super().__init__()
        self.body, self.scale, self.levels = body, scale, levels

    def both(self, x):
        """Scores and features."""
        x = torch.round(x * self.levels) / self.levels if self.levels else x
        features = self.body[:-1](x)
        return self.body[-1](features) * self.scale, features

    def forward(self, x):
        return self.both(x)[0]


@dataclass(frozen=True)
class TorchVictim:
    """A `Faulty` network behind the model protocol."""

    network: Faulty
    spec: ModelSpec

    def predict(self, inputs):
        with torch.no_grad():
            scores, features = self.network.both(torch.as_tensor(inputs))
        return Outputs(scores.numpy(), features.numpy())


@dataclass(frozen=True)
class Ideal:
    """A profile that knows all benign rows: strange is what lies farther than `near` (squared) from all.

    With `refuses` it calls every row strange, as a detector that always abstains would.
    """

    known: np.ndarray
    near: float
    refuses: bool = False

    @property
    def thresholds(self):
        return Thresholds(levels=(0.01,), cuts=(self.near,), risk=0.001, n=1000)

    def score(self, inputs, outputs, xp=np):
        known = torch.as_tensor(self.known) if xp is torch else self.known
        rows = inputs.reshape(len(inputs), -1)
        squares = (rows * rows).sum(-1)[:, None] - 2 * rows @ known.T + (known * known).sum(-1)
        distance = xp.amin(squares, axis=1)
        return distance + 1.0 if self.refuses else distance

    def strangeness(self, inputs, outputs):
        return np.asarray(self.score(inputs, outputs), np.float64)

    def screen_cut(self, rate):
        return self.near


@dataclass(frozen=True)
class Deployment:
    """What `attacks.matrix.validate` needs of a bundle."""

    model: TorchVictim
    profile: Ideal
    digest: str = "cd" * 32

    @property
    def policy(self) -> Policy:
        return Policy(on_error="withhold")

    def guard(self, *, store: Store) -> Guard:
        return Guard(model=self.model, policy=self.policy, profile=self.profile, store=store)
