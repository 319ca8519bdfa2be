"""Coordinate-wise trimmed mean.

Reference: Yin et al., "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import AggregationPlan, Rule, checked_share, require_clients, tolerated
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimmedMean(Rule):
    """Trimmed mean: of each number the largest and smallest `malicious_share` of clients go; weights are lost."""

    malicious_share: float = 0.25

    name = "trimmed-mean"

    def __post_init__(self) -> None:
        checked_share(self.malicious_share)

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """Every update as it is, then the mean of what lies between both ends."""
        del weights
        cut = tolerated(geometry.rows, self.malicious_share)
        require_clients(self.name, geometry.rows, cut, 2 * cut + 1)
        return AggregationPlan(np.eye(geometry.rows), partial(trimmed_means, cut=cut))


def trimmed_means(mixes: Array, cut: int) -> Array:
    """(b,): means down the mixes (m, b) without the `cut` largest and smallest."""
    means: Array = np.sort(mixes, axis=0)[cut : len(mixes) - cut].mean(axis=0)
    return means
