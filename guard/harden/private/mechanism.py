"""The Gaussian mechanism of one step: a clipped gradient for each unit, their sum, and noise.

Reference: Abadi et al., "Deep learning with differential privacy", CCS 2016; for units of several rows McMahan et al.,
"Learning differentially private recurrent language models", ICLR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SLACK = 1e-5  # relative: what rounding of sums in single precision may add to a norm
_SUMMED = 4096  # numbers whose squares torch adds up at once, within that slack; of ten million it loses a hundredth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MechanismOutput:
    """A mechanism output is what one step may learn of the rows: the sum ``total (P,)`` of clipped gradients, noised.

    `total` and `noise` are held apart only so that the guard can check each; training reads `gradient`.
    """

    total: Tensor
    noise: Tensor
    drawn: int
    expected: float

    @property
    def gradient(self) -> Tensor:
        """The noisy sum over the *expected* number of units: the number drawn is secret."""
        return (self.total + self.noise) / self.expected


def unit_gradients(gradients: Tensor, owners: Tensor, units: int) -> Tensor:
    """The mean ``(units, ...)`` of the rows' `gradients (n, ...)` of each unit; `owners (n,)` say whose a row is."""
    if len(gradients) == units:  # one row each, in order
        return gradients
    counts = torch.bincount(owners, minlength=units).to(gradients.dtype)
    summed = gradients.new_zeros((units, *gradients.shape[1:])).index_add_(0, owners, gradients)
    return summed / counts.reshape(-1, *[1] * (gradients.ndim - 1))


def joint_norms(tables: Sequence[Tensor]) -> Tensor:
    """The norm ``(n,)`` of each row over all `tables (n, ...)` together, in single precision within `_SLACK`."""
    parts = [part for each in tables for part in torch.split(each.flatten(1), _SUMMED, dim=1)]
    found: Tensor = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts]), dim=0
    )
    return found


def clipped_sum(gradients: Sequence[Tensor], owners: Tensor, units: int, clip: float) -> Tensor:
    """The sum ``(P,)`` over units of their mean gradient, each scaled down to norm `clip` over all parameters.

    `gradients` are ``(n, *parameter)`` for each parameter. With one unit more or less the sum changes by at most
    `clip`. A unit whose gradient is no number counts as nothing.
    """
    means = [unit_gradients(each, owners, units).reshape(units, math.prod(each.shape[1:])) for each in gradients]
    norms = joint_norms(means)
    factors = (clip * (1 - _SLACK) / norms.clamp_min(1e-12)).clamp(max=1.0)
    finite = torch.isfinite(norms)
    if not bool(finite.all()):
        factors = torch.where(finite, factors, torch.zeros_like(factors))
        means = [torch.where(finite[:, None], each, torch.zeros_like(each)) for each in means]
    return torch.cat([factors @ each for each in means])


def largest_contribution(gradients: Sequence[Tensor], owners: Tensor, units: int, clip: float) -> float:
    """The norm of what the unit with the largest gradient adds to a `clipped_sum`, found by asking it of that alone."""
    means = [unit_gradients(each, owners, units).reshape(units, math.prod(each.shape[1:])) for each in gradients]
    norms = joint_norms(means)
    rows = (owners == int(torch.nan_to_num(norms, nan=0.0, posinf=0.0).argmax())).nonzero()[:, 0]
    alone = [each[rows] for each in gradients]
    return float(joint_norms([clipped_sum(alone, torch.zeros_like(rows), 1, clip)[None]]))
