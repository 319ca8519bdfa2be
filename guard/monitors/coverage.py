"""Where an account's inputs lie among benign ones: a bet on the cell of the next input, by likelihood ratio.

The space of embeddings is cut into K cells (`Embedding.cells`). A systematic sweep visits them more evenly than
patients do, a narrow theft a few of them more often, inputs from elsewhere those that are rare. The bettor's forecast r
is the account's own past, smoothed towards what is usual. Benign cell probabilities p are not known; from the
calibration rows, which took no part in choosing the cells, come upper bounds u with P(p <= u in every cell) >= 1 -
delta (Clopper and Pearson, delta / K each). The bet on cell c pays

    e_c = max(s, r_c / u_c),   s = min over sets A of cells with u(A) < 1 of (1 - r(A)) / (1 - u(A)),

A empty included, so that s <= 1. While p <= u its mean is at most 1: with A the cells where r_c > s u_c,

    sum_c p_c e_c = s + sum_A p_c (r_c / u_c - s) <= s + sum_A u_c (r_c / u_c - s) = s + r(A) - s u(A) <= 1,

the last by the choice of s (or by r(A) <= 1 where u(A) >= 1). It is the best bet on r there is against all such p
together, r over its reverse information projection; where the account's past is within the bounds, s = 1 and nothing
is staked, so that an ordinary account does not pay for its noise. The smallest s is at a set of the cells with the
largest r_c / u_c. The forecast knows the past only, so the wealth is a supermartingale; starting times are spread as in
`EProcess`. A near-duplicate of an input before pays s, the least, which keeps the bound, and is not learnt.

Drift is forgiven as in `EProcess`: with `contamination` eps and `ratio` k, (1 - eps) k u + eps takes the place of u. A
clinic that sees one class of patients only is no thief: their cells are more frequent by what that class is rarer in
the calibration data. The ratio covers classes a few times as frequent; for rare ones (`guard.statistics.strata`) a
bound is no lower than c (h + 1) / (m + 1) for any of them, h > 0 of whose m calibration rows lie in the cell and c is
`CAUTION`. Whatever the mix of classes, a cell is no likelier than in the class where it is likeliest.

Reference: Clopper and Pearson, Biometrika 26, 1934; Grunwald, de Heide, Koolen, "Safe testing", JRSS-B 2024, thm. 1.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np

from medward.guard.monitors.base import BetSettings, Monitor, Observations, PlainBet
from medward.guard.monitors.kernel_features import KernelFeatures, fit_kernel_features, read_kernel_features
from medward.guard.policy import Policy
from medward.guard.statistics.binomial import upper_bounds
from medward.guard.statistics.conformal import CAUTION
from medward.guard.statistics.eprocess import (
    Event,
    drifted_level,
    late_start_wealth,
    log_mean,
    packed_wealth,
    unpacked_wealth,
)
from medward.guard.types import Array, Ints

SMOOTHING = (8.0, 64.0)  # queries' worth of the usual, one bettor each
LENGTH = 1024  # queries that an account's past is remembered for
REPEATED = -1  # the cell of what repeats an input before
_WEIGHTS = np.array(SMOOTHING)[:, None]
_KEPT = np.dtype("<f2")  # of shares in a state


class CoverageState(TypedDict):
    """One account: wealth per bettor, queries learnt, the shares of its cells as 16-bit floats in base64."""

    wealth: str
    n: int
    shares: str


@lru_cache(64)
def cell_limits(
    counts: tuple[int, ...], rare: tuple[tuple[int, ...], ...], risk: float, contamination: float, ratio: float
) -> Array:
    """What benign probabilities ``(K,)`` are at most, drift and rare classes included."""
    found = np.array([drifted_level(bound, contamination, ratio) for bound in upper_bounds(counts, risk)])
    for own in rare:
        held = np.array(own)
        found = np.maximum(found, np.where(held > 0, np.minimum(1, CAUTION * (held + 1) / (sum(own) + 1)), 0))
    found.flags.writeable = False
    return found


@lru_cache(64)
def _ordinary_shares(
    counts: tuple[int, ...], rare: tuple[tuple[int, ...], ...], risk: float, contamination: float, ratio: float
) -> Array:
    """Shares ``(K,)`` of an account's past up to which nothing is staked, whatever the bettor makes of the usual.

    A forecast lies between the past and the usual, so it is within the bounds where both are. Where the usual is not,
    there are no such shares: all are -1.
    """
    limits = cell_limits(counts, rare, risk, contamination, ratio) * (1 - 1e-9)  # more than rounding
    return limits if (usual_shares(counts) <= limits).all() else np.full(len(counts), -1.0)


@lru_cache(64)
def usual_shares(counts: tuple[int, ...]) -> Array:
    """What benign probabilities ``(K,)`` are thought to be."""
    smoothed = np.array(counts) + 0.5
    found = np.asarray(smoothed / smoothed.sum())
    found.flags.writeable = False
    return found


def cell_payoffs(forecasts: Array, bounds: Array) -> tuple[Array, Array]:
    """What each cell pays ``(..., K)`` for ``forecasts (..., K)`` against ``bounds (K,)``, and the least ``(...)``."""
    ratios = forecasts / bounds
    if ratios.max() <= 1:
        return np.ones_like(ratios), np.ones(ratios.shape[:-1])
    least = _least_payoffs(forecasts, bounds, ratios)
    return np.maximum(least[..., None], ratios), least


def _least_payoffs(forecasts: Array, bounds: Array, ratios: Array) -> Array:
    """What the cells pay least ``(...)``, s of this module, where any of ``ratios (..., K)`` is above 1."""
    order = np.argsort(-ratios, axis=-1)
    mass = np.cumsum(np.take_along_axis(forecasts, order, -1), axis=-1)
    bound = np.cumsum(bounds[order], axis=-1)
    rest = np.where(bound < 1, (1 - mass) / np.maximum(1 - bound, 1e-300), 1.0)
    return np.asarray(np.minimum(1.0, rest.min(axis=-1)))


def _cell_factors(forecasts: Array, bounds: Array, cell: int) -> list[float]:
    """What `cell`, or `REPEATED`, makes of each bettor's wealth: its column of `cell_payoffs`, and no other."""
    ratios = forecasts / bounds
    if ratios.max() <= 1:
        return [1.0] * len(ratios)
    least: list[float] = _least_payoffs(forecasts, bounds, ratios).tolist()
    return least if cell == REPEATED else list(map(max, least, ratios[:, cell].tolist()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The part of `Combined`: `counts (K,)` are the calibration rows in each cell, `risk` is delta.

    `rare` are those counts for each rare stratum.
    """

    counts: tuple[int, ...]
    risk: float
    rare: tuple[tuple[int, ...], ...] = ()
    calibration: str = ""
    contamination: float = 0.0
    ratio: float = 1.0
    name: str = "coverage"
    conditional: bool = True

    def repeated(self, value: float) -> float:  # noqa: ARG002 (whatever it was)
        """The cell of a repeat."""
        return REPEATED

    @property
    def bounds(self) -> Array:
        """What benign probabilities ``(K,)`` are at most."""
        return cell_limits(self.counts, self.rare, self.risk, self.contamination, self.ratio)

    def start(self) -> CoverageState:
        """An account that has asked nothing."""
        return CoverageState(wealth="", n=0, shares=_packed(np.zeros(len(self.counts))))

    def step(self, state: CoverageState, n: int, value: float, stratum: int = 0) -> CoverageState:  # noqa: ARG002
        """Bet on query number `n`, in cell `value` or `REPEATED`, then learn it; the bounds hold in every stratum."""
        cell, shares, known = int(value), _unpacked(state["shares"]), min(state["n"], LENGTH)
        if (shares <= _ordinary_shares(self.counts, self.rare, self.risk, self.contamination, self.ratio)).all():
            factors = [1.0] * len(SMOOTHING)
        else:
            factors = _cell_factors(_forecasts(shares, known, self.counts), self.bounds, cell)
        wealth = packed_wealth(late_start_wealth(unpacked_wealth(state["wealth"]), n, factors))
        if cell == REPEATED:
            return CoverageState(wealth=wealth, n=state["n"], shares=state["shares"])
        rate = 1 / min(state["n"] + 1, LENGTH)
        shares = shares * (1 - rate)
        shares[cell] += rate
        return CoverageState(wealth=wealth, n=state["n"] + 1, shares=_packed(shares))

    def log_e(self, state: CoverageState) -> float:
        """Log wealth of the bettors together."""
        return log_mean(state["wealth"])

    def knows(self, value: float) -> bool:
        """Whether `value` is a cell, or `REPEATED`."""
        return value in range(REPEATED, len(self.counts))

    def events(self) -> tuple[Event, ...]:
        """Each cell."""
        bounds = zip(upper_bounds(self.counts, self.risk).tolist(), self.bounds.tolist(), strict=True)
        return tuple(
            Event(
                part=self.name,
                at=float(cell),
                cells=frozenset({float(cell)}),
                label=f"cell {cell}",
                level=level,
                allowed=allowed,
            )
            for cell, (level, allowed) in enumerate(bounds)
        )


@lru_cache(64)
def _weighted_usual(counts: tuple[int, ...]) -> Array:
    """`usual_shares`, as often as each bettor counts it ``(bettors, K)``."""
    return np.asarray(_WEIGHTS * usual_shares(counts))


def _forecasts(shares: Array, known: int, counts: tuple[int, ...]) -> Array:
    """Each bettor's forecast ``(bettors, K)`` after `known` queries with ``shares (K,)``."""
    return np.asarray((known * shares + _weighted_usual(counts)) / (known + _WEIGHTS))


def tally_cells(cells: Sequence[int], count: int) -> tuple[int, ...]:
    """How many of `cells` are 0, 1, ..., `count` - 1."""
    return tuple(int(each) for each in np.bincount(np.asarray(cells, np.int64), minlength=count))


def _packed(shares: Array) -> str:
    return b2a_base64(shares.astype(_KEPT).tobytes(), newline=False).decode()


def _unpacked(text: str) -> Array:
    """Shares that sum to 1 again, for the bound rests on that, or zeros."""
    shares = np.frombuffer(a2b_base64(text), _KEPT).astype(np.float64)
    return shares / (float(shares.sum()) or 1.0)


def _observed(fitted: KernelFeatures, seen: tuple[Array, Ints], policy: Policy) -> Observations:  # noqa: ARG001
    return {COVERAGE.name: seen[1]}


def _bet(fitted: KernelFeatures, settings: BetSettings) -> PlainBet:
    cells, strata = fitted.reference_cells, fitted.reference_strata
    rare = [cells[strata == stratum] for stratum in range(1, settings.strata)]
    part = Coverage(
        name=COVERAGE.name,
        counts=tally_cells(cells.tolist(), fitted.count),
        rare=tuple(tally_cells(each.tolist(), fitted.count) for each in rare),
        risk=settings.risk,
        calibration=f"{fitted.fingerprint}:{settings.risk:g}",
        contamination=settings.contamination,
        ratio=settings.ratio,
    )
    return PlainBet(part=part)


COVERAGE = Monitor(
    name="coverage",
    share=0.05,
    source="embedding",
    prefix="embedding.",
    fit=fit_kernel_features,
    read=read_kernel_features,
    observe=_observed,
    bet=_bet,
)
