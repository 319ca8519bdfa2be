"""Strangeness: how strange an account's inputs look to the screens, by their ranks among calibration rows.

The strangeness of an input is a fixed function of it, so its rank among the calibration rows of its stratum is bet on
(`guard.statistics.rank_eprocess`): a clinic of a rare class is judged beside that class. Behind a class of few rows a
thief is noticed later than among all, or not at all; a bundle says so of its own (`guard.bundle.power`). Drift may make
inputs up to `OFFSET` times its dial stranger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.monitors.base import SCREEN, BenignRows, Bet, BetSettings, Monitor, Observations
from medward.guard.policy import Policy
from medward.guard.screens.fused import FusedScreen
from medward.guard.statistics.rank_eprocess import RankEProcess, rank_cuts
from medward.guard.types import Array, Ints, Outputs

OFFSET = 0.1  # how much stranger an input may look, at drift 1; benign median and 95th percentile are 1 apart
STRANGENESS = "strangeness"
"""The key of the screens' scores beside what the monitors see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenReference:
    """A screen reference is the screens, and the strangeness of benign rows ``scores (n,)``, ascending.

    ``strata (n,)`` are theirs, where these are known.
    """

    screen: FusedScreen
    scores: Array
    strata: Ints | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.scores).all():
            raise MedwardError("calibration: screen scores must be finite, got NaN or infinity; see the benign rows")

    @classmethod
    def fit(cls, rows: BenignRows) -> ScreenReference:
        """Keep how strange the reference rows look."""
        scores = rows.screen.strangeness(*rows.reference)
        order = np.argsort(scores, kind="stable")
        return cls(screen=rows.screen, scores=scores[order], strata=rows.strata[order])

    def see(self, inputs: Array, outputs: Outputs) -> Array:
        """Strangeness ``(n,)``."""
        return self.screen.strangeness(inputs, outputs)

    def p_values(self, scores: Array) -> Array:
        """Ordinary conformal p-values ``(n,)`` of strangeness ``(n,)`` among all calibration rows; least for NaN."""
        above = np.where(np.isnan(scores), 0, len(self.scores) - np.searchsorted(self.scores, scores, "left"))
        return np.asarray((above + 1) / (len(self.scores) + 1))

    def by_stratum(self, count: int) -> list[Array]:
        """The scores of each of `count` strata; all of them in the first where strata are not known."""
        strata = np.zeros(len(self.scores), np.int64) if self.strata is None else self.strata
        return [self.scores[strata == stratum] for stratum in range(count)]

    @property
    def fingerprint(self) -> str:
        """Names the benign rows, by their strangeness and strata, in states that rest on them."""
        named = b"".join(each.tobytes() for each in (self.scores, self.strata) if each is not None)
        return hashlib.blake2b(named, digest_size=6).hexdigest()

    def at_risk(self, risk: float, strata: int) -> ScreenReference:  # noqa: ARG002 (as every monitor)
        """The same: ranks are bet on, and `RankEProcess` knows the risk."""
        return self

    def arrays(self) -> dict[str, Any]:
        """What was fitted, by name."""
        strata = {} if self.strata is None else {"reference_strata": self.strata}
        return {**self.screen.arrays(), "reference": self.scores, **strata}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> ScreenReference:
        """Read back what `arrays` gave."""
        screen = FusedScreen.from_arrays(arrays)
        return cls(screen=screen, scores=arrays["reference"], strata=arrays.get("reference_strata"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBet:
    """A rank bet turns scores into rank cells by the `cuts` of their stratum; drift may have made `slack` of a score.

    The account keeps nothing but its wealth and counts.
    """

    part: RankEProcess
    cuts: tuple[tuple[float, ...], ...]
    slack: float
    repeats: tuple[str, ...] = ("exact", "near")
    repeat_radius: int = 0

    @classmethod
    def of(cls, name: str, reference: ScreenReference, settings: BetSettings, slack: float) -> RankBet:
        """The bet of the monitor `name` among `reference`."""
        own = reference.by_stratum(settings.strata)
        part = RankEProcess(
            name=name,
            sizes=tuple(map(len, own)),
            risk=settings.risk,
            calibration=f"{reference.fingerprint}:{slack:g}:{settings.risk:g}",
            contamination=settings.contamination,
        )
        return cls(part=part, cuts=tuple(map(rank_cuts, own)), slack=slack)

    def values(
        self,
        state: Any,  # noqa: ARG002 (as every bet)
        column: Sequence[float],
        codes: Sequence[str],  # noqa: ARG002
        strata: Sequence[int],
    ) -> tuple[Any, list[float]]:
        """The cells, row by row."""
        rows = zip(map(float, column), strata, strict=True)
        return None, [float(self.part.cells.encode(score, self.cuts[stratum], self.slack)) for score, stratum in rows]


def _observed(fitted: ScreenReference, seen: Array, policy: Policy) -> Observations:  # noqa: ARG001
    return {STRANGE.name: seen, STRANGENESS: seen}


def _bet(fitted: ScreenReference, settings: BetSettings) -> Bet:
    return RankBet.of(STRANGE.name, fitted, settings, OFFSET * settings.drift)


STRANGE = Monitor(
    name="strange",
    share=0.7,
    source=SCREEN,
    fit=ScreenReference.fit,
    read=ScreenReference.from_arrays,
    observe=_observed,
    bet=_bet,
)
