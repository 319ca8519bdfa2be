"""Moving inputs on a clone towards classes of the thief's choice."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.forward import input_gradient
from medward.attacks.whitebox.losses import cross_entropy
from medward.guard.types import Array, Ints

_BATCH = 512


def steer_towards(
    clone: nn.Module | None, inputs: Array, goals: Ints, ball: Ball, *, steps: int, generator: torch.Generator
) -> Array:
    """Inputs of the `ball` around each of ``(n, *shape)`` that `clone` takes for `goals (n,)`, as far as it reaches.

    Targeted projected gradient descent in steps of 2.5 radii / `steps` (Madry et al., ICLR 2018, sec. 2.1), and
    one step of a whole radius for `steps` 1. Without a clone every row goes to a random corner of its ball.
    """
    x = torch.as_tensor(np.asarray(inputs, np.float32))
    if clone is None:
        corner = ball.project(x + ball.surface(tuple(x.shape), generator), x)
        return np.asarray(corner.numpy())
    pairs = zip(torch.split(x, _BATCH), torch.split(torch.as_tensor(goals), _BATCH), strict=True)
    moved = [_descended(clone, rows, wanted, ball, steps) for rows, wanted in pairs]
    return np.asarray(torch.cat(moved).numpy()) if len(x) else np.asarray(x.numpy())


def _descended(clone: nn.Module, x: Tensor, goals: Tensor, ball: Ball, steps: int) -> Tensor:
    current = x
    for _ in range(steps):
        point = current.detach().requires_grad_(True)
        slope = input_gradient(-cross_entropy(clone(point), goals), point)
        current = ball.project(current + min(1.0, 2.5 / steps) * ball.step(slope), x)
    return current.detach()
