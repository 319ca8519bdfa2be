"""What clients say of their training, summed up for who watches; it is their own word, and nothing is decided by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medward.guard.federated.update import ClientUpdate


def shared_metrics(updates: Sequence[ClientUpdate]) -> list[str]:
    """The names of the metrics that every client sent, in order."""
    return sorted(set.intersection(*(set(update.metrics) for update in updates))) if updates else []


def mean_metrics(updates: Sequence[ClientUpdate], weights: Mapping[str, float]) -> dict[str, float]:
    """The means, by weight, of the metrics that every client of some weight sent."""
    counted = [update for update in updates if weights.get(update.node, 0) > 0]
    shares = np.array([weights[update.node] for update in counted])
    return {
        name: float(np.array([update.metrics[name] for update in counted]) @ shares / shares.sum())
        for name in shared_metrics(counted)
    }
