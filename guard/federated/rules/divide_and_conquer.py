"""Divide-and-conquer (DnC): who stands out along the direction in which updates differ most is left out.

Reference: Shejwalkar and Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses for
federated learning", NDSS 2021, Algorithm 2. It looks at a random part of the numbers to save memory; here inner
products of all numbers are at hand, so one pass sees them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import (
    AggregationPlan,
    Rule,
    checked_share,
    require_clients,
    require_positive,
    tolerated,
    weighted_sum,
)
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class DivideAndConquer(Rule):
    """Divide-and-conquer: leaves out `filtered` * f of n clients, those furthest along the first singular vector.

    It bears clients who pull the same way and alike. Two who pull far in unlike ways have two such vectors, and one can
    pass; so can one who pulls half as far as another, for their mean moves towards them.
    """

    malicious_share: float = 0.25
    filtered: float = 1.0

    name = "divide-and-conquer"

    def __post_init__(self) -> None:
        checked_share(self.malicious_share)
        require_positive("filtered", self.filtered)

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """The weights of who is left, which sum to one again."""
        malicious = tolerated(geometry.rows, self.malicious_share)
        removed = int(np.ceil(self.filtered * malicious))
        require_clients(self.name, geometry.rows, malicious, max(removed, 2 * malicious) + 1)
        order = np.argsort(spectral_scores(geometry.products), kind="stable")
        kept = np.zeros(geometry.rows)
        kept[order[: geometry.rows - removed]] = weights[order[: geometry.rows - removed]]
        return weighted_sum(kept / kept.sum())


def spectral_scores(products: Array) -> Array:
    """(n,): squared projections of the centred updates onto their first right singular vector."""
    centring = np.eye(len(products)) - 1 / len(products)
    values, vectors = np.linalg.eigh(centring @ products @ centring)
    scores: Array = values[-1] * vectors[:, -1] ** 2
    return scores
