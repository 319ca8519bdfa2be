"""One pass through a network: its scores and features, and the slope of an objective in its input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS_PER_PASS = 128


def scores_and_features(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Scores, and features when the network shows them, of one forward pass."""
    split = getattr(network, "both", None)
    return (network(x), None) if split is None else split(x)


def input_gradient(objective: Tensor, x: Tensor) -> Tensor:
    """The slope of sum(objective) in `x`; zeros where the graph has been cut, as a quantiser does."""
    if not objective.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(objective.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


@torch.no_grad()
def batched_scores(network: nn.Module, x: Tensor) -> Tensor:
    """The network's scores of rows `x (n, *shape)`, in batches and without a gradient."""
    return torch.cat([network(x[i : i + ROWS_PER_PASS]) for i in range(0, max(len(x), 1), ROWS_PER_PASS)])
