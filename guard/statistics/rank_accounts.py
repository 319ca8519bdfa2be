"""Many accounts of one rank e-process at once: the arithmetic of `RankEProcess.step` with an axis for the accounts.

It serves to say beforehand how soon an account is noticed (`guard.bundle.power`), and to measure thousands of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medward.guard.statistics.eprocess import CAP, DOWN
from medward.guard.statistics.rank_eprocess import (
    FLAGGED,
    MISTAKEN,
    MOST_MISTAKEN,
    MOST_PAID,
    PAID_THEREAFTER,
    STAKES,
    RankEProcess,
    bettor_capital,
)
from medward.guard.types import Array, Ints


@dataclass(slots=True)
class RankAccounts:
    """Rank accounts are `accounts` of `part`, who ask in step: their wealth per bettor, and what each was seen to ask.

    ``limits (S, J)`` are those of the strata, ``depths (S,)`` how many ranks each has, ``seen (accounts, S)`` and
    ``above (accounts, S, J)`` the counts.
    """

    part: RankEProcess
    accounts: int
    n: int = 0
    depths: Ints = field(init=False)
    limits: Array = field(init=False)
    wealth: Array = field(init=False)
    seen: Array = field(init=False)
    above: Array = field(init=False)

    def __post_init__(self) -> None:
        strata, depth = len(self.part.sizes), self.part.cells.depth
        self.depths = np.array([len(own) for own in self.part.ranks])
        self.limits = np.array([[*own, *[1.0] * (depth - len(own))] for own in self.part.limits])
        self.wealth = np.zeros((self.accounts, depth * len(STAKES)))
        self.seen, self.above = np.zeros((self.accounts, strata)), np.zeros((self.accounts, strata, depth))

    def step(self, cells: Ints, strata: Ints) -> Array:
        """Wealth ``(accounts,)`` after one more query of each, of ``cells, strata (accounts,)``."""
        self.n += 1
        everyone, depth = np.arange(self.accounts), self.part.cells.depth
        places: Ints = np.arange(depth)
        counted, won = np.divmod(cells, self.part.cells.base)
        bet = places < self.depths[strata][:, None]
        chance = np.where(bet, self._chances(strata, 2.0**places), 0.5)[:, :, None]
        flagged = self.wealth @ bettor_capital(depth) >= FLAGGED
        paid = np.where(flagged, PAID_THEREAFTER, MOST_PAID)[:, None, None]
        stakes = np.minimum(np.array(STAKES), (paid - 1) * chance / np.maximum(1 - chance, 1e-9))
        factors = 1 - stakes + stakes / chance * (places >= won[:, None])[:, :, None]
        factors = np.where(bet[:, :, None], factors, 1.0).reshape(self.accounts, -1)
        after = np.minimum(factors * (self.wealth + 1 / (self.n * (self.n + 1))) * DOWN, CAP)
        self.wealth = after.astype(np.float32).astype(np.float64)
        fresh = counted <= depth
        self.seen[everyone, strata] += fresh
        self.above[everyone, strata] += (places >= counted[:, None]) & bet & fresh[:, None]
        return np.asarray(self.wealth @ bettor_capital(depth))

    def _chances(self, strata: Ints, ranks: Array) -> Array:
        """`RankEProcess.chances` ``(accounts, J)``."""
        share = mistaken_shares(np.array(self.part.sizes), self.seen, strata)[:, None]
        found = self._chances_without(strata, ranks)
        return (1 - share) * found + share

    def _chances_without(self, strata: Ints, ranks: Array) -> Array:
        """The same while the model mistakes no class for another."""
        limits = self.limits[strata]
        if self.part.contamination:
            return np.asarray((1 - self.part.contamination) * limits + self.part.contamination)
        everyone = np.arange(self.accounts)
        rows = np.array(self.part.sizes)[strata][:, None] + 1
        urn = (ranks + self.above[everyone, strata]) / (rows + self.seen[everyone, strata][:, None])
        return np.asarray(np.minimum(np.maximum(urn, ranks / rows), limits))


def mistaken_shares(sizes: Ints, seen: Array, strata: Ints) -> Array:
    """`mistaken_share` ``(accounts,)`` of the next inputs, which are of ``strata (accounts,)``."""
    everyone = np.arange(len(strata))
    own, rows = seen[everyone, strata][:, None] + 1, sizes[strata][:, None]
    usual = own * sizes / np.maximum(rows, 1)
    beyond = np.maximum(0, seen - usual - 2 * np.sqrt(usual))
    beyond[everyone, strata] = 0
    share = np.minimum(MOST_MISTAKEN, MISTAKEN * beyond.sum(axis=1) / own[:, 0])
    return np.where(rows[:, 0] > 0, share, 0.0)
