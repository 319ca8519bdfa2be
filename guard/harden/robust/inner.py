"""The defense's own inner maximisation: what training defends against, and what its estimates are made with.

Nothing here is shared with ``attacks``: whoever judges a hardened model must not be what it was trained on.

References: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to adversarial
attacks", ICLR 2018, eq. 2.1 (per input); Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal adversarial
training", AAAI 2020, alg. 1 (one change for all inputs).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medward.guard.harden.losses.base import Goal, TaskLosses

AscentLoss = Callable[[Tensor], Tensor]
"""Scores ``(n, K)`` to a scalar that the maximisation climbs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBall:
    """Changes up to `radius` in every value (broadcasts to one input), of inputs that stay in ``[low, high]``."""

    radius: Tensor
    low: float | None
    high: float | None

    @classmethod
    def around(cls, x: Tensor, epsilon: float, low: float | None, high: float | None) -> TrainingBall:
        """`epsilon` in input units for images ``(n, C, H, W)``, in column standard deviations for tables ``(n, D)``."""
        radius = x.std(dim=0) * epsilon if x.ndim == 2 else torch.full((1, 1, 1), epsilon, device=x.device)
        return cls(radius=radius, low=low, high=high)

    def scaled(self, factor: float) -> TrainingBall:
        """The same ball, `factor` times as large."""
        return replace(self, radius=self.radius * factor)

    def clip(self, x: Tensor) -> Tensor:
        """`x` inside the valid range."""
        return x if self.low is None and self.high is None else x.clamp(self.low, self.high)

    def project(self, delta: Tensor) -> Tensor:
        """The change nearest to `delta` that is within the radius."""
        return torch.maximum(torch.minimum(delta, self.radius), -self.radius)

    def random(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Changes of `shape`, uniform within the radius."""
        return (2 * torch.rand(shape, generator=generator).to(self.radius.device) - 1) * self.radius


@contextlib.contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Eval mode: no running statistic moves and nothing is dropped out; every module's own flag is put back."""
    flags = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, training in flags:
            module.training = training


def inner_ascent(
    network: nn.Module, x: Tensor, start: Tensor, ball: TrainingBall, loss: AscentLoss, *, steps: int, step: float
) -> Tensor:
    """The inputs `x` changed, each for itself, by `steps` signed steps of `step` radii from the change `start`.

    The network is held still, and its weights receive no gradient.
    """
    delta = ball.project(start)
    with frozen_statistics(network):
        for _ in range(steps):
            changed = ball.clip(x + delta).requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(network(changed)), changed)
            delta = ball.project(delta + step * ball.radius * slope.sign())
    return ball.clip(x + delta).detach()


def climb_shared(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: TrainingBall,
    losses: TaskLosses,
    *,
    goal: Goal,
    epochs: int,
    batch: int,
    generator: torch.Generator,
) -> Tensor:
    """One change ``(1, *shape)`` for all rows `x` towards `goal`, or away from their targets `y`."""
    delta = torch.zeros_like(x[:1])
    with frozen_statistics(network):
        for epoch in range(epochs):
            order = torch.randperm(len(x), generator=generator).to(x.device)
            for rows in torch.split(order, batch):
                shared = delta.requires_grad_(True)
                gain = losses.gain(network(ball.clip(x[rows] + shared)), y[rows], goal)
                (slope,) = torch.autograd.grad(gain.sum(), shared)
                delta = ball.project(delta.detach() + 0.8 * 0.7**epoch * ball.radius * slope.sign())
    return delta.detach()
