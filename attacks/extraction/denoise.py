"""D-DAE: a small network learns the way back from released answers to fine ones, from the thief's own pairs.

Reference: Chen et al., "D-DAE: Defense-Penetrating Model Extraction Attacks", IEEE S&P 2023 (the generative model; the
disruption is known here, so it need not be detected).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medward.guard.types import Array

_HIDDEN = 64
_STEPS = 200
_RATE = 5e-3
DECAY = 0.1
_SMALLEST = 1e-4  # a probability below this reads as this


def denoised_probabilities(seen: Array, released: Array, clean: Array, *, seed: int) -> Array:
    """Probabilities ``(n, K)`` behind `seen (n, K)`, by a network trained on `released (m, K)` to `clean (m, K)`.

    It adds to the logarithms it is given, and so starts as the identity. The same seed gives the same network.
    """
    classes = seen.shape[1]
    x, y = (torch.as_tensor(np.asarray(each, np.float32)) for each in (released, clean))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        last = nn.Linear(_HIDDEN, classes)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        net = nn.Sequential(nn.Linear(2 * classes, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(), last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=DECAY)
    for _ in range(_STEPS):
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(nn.functional.cross_entropy(_logits(net, x), y))
        optimizer.step()
    with torch.no_grad():
        found = torch.softmax(_logits(net, torch.as_tensor(np.asarray(seen, np.float32))), dim=1)
    return np.asarray(found.double().numpy())


def _logits(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    logs = x.clamp_min(_SMALLEST).log()
    logits: torch.Tensor = logs + net(torch.cat([x, logs / 4], dim=1))
    return logits
