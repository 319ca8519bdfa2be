"""The defense's own estimate of what a network withstands; a search too short to be more than a compass."""

from __future__ import annotations

import torch
from torch import Tensor

from medward.guard.certificate import Accuracy
from medward.guard.harden.certified.bounds import bounded_or_none, certified_accuracy
from medward.guard.harden.network import ROWS_PER_BATCH, Rows, Scoring
from medward.guard.harden.robust.inner import TrainingBall, climb_shared, frozen_statistics, inner_ascent

_CRAFT = 256  # rows a universal change is made on
CRAFT_EPOCHS = 4
ATTACKED = 256  # rows attacked one by one
STEPS, STEP = 10, 0.25  # of the change per input, in radii


def clean_accuracy(network: Scoring, rows: Rows, ball: TrainingBall) -> float:
    """The accuracy of the network's task on the rows as they are."""
    return _under(network, rows, ball, torch.zeros_like(rows.x[:1]))


def universal_accuracy(network: Scoring, craft: Rows, rows: Rows, ball: TrainingBall, *, seed: int) -> float:
    """The lowest accuracy on `rows` under fresh universal changes made on `craft`, one for each goal."""
    generator = torch.Generator().manual_seed(seed)
    some = craft.some(_CRAFT, generator)
    x, y = some.x.to(ball.radius.device), some.y.to(ball.radius.device)
    found = []
    for goal in network.losses.goals:
        delta = climb_shared(
            network, x, y, ball, network.losses, goal=goal, epochs=CRAFT_EPOCHS, batch=32, generator=generator
        )
        found.append(_under(network, rows, ball, delta.cpu()))
    return min(found)


def per_input(network: Scoring, rows: Rows, ball: TrainingBall, *, seed: int) -> float:
    """Accuracy under projected gradient ascent from one random start, on at most `ATTACKED` rows."""
    generator = torch.Generator().manual_seed(seed)
    some, device = rows.some(ATTACKED, generator), ball.radius.device
    decided = []
    for first in range(0, len(some), ROWS_PER_BATCH):
        x, y = some.x[first : first + ROWS_PER_BATCH].to(device), some.y[first : first + ROWS_PER_BATCH].to(device)

        def loss(scores: Tensor, y: Tensor = y) -> Tensor:
            return network.losses.row_losses(scores, y).sum()

        changed = inner_ascent(network, x, ball.random(tuple(x.shape), generator), ball, loss, steps=STEPS, step=STEP)
        with frozen_statistics(network), torch.no_grad():
            decided.append(network.losses.decide(network(changed)).cpu())
    return network.losses.accuracy(some.y, torch.cat(decided))


def estimate_accuracies(
    network: Scoring, craft: Rows, rows: Rows, ball: TrainingBall, *, seed: int, bounded: bool = False
) -> Accuracy:
    """All three, for the certificate; where `bounded` also what bounds certify, if the network has any."""
    return Accuracy(
        clean=clean_accuracy(network, rows, ball),
        universal=universal_accuracy(network, craft, rows, ball, seed=seed),
        per_input=per_input(network, rows, ball, seed=seed),
        certified=bounded_or_none(certified_accuracy, network, rows, ball) if bounded else None,
    )


@torch.no_grad()
def _under(network: Scoring, rows: Rows, ball: TrainingBall, delta: Tensor) -> float:
    """Accuracy with `delta` added to every row."""
    device, decided = ball.radius.device, []
    with frozen_statistics(network):
        for first in range(0, len(rows), ROWS_PER_BATCH):
            x = rows.x[first : first + ROWS_PER_BATCH].to(device)
            decided.append(network.losses.decide(network(ball.clip(x + delta.to(device)))).cpu())
    return network.losses.accuracy(rows.y, torch.cat(decided))
