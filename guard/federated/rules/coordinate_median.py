"""Coordinate-wise median.

Reference: Yin et al., "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018.
"""

from __future__ import annotations

import numpy as np

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import AggregationPlan, Rule
from medward.guard.types import Array


class CoordinateMedian(Rule):
    """Coordinate-wise median: each number of the model moves by the median of the clients' moves; weights are lost."""

    name = "coordinate-median"

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """Every update as it is, then the median of each number."""
        del weights
        return AggregationPlan(np.eye(geometry.rows), medians)


def medians(mixes: Array) -> Array:
    """(b,): medians down the mixes (m, b)."""
    middle: Array = np.median(mixes, axis=0)
    return middle
