"""A perturbation shared by an account's requests, noticed by its direction: a universal attack is constant over them.

Two means of an account's residual vectors (`Residuals`) point along what its inputs share. The mean of all of them
finds what a few of many inputs carry. A mean that forgets (half of it is from the last `HALF_LIFE` inputs), each vector
first turned to its side, finds what began late, and what comes with either sign: it is one step per input of the power
iteration for the direction of the largest second moment. The past gives both directions, and the next input is judged
by its score, the larger of how far it lies along the first and along the second, on either side.

Guarantee. At query n = 1, 2, ..., `EPOCH` and every multiple of it the directions are set anew and then kept. If the
account's inputs are i.i.d. as the calibration rows and independent of them, then given its past the score is a fixed
function, and the calibration rows' scores are i.i.d. draws of what the epoch's inputs score. So the cuts (`Thresholds`)
hold in epoch j with probability 1 - delta_j over the calibration draw, delta_j = delta H / ((j + H) (j + H + 1)), which
telescope to delta; a new epoch costs little, for a cut grows with log(1 / delta_j) alone. While they hold, every query
has P(p <= tau | the past, the calibration rows) <= tau, which is all that `EProcess` asks for: a bettor that stops at
the first epoch whose cuts fail is a supermartingale, and by Ville's inequality P(an account is ever alarmed)
<= alpha + delta. The probability is over the calibration draw and the account's own queries; it is not a bound for all
accounts of one calibration set at once.

In a rare class (`guard.statistics.strata`) a cut is no lower than what cuts off its level of the calibration rows of
that class, which raises p-values and nothing else. Where those are too few for the level it is no lower than the
largest of their scores, and the bet is made at the level that this cuts off (`level_within`): a class of few rows is no
place to hide in.

The bound also holds for drift: where an input's vector is at most `DRIFT_SLACK` away from one that is i.i.d. as the
calibration rows, its score is at most `DRIFT_SLACK` higher (directions are no longer than 1), and a score must exceed
its cut by that much. A new scanner that shifts every residual is so forgiven, up to `DRIFT_SLACK` benign standard
deviations.

A near-duplicate of a recent input (a patient's series, a resent image) is judged by its change since the first of its
chain where that scores less, and only the change is learnt. That only raises p-values, so the bound stands for i.i.d.
inputs, and a series counts about once. Of an attacker who sends an image clean and then fades the perturbation in,
however slowly, the change since the clean one is the evidence.

Markings. A side marker or a letter is on every image of a hospital too, but in one place, where a universal
perturbation covers the image. Vectors of images keep places (`guard.monitors.sketch`), so what stands out of a mean in
at most `MARKED_SHARE` of these is left out of its direction, with what lies around. A direction may be any function of
the past, so the guarantee does not rest on that. The price: a perturbation confined to so small a part of the image, a
patch, is not noticed here.

Dilution is covered by the bettors of `EProcess` (stake w on p <= tau pays as if a share w of the inputs were attacked),
a late onset by their starting times.

Reference: Bates et al. 2023, sec. 3, for the cuts; Ville 1939; Oja, "A simplified neuron model as a principal component
analyzer", J. Math. Biology 15, 1982, of which the turned mean is the form with a fixed rate. The epochs are ours.
"""

from __future__ import annotations

import math
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np

from medward.guard.statistics.binomial import tolerance_rank
from medward.guard.statistics.conformal import grid_for, level_within, raised_cut, split_risk
from medward.guard.types import Array, Ints

DRIFT_SLACK = 1.5  # benign standard deviations along any one direction
EPOCH = 16  # queries that directions are kept for
HALF_LIFE = 32  # queries
RECENT = 1 - 0.5 ** (1 / HALF_LIFE)  # the weight of the latest query
CHAINS = 6  # of near-duplicates that are known
CODES = 4  # a chain is known by
_STEPS = (1.0, 2.0, 4.0)  # the grid of p-values, in multiples of the smallest tail that calibration can bound
HORIZON = 1024  # epochs in which the smallest tail stays bounded; later the larger ones carry on
SCORE_DECIMALS = 4  # of scores
STANDS_OUT = 6.0  # medians of a mean's numbers: what is beyond is a marking
MARKED_SHARE = 0.1  # of the numbers that may be markings
AROUND = 1.5  # places: what lies so near a marking is left out with it
GRAIN = 0.5  # standard deviations, of a vector kept for its near-duplicates
SIDE = 45  # steps to either side of zero in a text
ZERO = 80  # its character

_rank = lru_cache(4096)(tolerance_rank)


Chain = tuple[list[str], str]


class SharedState(TypedDict):
    """One account: its calibration, queries so far, both means, the epoch's directions and cuts, the latest chains.

    ``means (2, k)`` are 16-bit floats in base64, ``directions (2, k)`` a character for each whole step. A cut is None
    where calibration bounds no such tail. A chain is the content codes of its latest inputs and the vector of its
    first, a character for each step of `GRAIN`. Vectors and codes tell of the inputs to whoever also has the bundle:
    keep this as private.
    """

    calibration: str
    n: int
    means: str
    directions: str
    cuts: list[float | None]
    chains: list[Chain]


@dataclass(frozen=True, slots=True)
class VectorSeen:
    """What the monitor sees of one input: residual ``(k,)`` and content code."""

    vector: Array
    code: str
    stratum: int = 0


def epoch_risk(risk: float, epoch: int) -> float:
    """The share of `risk` that epoch 0, 1, 2, ... spends; all of them sum to `risk`."""
    return risk * HORIZON / ((epoch + HORIZON) * (epoch + HORIZON + 1))


@lru_cache(64)
def shared_levels(n: int, risk: float) -> tuple[float, ...]:
    """The p-value grid for `n` calibration rows at `risk`, ascending; 0.5 alone when nothing can be bounded."""
    return grid_for(n, epoch_risk(risk, HORIZON), _STEPS, most=0.5) or (0.5,)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPerturbation:
    """Turns an account's inputs into p-values for an `EProcess`; pure: state in, state out.

    ``reference (n, k)`` are the calibration rows' vectors, `risk` is delta, `radius` how many bits the codes of
    near-duplicates may differ in, `slack` what drift is forgiven, `calibration` the name of all this in a state.
    ``places (k, 2)`` are where on an image the numbers lie, None where markings are not forgiven.
    ``strata (n,)`` are those of the calibration rows, all 0 by default, and there are `count` of them.
    """

    reference: Array
    risk: float
    strata: Ints | None = None
    count: int = 1
    radius: int = 0
    slack: float = DRIFT_SLACK
    calibration: str = ""
    places: Array | None = None

    @property
    def levels(self) -> tuple[float, ...]:
        """The p-values below 1 that `judge` gives."""
        return shared_levels(len(self.reference), self.risk)

    @property
    def rare(self) -> tuple[tuple[float, ...], ...]:
        """What the levels are within the strata 1, 2, ...: no less than their few rows can cut off."""
        if self.strata is None:
            return ()
        rows = [int((self.strata == stratum).sum()) for stratum in range(1, self.count)]
        return tuple(tuple(level_within(n, level) for level in self.levels) for n in rows)

    def start(self) -> SharedState:
        """An account that has asked nothing."""
        nothing = np.zeros((2, self.reference.shape[1]))
        return SharedState(
            calibration=self.calibration,
            n=0,
            means=_packed(nothing),
            directions=_text(nothing),
            cuts=[None] * (len(self.levels) * self.count),
            chains=[],
        )

    def resume(self, state: SharedState | None) -> SharedState:
        """`state` if it was kept under this calibration and in this form, else a new one."""
        if state is None or state.keys() != SharedState.__annotations__.keys():
            return self.start()
        same = state["calibration"] == self.calibration and len(state["cuts"]) == len(self.levels) * self.count
        return state if same else self.start()

    def judge(self, state: SharedState, sightings: Sequence[VectorSeen]) -> tuple[SharedState, list[float]]:
        """The state after `sightings`, in order, and a p-value for each: on the grid, or 1."""
        n, cuts, chains = state["n"], state["cuts"], [(codes, first) for codes, first in state["chains"]]
        means, kept = _unpacked(state["means"]), state["directions"]
        directions = _directions(kept)
        p_values = []
        for sighting in sightings:
            if n and (n < EPOCH or n % EPOCH == 0):
                kept = _coarse(means if self.places is None else without_markings(means, self.places))
                directions = _directions(kept)
                cuts = self._cuts(directions, epoch=n - 1 if n < EPOCH else EPOCH - 2 + n // EPOCH)
            change, chains = self._change(sighting, chains)
            score = float(direction_scores(change, directions))
            if change is not sighting.vector:
                score = min(score, float(direction_scores(sighting.vector, directions)))
            p_values.append(self._p_value(score, cuts, sighting.stratum))
            n += 1
            means = learn_means(means, change, n)
        state = SharedState(
            calibration=state["calibration"],
            n=n,
            means=_packed(means),
            directions=kept,
            cuts=cuts,
            chains=chains,
        )
        return state, p_values

    def _cuts(self, directions: Array, epoch: int) -> list[float | None]:
        """Per level the score that benign inputs exceed no more often: `Thresholds`, with its ranks remembered.

        First of all inputs, then of the strata 1, 2, ...
        """
        levels = self.levels
        spent = split_risk(epoch_risk(self.risk, epoch), len(levels))
        n = len(self.reference)
        ranks = [_rank(n, tau, part) for tau, part in zip(levels, spent, strict=True)]
        known = direction_scores(self.reference, directions)
        ordered = np.partition(known, [n - rank for rank in ranks if rank] or [0])
        cuts = [float(ordered[n - rank]) if rank else math.inf for rank in ranks]
        own = [known[self.strata == stratum] for stratum in range(1, self.count)]
        every = [
            cuts,
            *([raised_cut(cut, each, level) for level, cut in zip(levels, cuts, strict=True)] for each in own),
        ]
        return [round(cut, SCORE_DECIMALS) if math.isfinite(cut) else None for some in every for cut in some]

    def _p_value(self, score: float, cuts: list[float | None], stratum: int) -> float:
        """The smallest level whose cut in `stratum` the score exceeds by more than `slack`, else 1."""
        own = cuts[stratum * len(self.levels) :][: len(self.levels)]
        for level, cut in zip(self.levels, own, strict=True):
            if cut is not None and round(score, SCORE_DECIMALS) > cut + self.slack:
                return level
        return 1.0

    def _change(self, sighting: VectorSeen, chains: list[Chain]) -> tuple[Array, list[Chain]]:
        """The vector ``(k,)`` less that of the first of its chain, and the chains, latest last."""
        if not sighting.code:
            return sighting.vector, chains
        for chain in reversed(chains):
            codes, first = chain
            if self._alike(sighting.code, codes):
                others = [each for each in chains if each is not chain]
                codes = [*(code for code in codes if code != sighting.code), sighting.code][-CODES:]
                return sighting.vector - _steps(first) * np.float32(GRAIN), [*others, (codes, first)]
        return sighting.vector, [*chains, ([sighting.code], _text(sighting.vector / GRAIN))][-CHAINS:]

    def _alike(self, code: str, codes: list[str]) -> bool:
        bits = int(code, 16)
        return any((bits ^ int(other, 16)).bit_count() <= self.radius for other in codes)


def direction_scores(vectors: Array, directions: Array) -> Array:
    """How far ``vectors (..., k)`` lie along the first of ``directions (2, k)``, or either way the second."""
    first, second = directions @ vectors.T
    return np.asarray(np.maximum(first, np.abs(second)))


def learn_means(means: Array, vector: Array, n: int) -> Array:
    """Both ``means (2, k)`` after the `n`-th vector ``(k,)``, rounded as a state keeps them."""
    side = -1 if vector @ means[1] < 0 else 1
    rates = np.array([[1 / n], [max(1 / n, RECENT)]], np.float32)
    turned = np.array([[1], [side]], np.float32) * vector
    return np.asarray((means + rates * (turned - means)).astype(np.float16).astype(np.float32))


def unit_directions(means: Array) -> Array:
    """The directions ``(2, k)`` of both rows, as a state keeps them."""
    return _directions(_coarse(means))


def without_markings(means: Array, places: Array) -> Array:
    """Both ``means (2, k)`` less what stands out of them in a few of ``places (k, 2)``, and around these."""
    left, most = np.array(means), int(MARKED_SHARE * means.shape[1])
    for row in left:
        ordered = np.sort(np.abs(row))
        out = np.flatnonzero(np.abs(row) > max(ordered[-1 - most], STANDS_OUT * ordered[len(row) // 2]))
        if len(out):
            apart = np.abs(places[out, None] - places).max(axis=2).min(axis=0)
            row[apart <= AROUND] = 0
    return left


def _coarse(means: Array) -> str:
    """Each row in whole steps, `SIDE` of them for its largest value."""
    most = np.abs(means).max(axis=1, keepdims=True)
    return _text(means * (SIDE / np.where(most > 0, most, 1)))


def _directions(text: str) -> Array:
    """The two rows ``(2, k)`` at length 1; no longer, for the slack rests on that."""
    steps = _steps(text).reshape(2, -1)
    lengths = np.sqrt((steps * steps).sum(axis=1, keepdims=True))
    return (steps * ((1 - 1e-6) / np.where(lengths > 0, lengths, 1))).astype(np.float32)


def _packed(pair: Array) -> str:
    return b2a_base64(np.asarray(pair, "<f2").tobytes(), newline=False).decode()


def _unpacked(text: str) -> Array:
    return np.frombuffer(a2b_base64(text), "<f2").reshape(2, -1).astype(np.float32)


def _text(steps: Array) -> str:
    return bytes(np.clip(np.rint(steps) + ZERO, ZERO - SIDE, ZERO + SIDE).astype(np.uint8).ravel()).decode("ascii")


def _steps(text: str) -> Array:
    return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.float32) - ZERO
