"""What a round of a guarded strategy tells Flower, which takes numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medward.guard.federated.aggregator import RoundResult
from medward.guard.federated.update import ClientUpdate
from medward.integrations.flower_replies import shared_metrics


def mean_metrics(updates: Sequence[ClientUpdate], weights: Mapping[str, float]) -> dict[str, float]:
    """The weighted means of the metrics that all counted clients sent."""
    counted = [update for update in updates if weights.get(update.node, 0) > 0]
    shares = np.array([weights[update.node] for update in counted])
    return {
        name: float(np.array([update.metrics[name] for update in counted]) @ shares / shares.sum())
        for name in shared_metrics(counted)
    }


def round_metrics(result: RoundResult) -> dict[str, Any]:
    """How many clients were refused, suspected and, by their weights, effective; and the weight of each."""
    squares = sum(weight**2 for weight in result.weights.values())
    return {
        "medward-refused": len(result.refusals),
        "medward-suspected": 0 if result.judgement is None else len(result.judgement.suspects),
        "medward-effective-clients": 1 / squares if squares else 0.0,
        **{f"medward-weight-{name}": weight for name, weight in result.weights.items()},
    }
