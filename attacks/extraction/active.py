"""ActiveThief: ask about the rows of the pool from which the clone stands to learn most.

Before the first clone rows are random. After it: "entropy" takes those the clone is least sure of, "k-center" those
farthest from all that was asked in the clone's own answers, "dfal" those nearest to the clone's decision boundary by
DeepFool, and "dfal-k-center" the k centers among the nearest.

Reference: Pal et al., "ActiveThief: model extraction using active learning and unannotated public data", AAAI 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers, clone_probabilities, clone_values
from medward.attacks.extraction.deepfool import boundary_distance
from medward.attacks.extraction.pool import POOL_KNOWLEDGE, PoolChooser
from medward.attacks.learners.table import check_classes
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

CHOICES = ("entropy", "k-center", "dfal", "dfal-k-center")
_NEAREST = 3  # times as many rows as wanted, of which dfal-k-center takes the centers


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveThief:
    """Rows of the pool chosen by the clone. `considered` caps the rows whose distance to the boundary is computed."""

    by: Literal["entropy", "k-center", "dfal", "dfal-k-center"] = "k-center"
    knowledge: str = POOL_KNOWLEDGE
    step: int | None = None
    considered: int = 1500

    def __post_init__(self) -> None:
        if self.by not in CHOICES:
            raise MedwardError(f"by: must be one of {', '.join(CHOICES)}, got {self.by!r}")

    @property
    def name(self) -> str:
        """``activethief-`` and how it chooses."""
        return f"activethief-{self.by}"

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolChooser:
        """Begin a theft; see `Strategy`."""
        if self.by != "k-center":
            check_classes(spec, self.name)
        return _Active(self, data, spec, seed)


class _Active(PoolChooser):
    def __init__(self, settings: ActiveThief, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, seed)
        self._settings = settings

    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        if clone is None:
            return self.rng.permutation(free)[:count]
        by = self._settings.by
        if by == "entropy":
            return _largest(free, entropy(clone_probabilities(clone, self.pool[free])), count)
        if by == "k-center":
            return self._centers(free, count, loot, clone)
        free = self.rng.permutation(free)[: max(count, self._settings.considered)]
        near = -boundary_distance(clone, self.pool[free])
        if by == "dfal":
            return _largest(free, near, count)
        return self._centers(_largest(free, near, _NEAREST * count), count, loot, clone)

    def _centers(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module) -> Ints:
        new, old = (clone_values(self.spec, clone, rows) for rows in (self.pool[free], loot.inputs))
        return free[k_centers(new, old, count)]


def entropy(probabilities: Array) -> Array:
    """In nats, ``(n,)`` of ``(n, K)``."""
    return np.asarray(-(probabilities * np.log(probabilities.clip(1e-12))).sum(axis=1))


def k_centers(points: Array, covered: Array, count: int) -> Ints:
    """Greedily `count` rows of `points (n, d)`, each the farthest from those taken and from `covered (m, d)`.

    A 2-approximation of the smallest covering radius (Sener and Savarese, ICLR 2018, algorithm 1).
    """
    gap = np.full(len(points), np.inf)
    for rows in np.array_split(covered, 1 + len(covered) // 256):
        if len(rows):
            gap = np.minimum(gap, ((points[:, None] - rows[None]) ** 2).sum(axis=2).min(axis=1))
    taken = np.empty(count, np.int64)
    for i in range(count):
        taken[i] = np.argmax(gap)
        gap = np.minimum(gap, ((points - points[taken[i]]) ** 2).sum(axis=1))
        gap[taken[: i + 1]] = -1.0
    return taken


def _largest(rows: Ints, values: Array, count: int) -> Ints:
    """The `count` rows with the largest values, largest first."""
    return rows[np.argsort(-values, kind="stable")[:count]]
