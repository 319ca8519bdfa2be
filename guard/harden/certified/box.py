"""Boxes and what a layer makes of them: interval arithmetic on tensors that gradients pass through.

An affine layer takes a box of centre c and radius r to one of centre W c + b and radius |W| r; a function that never
decreases is taken at both ends. Bounds are those of exact arithmetic: float32 may overstate one by a rounding, so they
train and estimate, and `guard.certify` is what certifies an answer.

Reference: Gowal, Dvijotham, Stanforth, Bunel, Qin, Uesato, Arandjelovic, Mann, Kohli, "Scalable verified training for
provably robust image classification", ICCV 2019, which also bounds differences of scores from the last layer but one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

AffineLayer = Callable[[Tensor, Tensor], Tensor]
"""What an affine layer makes of inputs with the weights given, without its bias."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorBox:
    """A tensor box holds every tensor from `low` to `high` ``(n, ...)``, value by value.

    `before`, `weight` and `bias` are, where a linear layer made it, what that layer took and is: differences of its
    outputs are bounded more tightly from there.
    """

    low: Tensor
    high: Tensor
    before: TensorBox | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def centre(self) -> Tensor:
        """The middle of the box."""
        return (self.low + self.high) / 2

    @property
    def radius(self) -> Tensor:
        """Half the width of the box, value by value."""
        return (self.high - self.low) / 2


def affine_box(box: TensorBox, weight: Tensor, bias: Tensor | None, layer: AffineLayer) -> TensorBox:
    """The image of `box` under an affine `layer` to ``(n, K, ...)`` with `weight` and a channel's `bias` ``(K,)``."""
    centre, radius = layer(box.centre, weight), layer(box.radius, weight.abs())
    if bias is not None:
        centre = centre + bias.reshape(-1, *[1] * (centre.ndim - 2))
    return TensorBox(centre - radius, centre + radius)


def linear_box(box: TensorBox, weight: Tensor, bias: Tensor | None) -> TensorBox:
    """The image under a linear layer, which remembers what it was made of."""
    image = affine_box(box, weight, None, lambda x, w: F.linear(x, w))
    low, high = (image.low, image.high) if bias is None else (image.low + bias, image.high + bias)
    return TensorBox(low, high, box, weight, bias)


def monotone_box(box: TensorBox, function: Callable[[Tensor], Tensor]) -> TensorBox:
    """The image under a `function` none of whose values decreases when one of its inputs grows."""
    return TensorBox(function(box.low), function(box.high))


def raised_box(box: TensorBox, second: TensorBox | Tensor | float) -> TensorBox:
    """The sum, in the place of `box`, as a network works that adds to a tensor in place."""
    low, high = (second.low, second.high) if isinstance(second, TensorBox) else (second, second)
    return TensorBox(box.low.add_(low), box.high.add_(high))


def sum_box(first: TensorBox, second: TensorBox | Tensor | float) -> TensorBox:
    """The sum; of two boxes as if they moved apart from each other."""
    low, high = (second.low, second.high) if isinstance(second, TensorBox) else (second, second)
    return TensorBox(first.low + low, first.high + high)


def negated_box(box: TensorBox) -> TensorBox:
    """The box of the negatives."""
    return TensorBox(-box.high, -box.low)


def multiplied_box(box: TensorBox, factor: Tensor | float) -> TensorBox:
    """The product with a constant `factor` of either sign."""
    centre = box.centre * factor
    radius = box.radius * (factor.abs() if isinstance(factor, Tensor) else abs(factor))
    return TensorBox(centre - radius, centre + radius)


def normalised_box(
    box: TensorBox, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, small: float
) -> TensorBox:
    """The image under batch normalisation ``(n, C, ...)`` with statistics that stand still: an affine map a channel."""
    shape = (-1, *[1] * (box.low.ndim - 2))
    scale = torch.rsqrt(variance + small) * (1 if weight is None else weight)
    shift = -mean * scale + (0 if bias is None else bias)
    return sum_box(multiplied_box(box, scale.reshape(shape)), shift.reshape(shape))


def softmax_box(box: TensorBox) -> TensorBox:
    """Probabilities ``(n, K)`` of scores, by the odds of each class against every other."""
    leads = score_differences(box)  # [n, i, j]: how far j can lead i; of j the least lead is minus what i can lead j
    return TensorBox(torch.exp(-torch.logsumexp(leads, dim=2)), torch.exp(-torch.logsumexp(-leads, dim=1)))


def score_differences(box: TensorBox) -> Tensor:
    """Upper bounds ``(n, K, K)`` of score j minus score i at ``[:, i, j]``, for scores ``(n, K)``.

    Where a linear layer made the scores they are differences of its rows, which is tighter than differences of bounds.
    """
    if box.before is None or box.weight is None or box.before.low.ndim != 2:
        apart = box.high[:, None, :] - box.low[:, :, None]
        return apart * (1 - torch.eye(apart.shape[1], dtype=apart.dtype, device=apart.device))
    count = len(box.weight)
    rows = (box.weight[None, :, :] - box.weight[:, None, :]).flatten(0, 1)
    bound = F.linear(box.before.centre, rows) + F.linear(box.before.radius, rows.abs())
    bound = bound.reshape(-1, count, count)
    return bound if box.bias is None else bound + (box.bias[None, :] - box.bias[:, None])
