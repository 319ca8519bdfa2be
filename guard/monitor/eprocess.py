"""A bet on conformal p-values: wealth that benign queries can hardly ever make large, whenever one looks.

A bettor with stake w on "p <= tau" multiplies its wealth by (1 - w) + w 1[p <= tau] / tau per query. While
P(p <= tau) <= tau that factor has mean <= 1, so wealth is a supermartingale, an average over bettors (w, tau) is
one too, and by Ville's inequality P(sup wealth >= 1 / alpha) <= alpha, whatever the number of queries and
whenever one looks. Given p-values that are valid with probability 1 - delta over the calibration draw, the
bound held is alpha + delta. `Combined` looks, at several such wealths together.

With `contamination` eps a share eps of an account's queries may be anything (Huber 1965): then P(p <= tau) <=
(1 - eps) tau + eps, and the bet is made, and paid, at that level.

Late onset. An account that behaves for long and then turns bad would by then have lost the bettors' stakes. So each
bettor spreads its capital over starting times: the part w_t = 1 / (t (t + 1)) is first bet at query t; these sum to 1.
With b_t the factor of query t, what has been bet by query n is worth

    M_n = sum_{t <= n} w_t b_t b_{t+1} ... b_n = b_n (M_{n-1} + w_n),

one number per bettor. Each part is a supermartingale, constant until it starts, so M_n + sum_{t > n} w_t is one that
starts at 1; M_n is below it, and Ville's bound is the same. An onset at query t costs log(t (t + 1)) of log wealth, one
at the start log 2. It is the Shiryaev-Roberts recursion, of CUSUM's kind, with weights that bound *ever* alarming.
Logs are rounded down, which only lowers wealth.

Reference: Ville 1939; Shafer, "Testing by betting", JRSS-A 2021; Waudby-Smith and Ramdas, JRSS-B 2024, sec. 4;
Shin, Ramdas, Rinaldo, "E-detectors", NEJSDS 2024, for sums over starting times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

STAKES = (0.03, 0.1, 0.3)
DECIMALS = 6  # of a log wealth


def late_logs(logs: list[float], n: int, factors: list[float]) -> list[float]:
    """Per bettor log M_n from log M_{n-1} (`logs`, empty before the first bet) and the log of the factor of query `n`.

    A query that was not bet on may be left out: its part of the capital is then never bet.
    """
    start = -math.log(n * (n + 1))
    after = [
        factor + max(log, start) + math.log1p(math.exp(-abs(log - start)))
        for factor, log in zip(factors, logs or [-math.inf] * len(factors), strict=True)
    ]
    return [math.floor(log * 10**DECIMALS) / 10**DECIMALS for log in after]


def log_mean(logs: list[float]) -> float:
    """Log of the mean of what `logs` are the logs of."""
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))


@dataclass(frozen=True, slots=True, kw_only=True)
class EProcess:
    """A part of `Combined` that bets on p-values on the grid `levels`; `calibration` names where they come from.

    Its state is the log wealth of each bettor, empty before the first query. A p-value of 1 is unremarkable; that, too,
    is bet on, for what is left without the unremarkable would be strange too often.
    """

    name: str
    levels: tuple[float, ...]
    calibration: str = ""
    contamination: float = 0.0

    def start(self) -> list[float]:
        """Nothing was bet."""
        return []

    def step(self, state: list[float], n: int, value: float) -> list[float]:
        """Bet on the p-value `value` of query number `n`."""
        factors = []
        for level in self.levels:
            pays = 1 / ((1 - self.contamination) * level + self.contamination) if value <= level else 0.0
            factors += [math.log(1 - stake + stake * pays) for stake in STAKES]
        return late_logs(state, n, factors)

    def log_e(self, state: list[float]) -> float:
        """Log wealth of the bettors together."""
        return log_mean(state) if state else 0.0

    def knows(self, value: float) -> bool:
        """Whether `value` is on the grid, or 1."""
        return value in (*self.levels, 1.0)
