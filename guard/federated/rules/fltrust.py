"""FLTrust: the server learns a little itself, and believes who goes its way.

Reference: Cao et al., "FLTrust: Byzantine-robust federated learning via trust bootstrapping", NDSS 2021.
"""

from __future__ import annotations

import numpy as np

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import AggregationPlan, Reference, Rule, weighted_sum
from medward.guard.types import Array


class FLTrust(Rule):
    """FLTrust: weighs updates by the cosine to the server's own, none below zero, and gives all its length.

    The server's update comes from clean rows of its own; weights of clients are lost.
    """

    name = "fltrust"
    reference = Reference.SERVER

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """How much of each update; nothing where no client goes the server's way."""
        del weights
        lengths = np.maximum(geometry.norms, np.finfo(np.float64).tiny)
        cosines = geometry.products[-1, :-1] / (lengths[-1] * lengths[:-1])
        trust = np.maximum(cosines, 0)
        scale = trust * lengths[-1] / lengths[:-1] / max(float(trust.sum()), np.finfo(np.float64).tiny)
        return weighted_sum(np.append(scale, 0))
