"""Whether a network's scores are held within [0, 1] by how it is made, as sigmoids are, or lie there by chance.

The scores of a network that was never trained often all lie there, and say nothing of what it answers.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from medward.guard.harden.network import Scoring
from medward.guard.harden.robust.inner import frozen_statistics


@torch.no_grad()
def are_bounded(network: nn.Module, sample: Tensor, device: str = "cpu") -> bool:
    """Whether the scores of `network` for the rows `sample` lie in [0, 1], whatever the weights of its last layer are.

    They are tried with all of these moved away from 0, once upwards and once downwards: the scores of a linear layer
    then change their sign. `network` is not touched.
    """
    tried = Scoring(copy.deepcopy(network).float().to(torch.device(device)))
    rows = sample.to(device)
    ran: list[nn.Module] = []
    hooks = [
        each.register_forward_hook(lambda layer, *_: ran.append(layer))
        for each in tried.net.modules()
        if any(True for _ in each.parameters(recurse=False))
    ]
    with frozen_statistics(tried):
        inside = _within(tried.raw(rows))
        for hook in hooks:
            hook.remove()
        weights = [*ran[-1].parameters(recurse=False)] if ran else []
        sizes = [each.abs() + 1 for each in weights]
        for sign in (1, -1):
            for weight, size in zip(weights, sizes, strict=True):
                weight.copy_(sign * size)
            inside = inside and _within(tried.raw(rows))
    return inside


def _within(scores: Tensor) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())
