"""Krum and Multi-Krum.

Its proof needs n > 2f + 2 clients for f malicious ones. Here n = 2f + 2 is let through too, so that 4 can bear 1: the f
nearest others of a colluder then still include an honest one, so that what is taken lies as near to that as honest
updates to each other. With fewer, f colluders are nearest to themselves, and the rule is refused.

Reference: Blanchard et al., "Machine learning with adversaries: Byzantine tolerant gradient descent", NeurIPS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import (
    AggregationPlan,
    Rule,
    checked_share,
    require_clients,
    tolerated,
    weighted_sum,
)
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Krum(Rule):
    """Krum: takes the one update whose n - f - 2 nearest others are nearest, f of n clients being malicious."""

    malicious_share: float = 0.25

    name = "krum"

    def __post_init__(self) -> None:
        checked_share(self.malicious_share)

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """The chosen update."""
        del weights
        return weighted_sum(np.eye(geometry.rows)[_checked_order(self.name, geometry, self.malicious_share)[0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiKrum(Rule):
    """Multi-Krum: averages the n - f updates whose nearest others are nearest, by weight."""

    malicious_share: float = 0.25

    name = "multi-krum"

    def __post_init__(self) -> None:
        checked_share(self.malicious_share)

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """The weights of the chosen clients, which sum to one again."""
        kept = np.zeros(geometry.rows)
        order = _checked_order(self.name, geometry, self.malicious_share)
        chosen = order[: geometry.rows - tolerated(geometry.rows, self.malicious_share)]
        kept[chosen] = weights[chosen]
        return weighted_sum(kept / kept.sum())


def krum_scores(squared_distances: Array, malicious: int) -> Array:
    """(n,): the sum of the n - f - 2 smallest squared distances of each update to another, of the smallest at least."""
    clients = len(squared_distances)
    others = squared_distances + np.diag(np.full(clients, np.inf))
    scores: Array = np.sort(others, axis=1)[:, : max(1, clients - malicious - 2)].sum(axis=1)
    return scores


def krum_order(squared_distances: Array, malicious: int) -> NDArray[np.intp]:
    """(n,): clients from the least score to the largest; of equal ones the nearer to all comes first."""
    return np.lexsort((squared_distances.sum(axis=1), krum_scores(squared_distances, malicious)))


def _checked_order(rule: str, geometry: Geometry, share: float) -> NDArray[np.intp]:
    malicious = tolerated(geometry.rows, share)
    require_clients(rule, geometry.rows, malicious, max(malicious + 3, 2 * malicious + 2))
    return krum_order(geometry.squared_distances, malicious)
