"""DeepFool: how far an input is from the nearest decision boundary of a network, step by linear step.

Reference: Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool", CVPR 2016, algorithm 2; as a measure of what is worth
asking, Ducoffe and Precioso, "Adversarial active learning for deep networks: a margin based approach", 2018 (DFAL).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from medward.guard.types import Array

_STEPS = 3
RIVALS = 3  # classes beside its own that a row may be moved to
OVERSHOOT = 0.02


def boundary_distance(network: nn.Module, inputs: Array, batch: int = 512) -> Array:
    """L2 length ``(n,)`` of a perturbation that changes the decision on each of ``(n, *shape)``.

    After `_STEPS` linear steps towards the nearest of the `RIVALS` likeliest other classes; a row whose decision still
    stands then gets the length so far, which is an estimate from below.
    """
    x = torch.as_tensor(np.asarray(inputs, np.float32))
    return np.concatenate([_moved(network, rows).numpy() for rows in torch.split(x, batch)] or [np.zeros(0)])


def _moved(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        order = network(x).argsort(dim=1, descending=True)
    own, rivals = order[:, :1], order[:, 1 : 1 + RIVALS]
    moved = torch.zeros_like(x)
    open_rows = torch.arange(len(x))
    for _ in range(_STEPS):
        step, held = _step(network, (x + (1 + OVERSHOOT) * moved)[open_rows], own[open_rows], rivals[open_rows])
        open_rows = open_rows[held]
        if len(open_rows) == 0:
            break
        moved[open_rows] += step[held]
    length: Tensor = torch.linalg.vector_norm(moved.flatten(1), dim=1)
    return length.double()


def _step(network: nn.Module, x: Tensor, own: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest linear step to a rival, and whether the row still is its own class's."""
    x = x.detach().requires_grad_(True)
    logits = network(x)
    held = logits.argmax(dim=1) == own[:, 0]
    behind = logits.gather(1, rivals) - logits.gather(1, own)
    slopes = [torch.autograd.grad(behind[:, k].sum(), x, retain_graph=True)[0] for k in range(behind.shape[1])]
    slope = torch.stack(slopes, dim=1)
    length = slope.flatten(2).norm(dim=2).clamp_min(1e-9)
    nearest = (behind.abs() / length).argmin(dim=1)
    rows = torch.arange(len(x))
    scale = (behind[rows, nearest].abs() + 1e-4) / length[rows, nearest] ** 2
    step: Tensor = scale.detach().view(-1, *[1] * (x.dim() - 1)) * slope[rows, nearest]
    return step, held
