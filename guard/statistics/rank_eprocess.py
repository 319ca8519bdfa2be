"""Rank e-process: a bet that an account's inputs outrank the calibration rows, without a risk spent on these.

Let S_1, ..., S_n be the scores of the calibration rows of one stratum and T_1, T_2, ... those of an account's inputs
of that stratum. While all of them are exchangeable (i.i.d. benign rows are), the next T is equally likely to take any
place among those before it. So with t_m the m-th largest of S_1, ..., S_n, of which A of the account's N inputs so far
were above,

    P(T_{N+1} > t_m | how many of T_1, ..., T_N were above each of t_1, t_2, ...) = (m + A) / (n + 1 + N):

the calibration rows and the account's past are one urn (Polya's). A bettor with stake w on "above t_m" multiplies its
wealth per query by 1 - w + w 1[T > t_m] / p with p that chance: mean 1, so wealth is a martingale of the account's
ranks, its strata given, whatever these are chosen by. So is an average over bettors and starting times
(`guard.statistics.eprocess`), and by Ville's inequality

    P(an account of benign exchangeable inputs ever reaches wealth 1 / alpha) <= alpha,

over the draw of the calibration rows and of the account's inputs together. No part of the calibration risk is spent,
and ten rows give an exact test as ten thousand do. What it is not: a bound given the calibration rows. For one draw in
many the accounts of that draw reach the wealth together; a share x of accounts does in at most alpha / x of draws.
Wealth is no martingale given the calibration rows either, so it may not be averaged with one that is
(`guard.statistics.combined_eprocess` takes the larger).

An account is judged beside its own past too: what benign inputs do more often here than in the calibration data is
paid less and less. A thief's inputs count there as well; how soon a few of many show is measured.

Ties and drift: an input wins the bet where its score less what is forgiven is above t_m, and is counted where its score
plus that is not below it. With true scores between the two the payoff is at most the one above, so the bound stands.
An input that repeats one before wins nothing and is not counted: else one strange image sent a thousand times would
teach an account that such images are usual.

One input multiplies wealth by at most `MOST_PAID`, however strange: five strange inputs, test phantoms say, cannot
bring an account to the rung 1e-4, and a sixth can. Stakes are lowered to that where p is small, which hardly delays a
diluted thief: what it loses between its hits shrinks as well.

Reference: Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", 2nd ed. 2022, ch. 8 (conformal test
martingales), and its Mondrian taxonomy for strata; Polya's urn for the ranks; Ville 1939.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np

from medward.guard.statistics.binomial import log_tail
from medward.guard.statistics.eprocess import Event, late_start_wealth, packed_wealth, unpacked_wealth
from medward.guard.types import Array, Ints

STAKES = (0.02, 0.08, 0.3)
MOST_PAID = 7.5
DEEPEST = 0.25  # of the calibration rows of a stratum: the largest share that is bet on
LARGEST_CHANCE = 0.99
TAIL_RISK = 0.001  # of a draw in which benign inputs are above a rank more often than is told to who reads logs
_LEAN = 0.5  # of the capital on each rank to that on the next stricter one


class RankState(TypedDict):
    """One account: wealth per bettor, and by stratum its inputs and how many of them were above each rank."""

    wealth: str
    counts: dict[str, list[int]]


def ranks_within(n: int) -> tuple[int, ...]:
    """The ranks 1, 2, 4, ... that are bet on among `n` calibration rows, the strictest first; at least the first."""
    most = max(1, int(DEEPEST * n))
    return tuple(2**power for power in range(most.bit_length()))


def rank_cuts(scores: Array) -> Array:
    """The score at each of `ranks_within`, of ``scores (n,)``; an infinite one where there are no scores."""
    if not len(scores):
        return np.array([np.inf])
    return np.asarray(np.sort(scores)[::-1][np.array(ranks_within(len(scores))) - 1])


@dataclass(frozen=True, slots=True)
class RankCells:
    """Rank cells number what one input is to the bet: the strictest rank that it wins, and that it is counted above.

    Ranks are nested, so their strictest says which, by its place: 0 for rank 1, 1 for rank 2, 2 for rank 4, `depth` for
    none, and where a repeat is not counted `depth` + 1.
    """

    depth: int

    @property
    def base(self) -> int:
        """How many places there are."""
        return self.depth + 2

    def encode(self, scores: Array, cuts: Array, slack: float) -> Ints:
        """The cells ``(n,)`` of scores ``(n,)`` beside `rank_cuts`; NaN is as strange as can be."""
        own = np.nan_to_num(scores, nan=np.inf)[:, None]
        won, counted = (own - slack > cuts).sum(axis=1), (own + slack >= cuts).sum(axis=1)
        places = [np.where(above > 0, len(cuts) - above, self.depth) for above in (won, counted)]
        return np.asarray(places[1] * self.base + places[0])

    def decode(self, cell: int) -> tuple[int, int]:
        """The places won and counted."""
        counted, won = divmod(cell, self.base)
        return won, counted

    def knows(self, value: float) -> bool:
        """Whether `value` is a cell."""
        if value != int(value) or not 0 <= value < self.base**2:
            return False
        won, counted = self.decode(int(value))
        return counted <= won <= self.depth or value == self.repeat

    @property
    def repeat(self) -> int:
        """The cell of an input that repeats one before."""
        return (self.depth + 1) * self.base + self.depth


@lru_cache(4096)
def _stake_table(ranks: tuple[int, ...]) -> tuple[Array, Array]:
    """Ranks ``(J, 1)`` and stakes ``(1, B)`` as arrays."""
    return np.array(ranks, np.float64)[:, None], np.array(STAKES)[None, :]


def rank_factors(ranks: tuple[int, ...], n: int, seen: int, above: Sequence[int], won: int) -> Array:
    """What every bettor's wealth is multiplied by ``(J, B)``, of `n` rows and `seen` inputs, ``above (J,)`` the ranks.

    The ranks from place `won` on are won.
    """
    places, stakes = _stake_table(ranks)
    chance = np.minimum((places + np.array(above, np.float64)[:, None]) / (n + 1 + seen), LARGEST_CHANCE)
    stakes = np.minimum(stakes, (MOST_PAID - 1) * chance / (1 - chance))
    factors = 1 - stakes
    factors[won:] += (stakes / chance)[won:]
    return factors


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEProcess:
    """A part of `CombinedEProcess` that bets on ranks among the calibration rows of an input's stratum, of `sizes`.

    `calibration` names the calibration rows.
    """

    name: str
    sizes: tuple[int, ...]
    calibration: str = ""
    conditional: bool = False

    @property
    def cells(self) -> RankCells:
        """How inputs are numbered: the largest stratum has the most ranks."""
        return RankCells(len(ranks_within(max(self.sizes))))

    def start(self) -> RankState:
        """An account that has asked nothing."""
        return RankState(wealth="", counts={})

    def step(self, state: RankState, n: int, value: float, stratum: int = 0) -> RankState:
        """Bet on query number `n`, an input of `stratum` and cell `value`, then count it."""
        cells, ranks, key = self.cells, ranks_within(self.sizes[stratum]), str(stratum)
        won, counted = cells.decode(int(value))
        seen, *above = state["counts"].get(key) or [0] * (1 + len(ranks))
        factors = np.ones((cells.depth, len(STAKES)))
        factors[: len(ranks)] = rank_factors(ranks, self.sizes[stratum], seen, above, won)
        wealth = late_start_wealth(unpacked_wealth(state["wealth"]), n, factors.ravel().tolist())
        counts = state["counts"]
        if counted <= cells.depth:
            counts = {**counts, key: [seen + 1, *(each + (place >= counted) for place, each in enumerate(above))]}
        return RankState(wealth=packed_wealth(wealth), counts=counts)

    def log_e(self, state: RankState) -> float:
        """Log wealth of the bettors together."""
        if not state["wealth"]:
            return 0.0
        return math.log(float(np.array(unpacked_wealth(state["wealth"])) @ bettor_capital(self.cells.depth)))

    def repeated(self, value: float) -> float:  # noqa: ARG002 (whatever it was)
        """The cell of a repeat."""
        return float(self.cells.repeat)

    def knows(self, value: float) -> bool:
        """Whether `value` is a cell."""
        return self.cells.knows(value)

    def events(self) -> tuple[Event, ...]:
        """An input above each rank of its stratum, in whatever stratum that may be likeliest."""
        return _rank_events(self.name, self.sizes)


@lru_cache(64)
def bettor_capital(depth: int) -> Array:
    """The capital of every bettor ``(J B,)``, which sums to 1."""
    lean = _LEAN ** np.arange(depth)
    return np.asarray(np.repeat(lean / (lean.sum() * len(STAKES)), len(STAKES)))


def highest_chance(n: int, rank: int, risk: float = TAIL_RISK) -> float:
    """How likely an input may be above the score at `rank` of `n` calibration rows, but for a share `risk` of draws."""
    low, high = rank / (n + 1), 1.0
    for _ in range(40):
        middle = (low + high) / 2
        below = math.log1p(-math.exp(min(log_tail(rank, n, middle), -1e-15)))
        low, high = (middle, high) if below > math.log(risk) else (low, middle)
    return high


@lru_cache(64)
def _rank_events(name: str, sizes: tuple[int, ...]) -> tuple[Event, ...]:
    base = (depth := len(ranks_within(max(sizes)))) + 2
    found = []
    for place in range(depth):
        level = max(highest_chance(n, 2**place) for n in sizes if n and 2**place in ranks_within(n))
        winning = frozenset(float(counted * base + won) for won in range(place + 1) for counted in range(won + 1))
        label = f"above rank {2**place}"
        found.append(Event(part=name, at=float(place), level=level, allowed=level, cells=winning, label=label))
    return tuple(found)
