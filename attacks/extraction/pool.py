"""Thieves who choose from a pool of public inputs, each row at most once."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import Distiller, StolenAnswers
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

POOL_KNOWLEDGE = "a public pool that is not the model's own data"


class PoolChooser(Distiller):
    """Asks about rows of the pool that it has not asked about; subclasses say which."""

    def __init__(self, data: AttackData, spec: ModelSpec, seed: int) -> None:
        if data.pool is None or len(data.pool) == 0:
            raise MedwardError("extraction: needs a pool to ask about")
        super().__init__(spec)
        self.pool = np.asarray(data.pool, np.float32)
        self.rng = np.random.default_rng(seed)
        self.free = np.ones(len(self.pool), bool)
        self.asked = np.zeros(0, np.int64)

    def ask(self, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Array:
        """The chosen rows, at most as many as are free."""
        free = np.flatnonzero(self.free)
        count = min(count, len(free))
        rows = self.choose(free, count, loot, clone)
        self.free[rows] = False
        self.asked = np.concatenate([self.asked, rows])
        return self.pool[rows]

    @abstractmethod
    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        """`count` different rows of `free (>= count,)`; row i of `loot` is the answer to the pool's ``asked[i]``."""
