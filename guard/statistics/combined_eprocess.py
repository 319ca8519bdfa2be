"""The monitors of one account as one test: the weighted mean of their e-processes, with one alpha for all of them.

Guarantee. Let E_1, ..., E_k be wealths that each start at 1 and are supermartingales of the same history (the
calibration rows and the account's queries so far), each while its own calibration event A_i holds, P(A_i) >= 1 -
delta_i. With weights w_i >= 0 that sum to 1 the mean M = sum_i w_i E_i starts at 1 and is one too while all A_i hold,
however the parts depend on one another, for the mean of sums is the sum of means. By Ville's inequality

    P(an account of benign i.i.d. queries ever reaches the rung alpha) <= alpha + delta_1 + ... + delta_k.

A part whose wealth is a supermartingale of its own history alone, and not given the calibration rows
(`guard.statistics.rank_eprocess`), may not be in that mean. It is tested by itself at w_i alpha, the others together at
(1 - sum of such w_i) alpha, which is to say that the largest of w_i E_i and of the others' sum is what reaches 1 /
alpha; the bound is the sum of all, the same. A part that judges a query not at all (it failed) keeps its wealth; it
must not choose to for what the query is.

Evidence: `share:i` = w_i E_i over the sum of all says which parts the wealth is of. The alarm is sticky: it reads the
largest M ever reached. When the calibration of any part changes, all begin anew, for a wealth that jumps to 1 alone
would be a jump of M; only the peak stays. Every calibration so begins a new test with the same bound, and none of them
clears an alarm.

Reference: Vovk and Wang, "E-values: calibration, combination and applications", Annals of Statistics 49(3), 2021,
sec. 3 (the mean is the best symmetric merging function); Ville 1939.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypedDict

from medward.guard.statistics.eprocess import Event
from medward.guard.statistics.strata import STRATUM
from medward.guard.types import Action, Verdict

Rungs = tuple[tuple[float, Action], ...]


class Observation(NamedTuple):
    """What a monitor learns of one input, by part: a conformal p-value or a cell; nothing where the part failed."""

    values: Mapping[str, float]


class Part(Protocol):
    """One e-process: a state, what one more query makes of it, and the log of what its wealth has become."""

    @property
    def name(self) -> str:
        """Unique among the parts, and the key of its value in an `Observation`."""
        ...

    @property
    def conditional(self) -> bool:
        """Whether its wealth is a supermartingale given the calibration rows too."""
        ...

    def repeated(self, value: float) -> float:
        """The value that stands for an input that would have `value` and repeats one before."""
        ...

    @property
    def calibration(self) -> str:
        """Names whatever its wealth rests on."""
        ...

    def start(self) -> Any:
        """The state before the first query; JSON."""
        ...

    def step(self, state: Any, n: int, value: float, stratum: int = ...) -> Any:
        """The state after query number `n`, counted from 1, in which the part saw `value` of `stratum`."""
        ...

    def log_e(self, state: Any) -> float:
        """Log wealth; 0 at the start."""
        ...

    def knows(self, value: float) -> bool:
        """Whether it is ever given `value`."""
        ...

    def events(self) -> tuple[Event, ...]:
        """What it bets on, and how likely each is for benign inputs."""
        ...


class CombinedState(TypedDict):
    """One account: its calibration, queries so far, the largest log wealth, the state of each part by name."""

    calibration: str
    n: int
    peak: float
    parts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinedEProcess:
    """The monitor. `ladder` holds (alpha, action), mild to strict; `weights` sum to 1, one for each of `parts`.

    Where there are several `strata`, an observation says which its input is of.
    """

    parts: tuple[Part, ...]
    weights: tuple[float, ...]
    ladder: Rungs
    strata: int = 1
    name: str = "e-process"
    calibration: str = field(init=False)
    """Names the calibration of all parts."""
    _weighted: tuple[tuple[Part, str, float], ...] = field(init=False, repr=False)
    """The parts, the names of their shares in the evidence, the logs of their weights."""
    _limits: tuple[tuple[float, Action], ...] = field(init=False, repr=False)
    """The ladder by log wealth."""

    def __post_init__(self) -> None:
        weighted = list(zip(self.parts, self.weights, strict=True))
        names = repr([(part.name, part.calibration, weight) for part, weight in weighted])
        object.__setattr__(self, "calibration", hashlib.blake2b(names.encode(), digest_size=6).hexdigest())
        plan = tuple((part, f"share:{part.name}", math.log(weight)) for part, weight in weighted)
        object.__setattr__(self, "_weighted", plan)
        object.__setattr__(self, "_limits", tuple((-math.log(alpha), action) for alpha, action in self.ladder))

    def start(self) -> CombinedState:
        """An account that has asked nothing."""
        parts = {part.name: part.start() for part in self.parts}
        return CombinedState(calibration=self.calibration, n=0, peak=0.0, parts=parts)

    def resume(self, state: CombinedState | None) -> CombinedState:
        """`state` if it was kept under this calibration; else all starts anew and only an alarm stands."""
        if state is None:
            return self.start()
        same = state["calibration"] == self.calibration
        return state if same else CombinedState({**self.start(), "peak": state["peak"]})

    def step(self, state: CombinedState, observation: Observation) -> tuple[CombinedState, Verdict]:
        """Bet on one more query."""
        values, n, parts = observation.values, state["n"] + 1, dict(state["parts"])
        stratum = int(values.get(STRATUM, 0))
        for part in self.parts:
            name = part.name
            if name in values:
                parts[name] = part.step(parts[name], n, values[name], stratum)
        after = CombinedState(calibration=state["calibration"], n=n, peak=state["peak"], parts=parts)
        verdict = self.verdict(after)
        after["peak"] = verdict.evidence["peak"]
        return after, verdict

    def verdict(self, state: CombinedState) -> Verdict:
        """What the ladder asks for at this state."""
        log_e, shares = self._wealth(state)
        peak = max(state["peak"], log_e)
        evidence = {"log_e": log_e, "peak": peak, "n": float(state["n"]), **shares}
        return Verdict(part=self.name, action=self.action(peak), evidence=evidence)

    def action(self, peak: float) -> Action:
        """What the ladder asks for once the log wealth has been as large as `peak`."""
        return max([action for limit, action in self._limits if peak >= limit], default=Action.ALLOW)

    def _wealth(self, state: CombinedState) -> tuple[float, dict[str, float]]:
        """Log of the combined wealth, and the share of each part in it."""
        states = state["parts"]
        logs: dict[str, float] = {}
        alone: list[float] = []
        together: list[float] = []
        for part, share, weight in self._weighted:
            logs[share] = log = weight + part.log_e(states[part.name])
            (together if part.conditional else alone).append(log)
        total = _log_sum([*alone, *together])
        wealth = max([*alone, *([_log_sum(together)] if together else [])])
        return wealth, {share: math.exp(log - total) for share, log in logs.items()}


def _log_sum(logs: Sequence[float]) -> float:
    """Log of the sum of what `logs` are the logs of."""
    top = max(logs)
    return top + math.log(math.fsum([math.exp(log - top) for log in logs]))
