"""A walk through a pool: each query is a small step from the one before, so that nearly all are near-repeats.

A guard that forgives near-duplicates of a recent input (the next slice of a study) forgives such a walk if it compares
with the query just before, however far the walk has come. The way from one row of the pool to the next is straight and
takes `steps` queries; the thief learns from all of them.

Reference: Feng, Hooda, Mangaokar, Fawaz, Jha, Prakash, "Stateful defenses for machine learning models are not yet
secure against black-box attacks", CCS 2023, for attackers who stay where a stateful defense does not look; mixtures of
two rows as in Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018. The walk is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import Distiller, StolenAnswers
from medward.attacks.extraction.pool import POOL_KNOWLEDGE
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkedPool:
    """A walk visits rows of the pool in random order and takes `steps` queries from each to the next."""

    name: str = "knockoff-walk"
    knowledge: str = POOL_KNOWLEDGE
    step: int | None = None
    steps: int = 12

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise MedwardError(f"steps: must be at least 1, got {self.steps}")

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> _Walk:
        """Begin a theft; see `Strategy`. Raises `MedwardError` for a pool of fewer than two rows."""
        if data.pool is None or len(data.pool) < 2:
            raise MedwardError("extraction: a walk needs a pool of two rows or more to go from one to the next")
        pool = np.asarray(data.pool, np.float32)
        return _Walk(spec, pool[np.random.default_rng(seed).permutation(len(pool))], self.steps)


@dataclass(slots=True)
class _Walk(Distiller):
    rows: Array
    steps: int
    asked: int = 0

    def ask(self, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Array:
        last = self.steps * (len(self.rows) - 1)
        numbers = np.arange(self.asked, min(self.asked + count, last + 1))
        self.asked += len(numbers)
        return walk_points(self.rows, self.steps, numbers)


def walk_points(rows: Array, steps: int, numbers: Ints) -> Array:
    """The points ``(k, *shape)`` of a walk through ``rows (n, *shape)``: 0 is the first row, `steps` the second, ..."""
    start, part = np.divmod(numbers, steps)
    share = (part / steps).reshape(-1, *[1] * (rows.ndim - 1))
    goal = np.minimum(start + 1, len(rows) - 1)
    return np.asarray((1 - share) * rows[start] + share * rows[goal], np.float32)
