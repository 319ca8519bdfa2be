"""Centred clipping.

Reference: Karimireddy, He and Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import (
    MINORITY,
    AggregationPlan,
    Reference,
    Rule,
    require_positive,
    require_steps,
    weighted_sum,
)
from medward.guard.federated.rules.geometric_median import distances_to_mix
from medward.guard.federated.rules.norm_clipped_mean import clipped
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class CentredClipping(Rule):
    """Centred clipping: what differs from the last aggregate by more than a radius is shortened to it, `steps` times.

    The radius is `clip` times the median distance at each step, or `radius` itself where it is given. A client of half
    of the weight or more would draw the centre after it round by round, so no client has so much.
    """

    clip: float = 1.0
    steps: int = 3
    radius: float | None = None

    name = "centred-clipping"
    reference = Reference.PREVIOUS
    most_share = MINORITY

    def __post_init__(self) -> None:
        require_steps(self.steps)
        require_positive("clip", self.clip)
        if self.radius is not None:
            require_positive("radius", self.radius)

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """How much of each update and, last, of the aggregate before."""
        clients = geometry.rows - 1
        centre = np.eye(geometry.rows)[clients]
        for _ in range(self.steps):
            away = distances_to_mix(geometry.products, centre)[:clients]
            radius = self.clip * float(np.median(away)) if self.radius is None else self.radius
            taken = weights * clipped(away, radius)
            centre = np.append(taken, 0) + (1 - taken.sum()) * centre
        return weighted_sum(centre)
