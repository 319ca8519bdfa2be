"""CopyCat: hard labels of images that have nothing to do with the problem, each class equally often.

Few natural images look like the rarer classes, so those are repeated until every class weighs the same; so are sets of
findings and cells of a number.

Reference: Correia-Silva et al., "Copycat CNN: stealing knowledge by persuading confession with random non-labeled
data", IJCNN 2018 (the non-problem-domain data alone).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers, distil_clone
from medward.attacks.extraction.pool import POOL_KNOWLEDGE, PoolChooser
from medward.attacks.learners.table import learner_of
from medward.guard.spec import ModelSpec
from medward.guard.types import Ints

_LONGER = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCat:
    """Rows of the pool in random order; only the decision of an answer is used, whatever else leaves."""

    name: str = "copycat"
    knowledge: str = POOL_KNOWLEDGE
    step: int | None = None

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolChooser:
        """Begin a theft; see `Strategy`."""
        return _CopyCat(data, spec, seed)


class _CopyCat(PoolChooser):
    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        return self.rng.permutation(free)[:count]

    def learn(self, loot: StolenAnswers, *, epochs: int, seed: int) -> nn.Module | None:
        known = loot.known
        if len(known) == 0:
            return None
        learner = learner_of(self.spec)
        decided = learner.decided(known.targets)
        hard = StolenAnswers(known.inputs, learner.certain(decided))
        return distil_clone(self.spec, hard.take(balanced_rows(decided)), epochs=epochs, seed=seed)


def balanced_rows(decided: Ints) -> Ints:
    """Row numbers in which every decision of ``(n,)`` comes as often as the most common one; all rows at least once.

    Sets of findings and cells are many and some of them rare: all rows together are at most `_LONGER` times as many, so
    rare ones then come less often.
    """
    kinds, counts = np.unique(decided, return_counts=True)
    most = min(int(counts.max()), -(-_LONGER * len(decided) // len(kinds)))
    rows = [np.flatnonzero(decided == each) for each in kinds]
    return np.concatenate([np.resize(some, max(most, len(some))) for some in rows])
