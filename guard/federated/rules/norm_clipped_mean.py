"""Norm-clipped mean: no client moves the model further than honest ones do.

Reference: Sun et al., "Can you really backdoor federated learning?", 2019 (norm bounding), with
the median norm as the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import AggregationPlan, Rule, require_positive, weighted_sum
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class NormClippedMean(Rule):
    """Norm-clipped mean: updates longer than `clip` median lengths are shortened to that, then averaged by weight.

    The median is the lower one of an even number. As long as no more than half of the clients are malicious, one of
    weight w moves the model by at most w * clip * (the longest honest length), whatever it sends. Keeps the weights of
    unequal hospitals, which rules by rank cannot. Where half of the clients change nothing no length is ordinary, and
    there is no plan.
    """

    clip: float = 1.0

    name = "norm-clipped-mean"

    def __post_init__(self) -> None:
        require_positive("clip", self.clip)

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """The weights, less where an update is long."""
        bound = self.clip * lower_median(geometry.norms)
        if bound == 0 and geometry.norms.any():
            raise MedwardError(f"{self.name}: half of the clients or more change nothing, so no length is ordinary")
        return weighted_sum(weights * clipped(geometry.norms, bound), shares=weights)


def lower_median(lengths: Array) -> float:
    """The median of lengths (n,), the lower one of an even number."""
    return float(np.sort(lengths)[(len(lengths) - 1) // 2])


def clipped(lengths: Array, bound: float) -> Array:
    """(n,): what vectors of these lengths are multiplied with to be no longer than `bound`."""
    return np.where(lengths > bound, bound / np.maximum(lengths, np.finfo(np.float64).tiny), 1.0)
