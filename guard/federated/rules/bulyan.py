"""Bulyan: Krum again and again, then a trimmed mean about the median.

Reference: El Mhamdi, Guerraoui and Rouault, "The hidden vulnerability of distributed learning in Byzantium", ICML 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import AggregationPlan, Rule, checked_share, require_clients, tolerated
from medward.guard.federated.rules.krum import krum_order
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulyan(Rule):
    """Bulyan: chooses n - 2f updates by Krum, then averages the n - 4f numbers nearest to the median.

    Weights are lost.
    """

    malicious_share: float = 0.15

    name = "bulyan"

    def __post_init__(self) -> None:
        checked_share(self.malicious_share)

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """The chosen updates, then the mean of what is nearest to the median of each number."""
        del weights
        malicious = tolerated(geometry.rows, self.malicious_share)
        require_clients(self.name, geometry.rows, malicious, 4 * malicious + 3)
        left = list(range(geometry.rows))
        chosen: list[int] = []
        while len(chosen) < geometry.rows - 2 * malicious:
            order = krum_order(geometry.squared_distances[np.ix_(left, left)], malicious)
            chosen.append(left.pop(int(order[0])))
        return AggregationPlan(
            np.eye(geometry.rows)[chosen], partial(means_about_median, kept=geometry.rows - 4 * malicious)
        )


def means_about_median(mixes: Array, kept: int) -> Array:
    """(b,): means of the `kept` numbers of each column of the mixes (m, b) that are nearest to its median."""
    away = np.abs(mixes - np.median(mixes, axis=0))
    nearest = np.argsort(away, axis=0, kind="stable")[:kept]
    means: Array = np.take_along_axis(mixes, nearest, axis=0).mean(axis=0)
    return means
