"""A bet on conformal p-values: wealth that benign queries can hardly ever make large, whenever one looks.

A bettor with stake w, of which the share v_j is on "p <= tau_j", multiplies its wealth per query by

    (1 - w) + w sum_j v_j 1[p <= tau_j] / tau_j,   sum_j v_j = 1.

While P(p <= tau_j) <= tau_j for all j that factor has mean <= 1, so wealth is a supermartingale, so is an average over
bettors, and by Ville's inequality P(sup wealth >= 1 / alpha) <= alpha, whatever the number of queries and whenever one
looks. Some bettors lean to the smallest levels (inputs from elsewhere are far out), some to the largest (a slight push
moves many inputs a little). Given p-values that are valid with probability 1 - delta over the calibration draw, the
bound held is alpha + delta. `Combined` looks, at several such wealths together.

Drift. With `contamination` eps a share eps of an account's queries may be anything (Huber 1965), and with `ratio` k any
kind of input may be k times as frequent as in the calibration data. Then P(p <= tau) <= (1 - eps) k tau + eps, and the
bet is made, and paid, at that level.

Rare classes. In a stratum (`guard.statistics.strata`) where the event p <= tau_j may be as likely as l_j > tau_j, a
bettor stakes l_j / tau_j times as much on it for the same pay-off,

    1 - w sum_j v_j max(1, l_j / tau_j) + w sum_j v_j 1[p <= tau_j] / tau_j,

with a smaller w where the stakes would come to more than `_WHOLE`. That is nowhere more than the factor above, so every
bound stands, and its mean is at most 1 given the stratum too: a clinic of that class earns nothing by being one.

Late onset. An account that behaves for long and then turns bad would by then have lost the bettors' stakes. So each
bettor spreads its capital over starting times: the part w_t = 1 / (t (t + 1)) is first bet at query t; these sum to 1.
With b_t the factor of query t, what has been bet by query n is worth

    M_n = sum_{t <= n} w_t b_t b_{t+1} ... b_n = b_n (M_{n-1} + w_n),

one number per bettor. Each part is a supermartingale, constant until it starts, so M_n + sum_{t > n} w_t is one that
starts at 1; M_n is below it, and Ville's bound is the same. An onset at query t costs log(t (t + 1)) of log wealth, one
at the start log 2. It is the Shiryaev-Roberts recursion, of CUSUM's kind, with weights that bound *ever* alarming.
Wealth is capped and rounded down, which only lowers it.

Reference: Ville 1939; Shafer, "Testing by betting", JRSS-A 2021; Waudby-Smith and Ramdas, JRSS-B 2024, sec. 4;
Shin, Ramdas, Rinaldo, "E-detectors", NEJSDS 2024, for sums over starting times.
"""

from __future__ import annotations

import math
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

BETTORS = ((0.5, 0.015), (0.5, 0.05), (0.5, 0.2), (2.0, 0.1), (2.0, 0.3))
"""Of each how its stake grows from one level to the next larger one, and the stake."""
_WHOLE = 0.9  # of a bettor's capital, staked on one query at most
CAP = 1e30  # of a wealth
DOWN = 1 - 2**-23  # so that rounding to 32 bits never rounds up


def drifted_level(level: float, contamination: float, ratio: float) -> float:
    """How likely an event may become that was no likelier than `level`."""
    return min(1.0, (1 - contamination) * ratio * level + contamination)


def late_start_wealth(wealth: Sequence[float], n: int, factors: Sequence[float]) -> list[float]:
    """Per bettor M_n from M_{n-1} (`wealth`, empty before the first bet) and the factor of query `n`.

    A query that was not bet on may be left out: its part of the capital is then never bet.
    """
    start = 1 / (n * (n + 1))
    before = wealth or [0.0] * len(factors)
    after = [factor * (each + start) * DOWN for factor, each in zip(factors, before, strict=True)]
    return after if max(after) < CAP else [min(each, CAP) for each in after]


def packed_wealth(wealth: Sequence[float]) -> str:
    """As a state keeps it: 32-bit floats in base64."""
    return b2a_base64(_layout(len(wealth)).pack(*wealth), newline=False).decode()


def unpacked_wealth(text: str) -> tuple[float, ...]:
    """What `packed_wealth` made a text of."""
    raw = a2b_base64(text)
    return _layout(len(raw) // 4).unpack(raw)


@lru_cache(256)
def _layout(bettors: int) -> struct.Struct:
    return struct.Struct(f"<{bettors}f")


def log_mean(text: str) -> float:
    """Log of the mean wealth of the bettors in a state; 0 where nothing was bet yet."""
    wealth = unpacked_wealth(text)
    return math.log(math.fsum(wealth) / len(wealth)) if wealth else 0.0


@lru_cache(1024)
def bettor_factors(
    value: float, levels: tuple[float, ...], contamination: float, ratio: float, within: tuple[float, ...] = ()
) -> tuple[float, ...]:
    """The factor of every bettor for a p-value of a stratum where levels are `within`, by default as they say."""
    bounds = [drifted_level(level, contamination, ratio) for level in levels]
    pays = [1 / bound if value <= level else 0.0 for level, bound in zip(levels, bounds, strict=True)]
    own = [drifted_level(level, contamination, 1.0) for level in within or levels]
    costs = [max(1.0, each / bound) for each, bound in zip(own, bounds, strict=True)]
    factors = []
    for lean, stake in BETTORS:
        parts = [lean**j for j in range(len(levels))]
        paid = sum(part * each for part, each in zip(parts, pays, strict=True)) / sum(parts)
        cost = sum(part * each for part, each in zip(parts, costs, strict=True)) / sum(parts)
        stake = min(stake, _WHOLE / cost)
        factors.append(1 - stake * cost + stake * paid)
    return tuple(factors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A p-value of `part` at or below `at`, or one of its `cells`: how likely calibration and policy allow it to be.

    Of cells `at` is the number of the event, and `label` its name.
    """

    part: str
    at: float
    level: float
    allowed: float
    cells: frozenset[float] | None = None
    label: str = ""

    def hits(self, values: Sequence[float]) -> int:
        """How many of `values` have it."""
        return sum(value <= self.at if self.cells is None else value in self.cells for value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class EProcess:
    """A part of `Combined` that bets on p-values on the grid `levels`; `calibration` names where they come from.

    `rare` are what the levels are within the strata 1, 2, ... Its state is the wealth of each bettor. A p-value of 1 is
    unremarkable; that, too, is bet on, for what is left without the unremarkable would be strange too often.
    """

    name: str
    levels: tuple[float, ...]
    rare: tuple[tuple[float, ...], ...] = ()
    calibration: str = ""
    contamination: float = 0.0
    ratio: float = 1.0
    conditional: bool = True

    def repeated(self, value: float) -> float:  # noqa: ARG002 (whatever it was)
        """The p-value of a repeat."""
        return 1.0

    def start(self) -> str:
        """Nothing was bet."""
        return ""

    def step(self, state: str, n: int, value: float, stratum: int = 0) -> str:
        """Bet on the p-value `value` of query number `n`, an input of `stratum`."""
        return packed_wealth(late_start_wealth(unpacked_wealth(state), n, self.factors(value, stratum)))

    def factors(self, value: float, stratum: int) -> tuple[float, ...]:
        """What a p-value makes of each bettor's wealth."""
        within = self.rare[stratum - 1] if stratum and self.rare else ()
        return bettor_factors(value, self.levels, self.contamination, self.ratio, within)

    def log_e(self, state: str) -> float:
        """Log wealth of the bettors together."""
        return log_mean(state)

    def knows(self, value: float) -> bool:
        """Whether `value` is on the grid, or 1."""
        return value in (*self.levels, 1.0)

    def events(self) -> tuple[Event, ...]:
        """A p-value at or below each level, in whatever stratum it is likeliest."""
        found = []
        for level, *within in zip(self.levels, *self.rare, strict=True):
            own = (drifted_level(each, self.contamination, 1.0) for each in (level, *within))
            allowed = max(drifted_level(level, self.contamination, self.ratio), *own)
            found.append(Event(part=self.name, at=level, level=level, allowed=allowed))
        return tuple(found)
