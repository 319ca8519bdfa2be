"""A perturbation shared by an account's requests, noticed by its direction: a universal attack is constant over them.

The mean of an account's residual vectors (`Residuals`) points along whatever its inputs share, the more clearly the
more there were. So the account's past gives a direction, and its next inputs are judged by how far they lie along it.

Guarantee. At queries 1, 2, 4, 8, ... the direction u is set anew to the mean so far and then kept for an epoch. If the
account's inputs are i.i.d. as the calibration rows and independent of them, then given its past, u is fixed and the
calibration scores <c_i, u> are i.i.d. draws of what the epoch's scores <x, u> are drawn from. So `Thresholds` hold in
epoch j with probability 1 - delta_j over the calibration draw, delta_j = 6 delta / (pi^2 (j + 1)^2), which sum to
delta. While they hold, every query has P(p <= tau | the past, the calibration rows) <= tau, which is all that
`EProcess` asks for: a bettor that stops at the first epoch whose thresholds fail is a supermartingale, and by Ville's
inequality P(an account is ever alarmed) <= alpha + delta. The probability is over the calibration draw and the
account's own queries; it is not a bound for all accounts of one calibration set at once.

The bound also holds for drift: where an input's vector is at most `SLACK` away from one that is i.i.d. as the
calibration rows, its score is at most `SLACK` higher (u has length 1), and a score must exceed its threshold by that
much. A new scanner that shifts every residual is so forgiven, up to `SLACK` benign standard deviations.

A near-duplicate of a recent input (a patient's series, a resent image) is judged by what its score gains over that
input's, or not at all when that one was judged along an older direction. Both only raise p-values, so the bound stands
for i.i.d. inputs, and a series counts about once. Of an attacker who sends each image first without and then with the
perturbation, the difference is the evidence.

Dilution is covered by the bettors of `EProcess`: stake w on p <= tau pays as if a share w of the inputs were attacked.

Reference: Bates et al. 2023, sec. 3, for the thresholds; Ville 1939. The epochs are ours.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypedDict

import numpy as np

from guard.screen.conformal import tolerance_rank
from guard.types import Array

SLACK = 1.5  # benign standard deviations along any one direction
MEMORY = 16  # recent inputs a near-duplicate is looked for among
STEPS = (1.0, 2.0, 4.0)  # the grid of p-values, in multiples of the smallest tail that calibration can bound
HORIZON = 16  # epochs, 2^16 queries, in which the smallest tail stays bounded; later the larger ones carry on
DECIMALS = 4  # of levels and scores

_rank = cache(tolerance_rank)


class SharedState(TypedDict):
    """One account: its calibration, queries so far, their mean vector, and of the epoch the direction and cuts.

    Vectors are little-endian floats in base64: the mean in 32 bits, the direction in 16. A cut is None where
    calibration bounds no such tail. `recent` holds content codes and scores, None from before this epoch.
    """

    calibration: str
    n: int
    mean: str
    direction: str
    cuts: list[float | None]
    recent: list[tuple[str, float | None]]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the monitor sees of one input: residual ``(k,)``, content code, and digest (see `Observation`)."""

    vector: Array
    code: str
    digest: str


def epoch_risk(risk: float, epoch: int) -> float:
    """The share of `risk` that epoch 0, 1, 2, ... spends; all of them sum to `risk`."""
    return risk * 6 / math.pi**2 / (epoch + 1) ** 2


def shared_levels(n: int, risk: float) -> tuple[float, ...]:
    """The p-value grid for `n` calibration rows at `risk`, ascending; 0.5 alone when nothing can be bounded."""
    smallest = -math.expm1(math.log(epoch_risk(risk, HORIZON) / len(STEPS)) / max(n, 1))
    rounded = math.ceil(smallest * 10**DECIMALS) / 10**DECIMALS
    return tuple(round(step * rounded, DECIMALS) for step in STEPS if step * rounded <= 0.5) or (0.5,)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPerturbation:
    """Turns an account's inputs into p-values for an `EProcess`; pure: state in, state out.

    ``reference (n, k)`` are the calibration rows' vectors, `risk` is delta, `radius` how many bits the codes of
    near-duplicates may differ in, `calibration` the name of all this in a state.
    """

    reference: Array
    risk: float
    radius: int = 0
    calibration: str = ""

    @property
    def levels(self) -> tuple[float, ...]:
        """The p-values below 1 that `judge` gives."""
        return shared_levels(len(self.reference), self.risk)

    def start(self) -> SharedState:
        """An account that has asked nothing."""
        mean = _packed(np.zeros(self.reference.shape[1]), "<f4")
        return SharedState(calibration=self.calibration, n=0, mean=mean, direction="", cuts=[], recent=[])

    def resume(self, state: SharedState | None) -> SharedState:
        """`state` if it was kept under this calibration, else a new one."""
        return state if state is not None and state["calibration"] == self.calibration else self.start()

    def judge(self, state: SharedState, sightings: Sequence[Sighting]) -> tuple[SharedState, list[float]]:
        """The state after `sightings`, in order, and a p-value for each: on the grid, or 1."""
        n, cuts, recent = state["n"], state["cuts"], list(state["recent"])
        mean, direction = _unpacked(state["mean"], "<f4"), _unpacked(state["direction"], "<f2")
        p_values = []
        for sighting in sightings:
            if n and n & (n - 1) == 0:
                direction = _direction(mean)
                cuts = self._cuts(direction, epoch=n.bit_length() - 1)
                recent = [(code, None) for code, _ in recent]
            score = round(float(sighting.vector @ direction), DECIMALS) if n else None
            p_values.append(self._p_value(score, sighting.code, cuts, recent))
            recent = [*recent, (sighting.code, score)][-MEMORY:]
            n += 1
            mean = mean + (sighting.vector - mean) / n
        state = SharedState(
            calibration=state["calibration"],
            n=n,
            mean=_packed(mean, "<f4"),
            direction=_packed(direction, "<f2"),
            cuts=cuts,
            recent=recent,
        )
        return state, p_values

    def _cuts(self, direction: Array, epoch: int) -> list[float | None]:
        """Per level the score that benign inputs exceed no more often: `Thresholds`, with its ranks remembered."""
        levels = self.levels
        ranks = [_rank(len(self.reference), tau, epoch_risk(self.risk, epoch) / len(levels)) for tau in levels]
        scores = np.sort(self.reference @ direction)[::-1]
        return [round(float(scores[rank - 1]), DECIMALS) if rank else None for rank in ranks]

    def _p_value(
        self, score: float | None, code: str, cuts: list[float | None], recent: list[tuple[str, float | None]]
    ) -> float:
        """The smallest level whose cut the score exceeds by more than `SLACK`, else 1."""
        if score is None:
            return 1.0
        if alike := [before for other, before in recent if self._alike(code, other)]:
            known = [before for before in alike if before is not None]
            if not known:
                return 1.0
            score -= max(0.0, *known)
        for level, cut in zip(self.levels, cuts, strict=True):
            if cut is not None and score > cut + SLACK:
                return level
        return 1.0

    def _alike(self, code: str, other: str) -> bool:
        return bool(code) and (int(code, 16) ^ int(other, 16)).bit_count() <= self.radius


def _direction(mean: Array) -> Array:
    """`mean` at length 1, rounded as a state keeps it; no longer than 1, for the slack rests on that."""
    length = float(np.linalg.norm(mean))
    unit = mean / length if length > 0 else np.zeros_like(mean)
    return (unit * (1 - 1e-3)).astype(np.float16).astype(np.float32)


def _packed(vector: Array, kind: str) -> str:
    return base64.b64encode(np.asarray(vector, kind).tobytes()).decode()


def _unpacked(text: str, kind: str) -> Array:
    return np.frombuffer(base64.b64decode(text), kind).astype(np.float32)
