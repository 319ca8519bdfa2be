"""An anytime-valid e-process on conformal p-values: the chance of *ever* alarming on a benign account is bounded.

A bettor with stake w on "p <= tau" multiplies its wealth by (1 - w) + w 1[p <= tau] / tau per query. While
P(p <= tau) <= tau that factor has mean <= 1, so wealth is a supermartingale, an average over bettors (w, tau) is
one too, and by Ville's inequality P(sup wealth >= 1 / alpha) <= alpha, whatever the number of queries and
whenever one looks. Given p-values that are valid with probability 1 - delta over the calibration draw, the
bound held is alpha + delta.

The wealth depends on the past only through how many p-values fell at or below each tau, so the state is a
handful of integers. An exact repeat of one of the last `MEMORY` inputs counts as unremarkable (p = 1): a client that
retries one odd image is not a thief. Larger p-values only lower the wealth, so the bound stands; leaving repeats out
altogether would not do, for what is left would be strange too often.

Late onset. An account that behaves for long and then turns bad has by then lost the bettors' stakes. With `late`, each
bettor spreads its capital over starting times: the part w_t = 1 / (t (t + 1)) is first bet at query t; these sum to 1.
With b_t the factor of query t, what has been bet by query n is worth

    M_n = sum_{t <= n} w_t b_t b_{t+1} ... b_n = b_n (M_{n-1} + w_n),

one number per bettor. Each part is a supermartingale, constant until it starts, so M_n + sum_{t > n} w_t is one that
starts at 1; M_n is below it, and Ville's bound is the same. An onset at query t costs log(t (t + 1)) of log wealth, one
at the start log 2. It is the Shiryaev-Roberts recursion, of CUSUM's kind, with weights that bound *ever* alarming.

Reference: Ville 1939; Shafer, "Testing by betting", JRSS-A 2021; Waudby-Smith and Ramdas, JRSS-B 2024, sec. 4;
Shin, Ramdas, Rinaldo, "E-detectors", NEJSDS 2024, for sums over starting times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from guard.types import Action, Observation, Verdict

STAKES = (0.01, 0.05, 0.2, 0.5)
MEMORY = 16


class EState(TypedDict):
    """One account: its calibration, queries bet on, hits per level, the largest log wealth, recent digests.

    `logs` is there when bettors start late: the log of what each has made of the parts it has bet.
    """

    calibration: str
    n: int
    hits: list[int]
    peak: float
    recent: list[str]
    logs: NotRequired[list[float]]


def log_wealth(n: int, hits: list[int], levels: tuple[float, ...], stakes: tuple[float, ...] = STAKES) -> float:
    """Log of the average wealth over all bettors after `n` queries with ``hits[j]`` p-values <= ``levels[j]``."""
    logs = [
        (n - hit) * math.log1p(-stake) + hit * math.log(1 - stake + stake / level)
        for level, hit in zip(levels, hits, strict=True)
        for stake in stakes
    ]
    return log_mean(logs)


def late_logs(logs: list[float], n: int, p_value: float, levels: tuple[float, ...]) -> list[float]:
    """Per bettor log M_n from log M_{n-1} (`logs`, empty before query 1) and the p-value of query `n`."""
    start = -math.log(n * (n + 1))
    factors = [
        math.log(1 - stake + stake / level) if p_value <= level else math.log1p(-stake)
        for level in levels
        for stake in STAKES
    ]
    return [
        factor + max(log, start) + math.log1p(math.exp(-abs(log - start)))
        for factor, log in zip(factors, logs or [-math.inf] * len(factors), strict=True)
    ]


def log_mean(logs: list[float]) -> float:
    """Log of the mean of what `logs` are the logs of."""
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))


@dataclass(frozen=True, slots=True)
class EProcess:
    """The monitor. `ladder` holds (alpha, action), mild to strict; `levels` is the p-value grid; `calibration` names
    the thresholds behind the p-values; with `late` the bettors' starting times are spread.

    Guarantee: for each rung, P(an account of benign i.i.d. queries ever reaches it) <= alpha + delta, delta being
    the calibration risk of the p-values.
    """

    levels: tuple[float, ...]
    ladder: tuple[tuple[float, Action], ...]
    calibration: str = ""
    name: str = "e-process"
    late: bool = False

    def start(self) -> EState:
        """An account that has asked nothing."""
        state = EState(calibration=self.calibration, n=0, hits=[0] * len(self.levels), peak=0.0, recent=[])
        return EState({**state, "logs": []}) if self.late else state

    def resume(self, state: EState | None) -> EState:
        """`state` if it was kept under this calibration; else counts start anew and only an alarm stands.

        Every calibration so begins a new test with the same bound, and none of them can clear an alarm.
        """
        if state is None:
            return self.start()
        new = self.start()
        same = state["calibration"] == self.calibration and len(state["hits"]) == len(self.levels)
        return state if same and state.keys() == new.keys() else EState({**new, "peak": state["peak"]})

    def step(self, state: EState, observation: Observation) -> tuple[EState, Verdict]:
        """Bet on one more query. The alarm is sticky: it reads the largest wealth ever reached."""
        p_value = 1.0 if observation.digest in state["recent"] else observation.p_value
        n = state["n"] + 1
        hits = [hit + (p_value <= level) for hit, level in zip(state["hits"], self.levels, strict=True)]
        state = EState({**state, "n": n, "hits": hits, "recent": [*state["recent"], observation.digest][-MEMORY:]})
        if self.late:
            state["logs"] = late_logs(state["logs"], n, p_value, self.levels)
        state["peak"] = max(state["peak"], self._log_e(state))
        return state, self.verdict(state)

    def verdict(self, state: EState) -> Verdict:
        """What the ladder asks for at this state."""
        reached = [action for alpha, action in self.ladder if state["peak"] >= -math.log(alpha)]
        return Verdict(
            source=self.name,
            action=max(reached, default=Action.ALLOW),
            evidence={
                "log_e": self._log_e(state),
                "peak": state["peak"],
                "n": float(state["n"]),
            },
        )

    def _log_e(self, state: EState) -> float:
        if not state["n"]:
            return 0.0
        return log_mean(state["logs"]) if self.late else log_wealth(state["n"], state["hits"], self.levels)
