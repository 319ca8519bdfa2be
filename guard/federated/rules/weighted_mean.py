"""Weighted mean: what every federation does by default.

Reference: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017.
"""

from __future__ import annotations

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import AggregationPlan, Rule, weighted_sum
from medward.guard.types import Array


class WeightedMean(Rule):
    """Weighted mean: each update counts by its examples, and one client can move the model anywhere."""

    name = "weighted-mean"

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """The weights as they are."""
        del geometry
        return weighted_sum(weights)
