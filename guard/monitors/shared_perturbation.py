"""A perturbation shared by an account's requests, noticed by its direction: a universal attack is constant over them.

Two means of an account's residual vectors (`Residuals`) point along what its inputs share. The mean of all of them
finds what a few of many inputs carry. A mean that forgets (half of it is from the last `HALF_LIFE` inputs), each vector
first turned to the side of its direction, finds what began late, and what comes with either sign: it is one step per
input of the power iteration for the direction of the largest second moment. The past gives both directions, and the
next input is judged by its score, the larger of how far it lies along the first and along the second, on either side.

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
at most a tenth of these is left out of its direction, with what lies around. A direction may be any function of the
past, so the guarantee does not rest on that. Nor is a vector turned by its marking, which would hide what comes with
either sign. The price: a perturbation confined to so small a part of the image, a patch, is not noticed here.

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
from typing import NamedTuple, TypedDict

import numpy as np

from medward.guard.monitors.sketch import without_markings
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
GRAIN = 0.5  # standard deviations, of a vector kept for its near-duplicates
SIDE = 45  # steps to either side of zero in a text
ZERO = 80  # its character

_BLOCK = 512  # rows scored at a time, which BLAS does several times as fast as thousands
_KEPT = np.dtype("<f2")  # of means in a state
_SIDES = np.array([[1], [-1]], np.float32)  # of a vector that the second mean takes turned
_DIRECTIONS_KEPT = 4096  # decoded directions of accounts that asked lately, a few kilobytes each


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


class VectorSeen(NamedTuple):
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
        n, kept, cuts, chains = state["n"], state["directions"], state["cuts"], state["chains"]
        means, directions, levels = _unpacked(state["means"]), _directions(kept), self.levels
        p_values = []
        for sighting in sightings:
            if n and (n < EPOCH or n % EPOCH == 0):
                known = means.astype(np.float32)
                kept = _coarse(known if self.places is None else without_markings(known, self.places))
                directions = _directions(kept)
                cuts = self._cuts(directions, epoch=n - 1 if n < EPOCH else EPOCH - 2 + n // EPOCH)
            change, chains = self._change(sighting, chains)
            score = _score(change, directions)
            if change is not sighting.vector:
                score = min(score, _score(sighting.vector, directions))
            p_values.append(self._p_value(score, levels, cuts[sighting.stratum * len(levels) :]))
            n += 1
            means = _learnt(means.astype(np.float32), change, n, directions[1])
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
        """Per level the score that benign inputs exceed no more often: `Thresholds` of this epoch.

        First of all inputs, then of the strata 1, 2, ...
        """
        levels = self.levels
        spent = split_risk(epoch_risk(self.risk, epoch), len(levels))
        n = len(self.reference)
        ranks = [tolerance_rank(n, tau, part) for tau, part in zip(levels, spent, strict=True)]
        blocks = [self.reference[i : i + _BLOCK] for i in range(0, max(n, 1), _BLOCK)]
        known = np.concatenate([direction_scores(each, directions) for each in blocks])
        ordered = np.partition(known, [n - rank for rank in ranks if rank] or [0])
        cuts = [float(ordered[n - rank]) if rank else math.inf for rank in ranks]
        own = [known[self.strata == stratum] for stratum in range(1, self.count)]
        every = [
            cuts,
            *([raised_cut(cut, each, level) for level, cut in zip(levels, cuts, strict=True)] for each in own),
        ]
        return [round(cut, SCORE_DECIMALS) if math.isfinite(cut) else None for some in every for cut in some]

    def _p_value(self, score: float, levels: Sequence[float], cuts: Sequence[float | None]) -> float:
        """The smallest of `levels` whose cut (those of a stratum come first) `score` exceeds by more than `slack`."""
        rounded = round(score, SCORE_DECIMALS)
        for level, cut in zip(levels, cuts, strict=False):
            if cut is not None and rounded > cut + self.slack:
                return level
        return 1.0

    def _change(self, sighting: VectorSeen, chains: list[Chain]) -> tuple[Array, list[Chain]]:
        """The vector ``(k,)`` less that of the first of its chain, and the chains, latest last."""
        vector, code, _ = sighting
        if not code:
            return vector, chains
        bits, radius = int(code, 16), self.radius
        for chain in reversed(chains):
            codes, first = chain
            for other in codes:
                if (bits ^ int(other, 16)).bit_count() <= radius:
                    others = [each for each in chains if each is not chain]
                    codes = [*(each for each in codes if each != code), code][-CODES:]
                    return vector - _steps(first) * np.float32(GRAIN), [*others, (codes, first)]
        return vector, [*chains, ([code], _text(vector / GRAIN))][-CHAINS:]


def direction_scores(vectors: Array, directions: Array) -> Array:
    """How far ``vectors (..., k)`` lie along the first of ``directions (2, k)``, or either way the second."""
    along = vectors @ directions.T
    return np.asarray(np.maximum(along[..., 0], np.abs(along[..., 1])))


def learn_means(means: Array, vector: Array, n: int, toward: Array) -> Array:
    """Both ``means (2, k)`` after the `n`-th vector ``(k,)``, rounded as a state keeps them.

    For the second the vector is turned to the side of ``toward (k,)``.
    """
    return _learnt(means, vector, n, toward).astype(np.float32)


def unit_directions(means: Array) -> Array:
    """The directions ``(2, k)`` of both rows, as a state keeps them."""
    return _directions(_coarse(means))


def _score(vector: Array, directions: Array) -> float:
    """`direction_scores` of one vector ``(k,)``, in plain numbers."""
    along: list[float] = (directions @ vector).tolist()
    return max(along[0], abs(along[1]))


def _learnt(means: Array, vector: Array, n: int, toward: Array) -> Array:
    """`learn_means` in 16 bits."""
    if vector.dot(toward) < 0:
        change = _SIDES * vector
        change -= means
    else:
        change = vector - means
    change *= np.array([[1 / n], [max(1 / n, RECENT)]], np.float32)
    change += means
    return change.astype(_KEPT)


def _coarse(means: Array) -> str:
    """Each row in whole steps, `SIDE` of them for its largest value."""
    most = np.abs(means).max(axis=1, keepdims=True)
    return _text(means * (SIDE / np.where(most > 0, most, 1)))


@lru_cache(_DIRECTIONS_KEPT)
def _directions(text: str) -> Array:
    """The two rows ``(2, k)`` at length 1; no longer, for the slack rests on that. Read-only."""
    steps = _steps(text).reshape(2, -1)
    lengths = np.sqrt((steps * steps).sum(axis=1, keepdims=True))
    found = (steps * ((1 - 1e-6) / np.where(lengths > 0, lengths, 1))).astype(np.float32)
    found.flags.writeable = False
    return found


def _packed(means: Array) -> str:
    return b2a_base64(np.ascontiguousarray(means, _KEPT).tobytes(), newline=False).decode()


def _unpacked(text: str) -> Array:
    return np.frombuffer(a2b_base64(text), _KEPT).reshape(2, -1)


def _text(steps: Array) -> str:
    whole = np.minimum(np.maximum(np.rint(steps) + ZERO, ZERO - SIDE), ZERO + SIDE)
    return bytes(whole.astype(np.uint8).ravel()).decode("ascii")


def _steps(text: str) -> Array:
    return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.float32) - ZERO
