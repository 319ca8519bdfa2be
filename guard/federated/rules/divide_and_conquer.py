"""Divide-and-conquer (DnC): who stands out along the direction in which updates differ most is left out.

Reference: Shejwalkar and Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses for
federated learning", NDSS 2021, Algorithm 2. It looks at a random part of the numbers to save memory; here inner
products of all numbers are at hand, so one pass sees them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.geometry import Floats, Geometry
from medward.guard.federated.rules.base import Plan, Rule, checked_share, require_clients, tolerated, weighted_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class DivideAndConquer(Rule):
    """Divide-and-conquer: leaves out `filtered` * f of n clients, those furthest along the first singular vector."""

    malicious_share: float = 0.25
    filtered: float = 1.0

    name = "divide-and-conquer"

    def __post_init__(self) -> None:
        checked_share(self.malicious_share)
        if self.filtered <= 0:
            raise MedwardError(f"filtered: must be above 0, got {self.filtered:g}")

    def plan(self, geometry: Geometry, weights: Floats) -> Plan:
        """The weights of who is left, which sum to one again."""
        malicious = tolerated(geometry.rows, self.malicious_share)
        removed = int(np.ceil(self.filtered * malicious))
        require_clients(self.name, geometry.rows, malicious, removed + 1)
        order = np.argsort(spectral_scores(geometry.products), kind="stable")
        kept = np.zeros(geometry.rows)
        kept[order[: geometry.rows - removed]] = weights[order[: geometry.rows - removed]]
        return weighted_sum(kept / kept.sum())


def spectral_scores(products: Floats) -> Floats:
    """(n,): squared projections of the centred updates onto their first right singular vector."""
    centring = np.eye(len(products)) - 1 / len(products)
    values, vectors = np.linalg.eigh(centring @ products @ centring)
    scores: Floats = values[-1] * vectors[:, -1] ** 2
    return scores
