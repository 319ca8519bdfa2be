"""Rank e-process: a bet that an account's inputs outrank the calibration rows, paid by the account's own past too.

Let S_1, ..., S_n be the scores of the calibration rows of one stratum and T_1, T_2, ... those of an account's inputs
of that stratum. While all of them are exchangeable (i.i.d. benign rows are), the next T is equally likely to take any
place among those before it. So with t_m the m-th largest of S_1, ..., S_n, of which A of the account's N inputs so far
were above,

    P(T_{N+1} > t_m | how many of T_1, ..., T_N were above each of t_1, t_2, ...) = (m + A) / (n + 1 + N):

the calibration rows and the account's past are one urn (Polya's). With probability 1 - delta_m over the calibration
rows that chance is at most b_m too, the tolerance limit of the m-th largest of n (Wilks), and then the average of the
chance over what the past leaves possible is at most min(urn, b_m): to know that it is below b_m only lowers it. A
bettor with stake w on "above t_m" multiplies its wealth per query by 1 - w + w 1[T > t_m] / p_m, which has mean at most
1 given the account's ranks, strata included, whatever these are chosen by. So does an average over bettors and starting
times (`guard.statistics.eprocess`), and by Ville's inequality

    P(an account of benign exchangeable inputs ever reaches wealth 1 / alpha) <= alpha + delta,

over the draw of the calibration rows and of the account's inputs together, where the delta_m of all strata sum to
delta. The urn needs no delta and tests exactly with ten rows as with ten thousand; the limits are what an account's
past cannot argue away: without them a thief who makes a tenth of all queries would teach its account that such are
usual. What this is not: a bound given the calibration rows. A share x of all accounts of one draw reaches the wealth in
at most (alpha + delta) / x of draws. Nor is wealth a supermartingale given the calibration rows, so it may not be
averaged with one that is (`guard.statistics.combined_eprocess` takes the larger).

Ties and drift: an input wins the bet where its score less what is forgiven is above t_m, and is counted where its score
is not below it. While drift made it no less strange and at most so much stranger, it wins no more often and is counted
no less often than without, so what is paid is no more.
A quiet past earns no distrust: the chance is taken to be no less than m / (n + 1), what it was before the account asked
anything. An account that begins with the less strange half of what is ordinary, a screening programme say, would else
pay for the other half as a thief does. More than the urn says is valid too.
An input that repeats one before wins nothing and is not counted: else one strange image sent a thousand times would
teach an account that such images are usual.

With `contamination` eps a share eps of an account's queries may be anything (Huber 1965). Ranks of the past then say
nothing, and the bet is made at (1 - eps) b_m + eps.

Rows of another class that the model takes for a stratum's are strange there though they are benign, and a specialist
has more of them than the calibration rows: its account asks about another stratum more often than they do. To each
input of another stratum beyond what is usual `MISTAKEN` may be such mistakes, so that share of the next inputs, at most
`MOST_MISTAKEN`, may be anything, and the chance is raised by it. Who fills an account with one class to hide elsewhere
is noticed later; a tenth of its queries behind a class of few rows is hardly ever noticed. The share is a function of
the past, and more than the chance is valid too.

One input multiplies wealth by at most `MOST_PAID`, however strange, and from `FLAGGED` on by `PAID_THEREAFTER`, so that
a few strange inputs, test phantoms say, do not bring an account to the strictest rung. Stakes are lowered to that where
p is small, which hardly delays a diluted thief: what it loses between its hits shrinks as well.

Reference: Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", 2nd ed. 2022, ch. 8 (conformal test
martingales), and its Mondrian taxonomy for strata; Polya's urn for the ranks; Wilks 1941 for the limits; Ville 1939.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import mul
from typing import TypedDict

import numpy as np

from medward.guard.statistics.binomial import log_tail
from medward.guard.statistics.conformal import split_risk
from medward.guard.statistics.eprocess import (
    Event,
    drifted_level,
    late_start_wealth,
    packed_wealth,
    unpacked_wealth,
)
from medward.guard.types import Array

STAKES = (0.02, 0.08, 0.3)
MOST_PAID = 7.5
FLAGGED = 1000.0  # of wealth: from here on an account is flagged at a false alarm of 0.001
PAID_THEREAFTER = 3.0
MISTAKEN = 0.25  # rows of a class that the model takes for another class, to one that it takes for its own
MOST_MISTAKEN = 0.5
DEEPEST = 0.25  # of the calibration rows of a stratum: the largest share that is bet on
_BISECTIONS = 50
_NEVER = 1e-9  # so that a chance of 1 divides
_LEAN = 0.5  # of the capital on each rank to that on the next stricter one


class RankState(TypedDict):
    """One account: wealth per bettor, and by stratum its inputs and how many of them were above each rank."""

    wealth: str
    counts: dict[str, list[int]]


def ranks_within(n: int) -> tuple[int, ...]:
    """The ranks 1, 2, 4, ... that are bet on among `n` calibration rows, the strictest first; at least the first."""
    most = max(1, int(DEEPEST * n))
    return tuple(2**power for power in range(most.bit_length()))


def rank_cuts(scores: Array) -> tuple[float, ...]:
    """The score at each of `ranks_within`, of ``scores (n,)``, ascending; an infinite one where there are no scores."""
    if not len(scores):
        return (math.inf,)
    return tuple(np.sort(scores)[::-1][np.array(ranks_within(len(scores)))[::-1] - 1].tolist())


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

    def encode(self, score: float, cuts: Sequence[float], slack: float) -> int:
        """The cell of a score beside `rank_cuts`, of which drift may have made `slack`; NaN is as strange as can be."""
        own = math.inf if math.isnan(score) else score
        won, counted = bisect_left(cuts, own - slack), bisect_right(cuts, own)
        places = [len(cuts) - above if above else self.depth for above in (won, counted)]
        return places[1] * self.base + places[0]

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


def rank_limits(n: int, risk: float) -> tuple[float, ...]:
    """How likely an input is to be above each of `ranks_within` `n` rows at most, for all but `risk` of their draws."""
    ranks = ranks_within(n)
    return tuple(
        _tolerance_limit(n, rank, part) for rank, part in zip(ranks, split_risk(risk, len(ranks)), strict=True)
    )


@lru_cache(1024)
def _tolerance_limit(n: int, rank: int, risk: float) -> float:
    """The p with P(Bin(n, p) < rank) = `risk`, rounded up; 1 where there are fewer rows than `rank`."""
    if n < rank:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        fewer = log_tail(n - rank + 1, n, 1 - middle)
        low, high = (middle, high) if fewer > math.log(risk) else (low, middle)
    return high


def mistaken_share(sizes: Sequence[int], seen: Sequence[int], stratum: int) -> float:
    """The share of an account's inputs of `stratum` that other classes may have by the model's mistakes.

    It follows from the calibration rows and the account's inputs of each stratum, ``sizes, seen (S,)``; 0 while the
    account asks about no other stratum much more often than the calibration rows do (by two standard deviations).
    """
    own, rows = seen[stratum] + 1, sizes[stratum]
    if not rows:
        return 0.0
    beyond = 0.0
    for other, (size, asked) in enumerate(zip(sizes, seen, strict=True)):
        usual = own * size / rows
        if other != stratum and asked > usual:
            beyond += max(0.0, asked - usual - 2 * math.sqrt(usual))
    return min(MOST_MISTAKEN, MISTAKEN * beyond / own)


def rank_factors(chances: Sequence[float], won: int, paid: float = MOST_PAID) -> list[float]:
    """What each bettor's wealth is multiplied by ``(J B,)``, at ``chances (J,)``: from place `won` on ranks are won.

    It is at most `paid`.
    """
    mosts = [(paid - 1) * chance / (never if (never := 1 - chance) > _NEVER else _NEVER) for chance in chances]
    factors = [1 - (stake if stake < most else most) for most in mosts for stake in STAKES]
    for place in range(won, len(chances)):
        most, pay = mosts[place], 1 / chances[place]
        for i, stake in enumerate(STAKES, place * len(STAKES)):
            factors[i] += (stake if stake < most else most) * pay
    return factors


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEProcess:
    """A part of `CombinedEProcess` that bets on ranks among the calibration rows of an input's stratum, of `sizes`.

    `risk` is delta, which strata share by their sizes. `calibration` names the calibration rows.
    """

    name: str
    sizes: tuple[int, ...]
    risk: float
    calibration: str = ""
    contamination: float = 0.0
    conditional: bool = False
    cells: RankCells = field(init=False)
    """How inputs are numbered: the largest stratum has the most ranks."""
    ranks: tuple[tuple[int, ...], ...] = field(init=False)
    """Those bet on in each stratum."""
    limits: tuple[tuple[float, ...], ...] = field(init=False)
    """How likely each rank of each stratum is at most."""

    def __post_init__(self) -> None:
        whole = max(sum(self.sizes), 1)
        limits = tuple(rank_limits(size, self.risk * max(size, 1) / whole) for size in self.sizes)
        object.__setattr__(self, "limits", limits)
        object.__setattr__(self, "ranks", tuple(map(ranks_within, self.sizes)))
        object.__setattr__(self, "cells", RankCells(max(map(len, self.ranks))))

    def chances(self, stratum: int, counts: Mapping[str, Sequence[int]]) -> list[float]:
        """How likely the next input, of `stratum`, is above each rank ``(J,)`` after the `counts` of a state."""
        limits = self.limits[stratum]
        if self.contamination:
            found = [drifted_level(limit, self.contamination, 1.0) for limit in limits]
        else:
            rows, (seen, *above) = self.sizes[stratum] + 1, self._counted(counts, stratum)
            urn = zip(self.ranks[stratum], above, limits, strict=True)
            found = [min(max((rank + each) / (rows + seen), rank / rows), limit) for rank, each, limit in urn]
        if len(self.sizes) > 1:
            asked = [counts[key][0] if (key := str(each)) in counts else 0 for each in range(len(self.sizes))]
            if share := mistaken_share(self.sizes, asked, stratum):
                return [drifted_level(chance, share, 1.0) for chance in found]
        return found

    def _counted(self, counts: Mapping[str, Sequence[int]], stratum: int) -> Sequence[int]:
        """The inputs of `stratum`, and how many of them were above each rank ``(1 + J,)``."""
        return counts.get(str(stratum)) or [0] * (1 + len(self.ranks[stratum]))

    def start(self) -> RankState:
        """An account that has asked nothing."""
        return RankState(wealth="", counts={})

    def step(self, state: RankState, n: int, value: float, stratum: int = 0) -> RankState:
        """Bet on query number `n`, an input of `stratum` and cell `value`, then count it."""
        counts, depth, before = state["counts"], self.cells.depth, unpacked_wealth(state["wealth"])
        won, counted = self.cells.decode(int(value))
        flagged = sum(map(mul, before, bettor_capital(depth))) >= FLAGGED
        factors = rank_factors(self.chances(stratum, counts), won, PAID_THEREAFTER if flagged else MOST_PAID)
        factors += [1.0] * (depth * len(STAKES) - len(factors))
        wealth = late_start_wealth(before, n, factors)
        if counted <= depth:
            seen, *above = self._counted(counts, stratum)
            now = [seen + 1, *(each + (place >= counted) for place, each in enumerate(above))]
            counts = {**counts, str(stratum): now}
        return RankState(wealth=packed_wealth(wealth), counts=counts)

    def log_e(self, state: RankState) -> float:
        """Log wealth of the bettors together."""
        if not state["wealth"]:
            return 0.0
        return math.log(sum(map(mul, unpacked_wealth(state["wealth"]), bettor_capital(self.cells.depth))))

    def repeated(self, value: float) -> float:  # noqa: ARG002 (whatever it was)
        """The cell of a repeat."""
        return float(self.cells.repeat)

    def knows(self, value: float) -> bool:
        """Whether `value` is a cell."""
        return self.cells.knows(value)

    def events(self) -> tuple[Event, ...]:
        """An input above each rank of its stratum, in whatever stratum that may be likeliest."""
        return _rank_events(self.name, self.cells, self.limits, self.contamination)


@lru_cache(64)
def bettor_capital(depth: int) -> tuple[float, ...]:
    """The capital of every bettor ``(J B,)``, which sums to 1."""
    whole = sum(_LEAN**place for place in range(depth))
    return tuple(_LEAN**place / (whole * len(STAKES)) for place in range(depth) for _ in STAKES)


@lru_cache(64)
def _rank_events(
    name: str, cells: RankCells, limits: tuple[tuple[float, ...], ...], contamination: float
) -> tuple[Event, ...]:
    found = []
    for place in range(cells.depth):
        level = max(each[place] for each in limits if place < len(each))
        winning = frozenset(float(counted * cells.base + won) for won in range(place + 1) for counted in range(won + 1))
        found.append(
            Event(
                part=name,
                at=float(place),
                level=level,
                allowed=drifted_level(level, contamination, 1.0),
                cells=winning,
                label=f"above rank {2**place}",
            )
        )
    return tuple(found)
