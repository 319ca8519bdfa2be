"""Ways to look safe without being so, and an ideal guard that leaves nothing but the fault to blame."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from medward.guard.accounts.stores import Store
from medward.guard.bundle.power import Power
from medward.guard.monitors.base import SCREEN
from medward.guard.monitors.strangeness import ScreenReference
from medward.guard.pipeline import Guard
from medward.guard.policy import GatePolicy, MonitorPolicy, Policy
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.types import Outputs


class Backward(torch.autograd.Function):
    """The identity, with a gradient that is no slope of it."""

    @staticmethod
    def forward(ctx, x, kind):
        ctx.kind = kind
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        order = torch.randperm(slope[0].numel(), generator=torch.Generator().manual_seed(1))
        wrong = {
            "zero": torch.zeros_like(slope),
            "nan": slope * torch.nan,
            "flipped": -slope,
            "shuffled": slope.flatten(1)[:, order].view_as(slope),
            "smaller": slope * 1e-3,  # the one that is honest: its direction is right
        }
        return wrong[ctx.kind], None


class Faulty(nn.Module):
    """A trained network with a fault.

    `scale` inflates its logits, `levels` quantises its input, `backward` kills or bends the gradient at the input,
    `noise` is the spread of what a random front end adds.
    """

    def __init__(
        self, body: nn.Sequential, *, scale: float = 1.0, levels: int = 0, backward: str = "", noise: float = 0.0
    ) -> None:
        super().__init__()
        self.body, self.scale, self.levels, self.backward_kind, self.noise = body, scale, levels, backward, noise

    def both(self, x):
        """Scores and features."""
        x = x + self.noise * torch.randn_like(x) if self.noise else x
        x = torch.round(x * self.levels) / self.levels if self.levels else x
        x = Backward.apply(x, self.backward_kind) if self.backward_kind else x
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

    Every `holes`-th row has a neighbourhood of ``far`` instead, so that an attacker who knows the guard wins
    a few rows: one who wins none could be a failed attack. With `refuses` every row is strange, as for a
    detector that always abstains.
    """

    known: np.ndarray
    near: float
    holes: int = 0
    far: float = 0.0
    refuses: bool = False
    plugins: tuple[str, ...] = ()
    codebook: None = None
    pools: None = None
    contents: None = None
    strata: None = None

    @property
    def fitted(self):
        """No monitor but that of the screens, which are this."""
        return {SCREEN: self.screening}

    @property
    def screening(self):
        """Whatever is stranger than 1 outranks all benign rows."""
        return ScreenReference(screen=self, scores=np.ones(1000))

    def score(self, inputs, outputs, xp=np):
        reach = np.full(len(self.known), self.near, np.float32)
        if self.holes:
            reach[:: self.holes] = self.far
        known, reach = (torch.as_tensor(each) if xp is torch else each for each in (self.known, reach))
        rows = inputs.reshape(len(inputs), -1)
        squares = (rows * rows).sum(-1)[:, None] - 2 * rows @ known.T + (known * known).sum(-1)
        relative = xp.amin(squares / reach, axis=1)
        return relative + 2.0 if self.refuses else relative

    def strangeness(self, inputs, outputs):
        return np.asarray(self.score(inputs, outputs), np.float64)

    def screen_cut(self, rate):
        return 1.0


@dataclass(frozen=True)
class FakeBundle:
    """What `attacks.validation.run.validate` needs of a bundle."""

    model: TorchVictim
    profile: Ideal
    digest: str = "cd" * 32
    digest_without_waivers: str = "cd" * 32
    cautions: tuple[str, ...] = ()
    sites: Mapping[str, Profile] = field(default_factory=dict)
    power_by_site: Mapping[str, Power | None] = field(default_factory=dict)
    bounds: None = None
    gate: GatePolicy = field(default_factory=GatePolicy)

    @property
    def policy(self) -> Policy:
        return Policy(on_error="withhold", gate=self.gate, monitor=MonitorPolicy(shared=False))

    @property
    def card(self):
        return SimpleNamespace(plugins={}, certificate=None)

    def guard(self, *, store: Store, clock: Callable[[], float] = time.time, **_: object) -> Guard:
        return Guard(model=self.model, policy=self.policy, profile=self.profile, store=store, clock=clock)
