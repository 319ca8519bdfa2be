"""FoolsGold: clients that keep pulling the same way count less.

Reference: Fung, Yoon and Beschastnikh, "The limitations of federated learning in Sybil settings", RAID 2020,
Algorithm 1.
"""

from __future__ import annotations

import numpy as np

from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import AggregationPlan, Rule, weighted_sum
from medward.guard.types import Array


class FoolsGold(Rule):
    """FoolsGold: lowers the weight of clients whose summed updates are alike; a lone attacker is not noticed.

    The server keeps the sum of each client's updates: a model for each. All features count alike. Honest clients whose
    data are alike resemble one another too, and lose weight.
    """

    name = "foolsgold"
    looks_back = True

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """Weights times how little each client resembles another."""
        if geometry.rows == 1:
            return weighted_sum(weights)
        products = geometry.products if geometry.history is None else geometry.history
        kept = weights * dissimilarity(products)
        return weighted_sum(kept / kept.sum() if kept.sum() > 0 else weights)


def dissimilarity(products: Array) -> Array:
    """(n,): FoolsGold's learning rates in [0, 1], from the inner products of the clients' summed updates."""
    lengths = np.sqrt(np.maximum(np.diag(products), np.finfo(np.float64).tiny))
    cosines = products / np.outer(lengths, lengths)
    np.fill_diagonal(cosines, -np.inf)
    most = cosines.max(axis=1)
    # Pardoning: a client that resembles a worse one only by chance is forgiven in part. No likeness is below nothing:
    # the published quotient of two negative numbers would make clients that are least alike look alike.
    own, worse, ratio = np.maximum(most, 0)[:, None], most[None, :], np.ones_like(cosines)
    np.divide(own, worse, out=ratio, where=worse > own)
    pardoned = np.where(np.eye(len(products), dtype=bool), -np.inf, np.maximum(cosines, 0) * ratio)
    rates = np.clip(1 - pardoned.max(axis=1), 0, 1)
    rates = rates / rates.max() if rates.max() > 0 else np.ones_like(rates)
    capped = np.minimum(rates, 0.99)
    with np.errstate(divide="ignore"):
        logits = np.log(capped / (1 - capped)) + 0.5
    kept: Array = np.clip(logits, 0, 1)
    return kept
