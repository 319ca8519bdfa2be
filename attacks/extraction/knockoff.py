"""Knockoff theft: ask about a public pool at random, train a clone on the answers.

Reference: Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019, random strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.pool import POOL_KNOWLEDGE, PoolChooser
from medward.attacks.extraction.theft import Theft
from medward.guard.spec import ModelSpec
from medward.guard.types import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomPool:
    """Rows of the pool in random order."""

    name: str = "knockoff"
    knowledge: str = POOL_KNOWLEDGE
    step: int | None = None

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolChooser:
        """Begin a theft; see `Strategy`."""
        return _Random(data, spec, seed)


Knockoff = partial(Theft, strategy=RandomPool())
"""A `Theft` by `RandomPool`, with the theft's other settings."""


class _Random(PoolChooser):
    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        return self.rng.permutation(free)[:count]
