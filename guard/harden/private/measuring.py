"""What a network makes of rows: its losses and its accuracy, in eval mode. Nothing here is private."""

from __future__ import annotations

import torch
from torch import Tensor

from medward.guard.harden.losses.base import TaskLosses
from medward.guard.harden.network import ROWS_PER_BATCH, Rows, Scoring
from medward.guard.harden.robust.inner import frozen_statistics


def centred_losses(own: list[Tensor], labels: tuple[Tensor, Tensor], classes: int) -> list[Tensor]:
    """Losses less the mean loss of their class: another mix of classes is no sign of having been trained on."""
    both, y = torch.cat(own), torch.cat(labels)
    means = torch.stack(
        [both[y == each].mean() if bool((y == each).any()) else both.new_zeros(()) for each in range(classes)]
    )
    return [each - means[label] for each, label in zip(own, labels, strict=True)]


@torch.no_grad()
def _scores(network: Scoring, rows: Rows) -> Tensor:
    """Scores ``(n, K)`` in eval mode, on the CPU."""
    device = next(network.parameters()).device
    with frozen_statistics(network):
        return torch.cat([network(part.to(device)).cpu() for part in torch.split(rows.x, ROWS_PER_BATCH)])


def measured_losses(network: Scoring, rows: Rows) -> Tensor:
    """The loss ``(n,)`` of each row, unweighted."""
    return network.losses.row_losses(_scores(network, rows), rows.y)


def measured_accuracy(network: Scoring, rows: Rows, losses: TaskLosses) -> float:
    """The share decided rightly, as the measure of `losses` says."""
    return losses.accuracy(rows.y, losses.decide(_scores(network, rows)))
