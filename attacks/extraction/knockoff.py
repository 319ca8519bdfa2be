"""Knockoff theft: ask about a public pool at random, train a clone on the answers.

Reference: Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019, random strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from attacks.base import AttackData
from attacks.extraction.base import Loot
from attacks.extraction.pool import KNOWLEDGE, PoolAsker
from attacks.extraction.theft import Theft
from guard.types import Ints, ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomPool:
    """Rows of the pool in random order."""

    name: str = "knockoff"
    knowledge: str = KNOWLEDGE
    step: int | None = None

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolAsker:
        """Begin a theft; see `Strategy`."""
        return _Random(data, spec, seed)


Knockoff = partial(Theft, strategy=RandomPool())
"""A `Theft` by `RandomPool`, with the theft's other settings."""


class _Random(PoolAsker):
    def choose(self, free: Ints, count: int, loot: Loot, clone: nn.Module | None) -> Ints:
        return self.rng.permutation(free)[:count]
