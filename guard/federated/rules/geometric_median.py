"""Geometric median (RFA).

Reference: Pillutla, Kakade and Harchaoui, "Robust aggregation for federated learning", IEEE TSP 2022:
smoothed Weiszfeld steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import (
    MINORITY,
    AggregationPlan,
    Rule,
    require_positive,
    require_steps,
    weighted_sum,
)
from medward.guard.federated.rules.norm_clipped_mean import clipped, lower_median
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometricMedian(Rule):
    """Geometric median: the point whose weighted distances to all updates sum to the least.

    Clients of less than half of the weight together cannot move it arbitrarily far. `steps` of Weiszfeld start at the
    norm-clipped mean, so that where they stop is bounded too; distances below `smoothing` median lengths count as that.
    """

    steps: int = 100
    smoothing: float = 1e-6

    name = "geometric-median"
    most_share = MINORITY

    def __post_init__(self) -> None:
        require_steps(self.steps)
        require_positive("smoothing", self.smoothing)

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """Weights over distances, repeated until they no longer move."""
        least = self.smoothing * float(np.median(geometry.norms)) + np.finfo(np.float64).tiny
        coefficients = weights * clipped(geometry.norms, lower_median(geometry.norms))
        coefficients /= coefficients.sum()
        for _ in range(self.steps):
            away = np.maximum(distances_to_mix(geometry.products, coefficients), least)
            moved = weights / away
            moved /= moved.sum()
            if np.allclose(moved, coefficients, rtol=1e-9, atol=0):
                break
            coefficients = moved
        return weighted_sum(coefficients)


def distances_to_mix(products: Array, coefficients: Array) -> Array:
    """(n,): the distance of each update to the sum of `coefficients` of all, from their inner products."""
    mixed = products @ coefficients
    squares = np.diag(products) - 2 * mixed + coefficients @ mixed
    return np.sqrt(np.maximum(squares, 0))
