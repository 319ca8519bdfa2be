"""What a round of a guarded strategy tells Flower, which takes numbers only."""

from __future__ import annotations

from typing import Any

from medward.guard.federated.aggregator import RoundResult


def round_metrics(result: RoundResult) -> dict[str, Any]:
    """How many clients were refused, suspected and, by their weights, effective; and the weight of each."""
    squares = sum(weight**2 for weight in result.weights.values())
    return {
        "medward-refused": len(result.refusals),
        "medward-suspected": 0 if result.judgement is None else len(result.judgement.suspects),
        "medward-effective-clients": 1 / squares if squares else 0.0,
        **{f"medward-weight-{name}": weight for name, weight in result.weights.items()},
    }
