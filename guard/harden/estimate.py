"""The defense's own estimate of what a network withstands; a search too short to be more than a compass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard.harden.base import Accuracy
from guard.harden.inner import Ball, climb, climb_shared, still
from guard.harden.subject import BATCH, Rows

CRAFT = 256  # rows a universal change is made on
CRAFT_EPOCHS = 4
ATTACKED = 256  # rows attacked one by one
STEPS, STEP = 10, 0.25  # of the change per input, in radii


def balanced_accuracy(y: Tensor, decided: Tensor) -> float:
    """The mean over the classes present in `y (n,)` of the share of their rows decided so."""
    return float(
        torch.stack([(decided[y == label] == label).double().mean() for label in sorted(set(y.tolist()))]).mean()
    )


def clean(network: nn.Module, rows: Rows, ball: Ball) -> float:
    """Balanced accuracy on the rows as they are."""
    return _under(network, rows, ball, torch.zeros_like(rows.x[:1]))


def universal(network: nn.Module, craft: Rows, rows: Rows, ball: Ball, *, seed: int) -> float:
    """The lowest balanced accuracy on `rows` under fresh universal changes made on `craft`, one for each goal."""
    generator = torch.Generator().manual_seed(seed)
    some = craft.some(CRAFT, generator)
    x, y = some.x.to(ball.radius.device), some.y.to(ball.radius.device)
    found = []
    for goal in (None, *range(int(craft.y.max()) + 1)):
        delta = climb_shared(network, x, y, ball, goal=goal, epochs=CRAFT_EPOCHS, batch=32, generator=generator)
        found.append(_under(network, rows, ball, delta.cpu()))
    return min(found)


def per_input(network: nn.Module, rows: Rows, ball: Ball, *, seed: int) -> float:
    """Balanced accuracy under projected gradient ascent from one random start, on at most `ATTACKED` rows."""
    generator = torch.Generator().manual_seed(seed)
    some, device = rows.some(ATTACKED, generator), ball.radius.device
    decided = []
    for first in range(0, len(some), BATCH):
        x, y = some.x[first : first + BATCH].to(device), some.y[first : first + BATCH].to(device)

        def loss(scores: Tensor, y: Tensor = y) -> Tensor:
            return F.cross_entropy(scores, y, reduction="sum")

        changed = climb(network, x, ball.random(tuple(x.shape), generator), ball, loss, steps=STEPS, step=STEP)
        with still(network), torch.no_grad():
            decided.append(network(changed).argmax(dim=1).cpu())
    return balanced_accuracy(some.y, torch.cat(decided))


def accuracy(network: nn.Module, craft: Rows, rows: Rows, ball: Ball, *, seed: int) -> Accuracy:
    """All three, for the certificate."""
    return Accuracy(
        clean=clean(network, rows, ball),
        universal=universal(network, craft, rows, ball, seed=seed),
        per_input=per_input(network, rows, ball, seed=seed),
    )


@torch.no_grad()
def _under(network: nn.Module, rows: Rows, ball: Ball, delta: Tensor) -> float:
    """Balanced accuracy with `delta` added to every row."""
    device, decided = ball.radius.device, []
    with still(network):
        for first in range(0, len(rows), BATCH):
            x = rows.x[first : first + BATCH].to(device)
            decided.append(network(ball.clip(x + delta.to(device))).argmax(dim=1).cpu())
    return balanced_accuracy(rows.y, torch.cat(decided))
