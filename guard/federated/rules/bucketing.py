"""Bucketing: another rule sees means of random groups, among which honest but unlike clients stand out less.

Reference: Karimireddy, He and Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR 2022.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.geometry import Geometry
from medward.guard.federated.rules.base import AggregationPlan, Reference, Rule
from medward.guard.federated.sanitise import bounded_shares
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucketing(Rule):
    """Bucketing: groups of `size` clients, drawn each round, are averaged by weight; `rule` aggregates the means.

    One malicious client spoils a whole group: `rule` must bear `size` times the share. Groups follow from `seed` and
    the lengths of all updates, so a run can be repeated and every round has others; only who knew `seed` and the
    lengths of all honest updates could choose its own until a group suits it.
    """

    rule: Rule
    size: int = 2
    seed: int = 0

    name = "bucketing"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise MedwardError(f"size: must be 1 or more, got {self.size}")
        if self.rule.reference is not Reference.NONE:
            raise MedwardError(
                f"bucketing: cannot wrap {self.rule.name}, which compares with {self.rule.reference.value}"
            )
        if self.rule.looks_back:
            raise MedwardError(f"bucketing: cannot wrap {self.rule.name}, which looks back at clients, not at groups")

    def plan(self, geometry: Geometry, weights: Array) -> AggregationPlan:
        """The plan of the rule for the groups' means, said of the clients."""
        by_length = np.argsort(geometry.norms, kind="stable")
        order = np.random.default_rng([self.seed, *_drawn(geometry.norms)]).permutation(by_length)
        groups = bucket_matrix(order, self.size, weights)
        shares = bounded_shares((groups > 0).astype(np.float64) @ weights, self.rule.most_share)
        plan = self.rule.plan(geometry.mixed(groups), shares)
        return AggregationPlan(plan.mixing @ groups, plan.combine)


def _drawn(lengths: Array) -> bytes:
    """What a round's lengths add to the seed, whatever their unit and their last digits."""
    relative = np.sort(lengths) / max(float(lengths.max()), np.finfo(np.float64).tiny)
    return hashlib.sha256((np.round(relative, 6) + 0.0).tobytes()).digest()


def bucket_matrix(order: np.ndarray, size: int, weights: Array) -> Array:
    """(m, n): each row takes the weighted mean of the next `size` clients in `order`."""
    groups = np.zeros((-(-len(order) // size), len(order)))
    for place, client in enumerate(order):
        groups[place // size, client] = max(float(weights[client]), np.finfo(np.float64).tiny)
    shares: Array = groups / groups.sum(axis=1, keepdims=True)
    return shares
