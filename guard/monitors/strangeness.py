"""Strangeness: how strange an account's inputs look to the screens, by their ranks among calibration rows.

The strangeness of an input is a fixed function of it, so its rank among the calibration rows of its stratum is bet on
(`guard.statistics.rank_eprocess`): a clinic of a rare class is judged beside that class, and a class of few rows is no
place to hide in. Drift may make inputs up to `OFFSET` times its dial stranger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medward.guard.monitors.base import SCREEN, BenignRows, Bet, BetSettings, Monitor, Observations
from medward.guard.monitors.score_reference import ScoreReference
from medward.guard.policy import Policy
from medward.guard.screens.fused import FusedScreen
from medward.guard.statistics.rank_eprocess import RankEProcess, rank_cuts
from medward.guard.types import Array, Outputs

OFFSET = 0.1  # how much stranger an input may look, at drift 1; benign median and 95th percentile are 1 apart
STRANGENESS = "strangeness"
"""The key of the screens' scores beside what the monitors see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenReference:
    """The screens of single inputs, and how strange benign rows look to them."""

    screen: FusedScreen
    reference: ScoreReference

    @classmethod
    def fit(cls, rows: BenignRows) -> ScreenReference:
        """Keep the screens, and the strangeness of the reference rows."""
        scores = rows.screen.strangeness(*rows.reference)
        return cls(screen=rows.screen, reference=ScoreReference.fit(scores, rows.strata))

    def see(self, inputs: Array, outputs: Outputs) -> Array:
        """Strangeness ``(n,)``."""
        return self.screen.strangeness(inputs, outputs)

    def p_values(self, scores: Array) -> Array:
        """Ordinary conformal p-values ``(n,)`` of strangeness ``(n,)`` among all calibration rows; least for NaN."""
        known = self.reference.scores
        above = np.where(np.isnan(scores), 0, len(known) - np.searchsorted(known, scores, "left"))
        return np.asarray((above + 1) / (len(known) + 1))

    def at_risk(self, risk: float, strata: int) -> ScreenReference:
        """The same with thresholds at `risk`."""
        return replace(self, reference=self.reference.at_risk(risk, strata))

    def arrays(self) -> dict[str, Any]:
        """What was fitted, by name."""
        return {**self.screen.arrays(), **self.reference.named("reference", "reference_strata")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> ScreenReference:
        """Read back what `arrays` gave."""
        reference = ScoreReference.read(arrays, "reference", "reference_strata")
        return cls(screen=FusedScreen.from_arrays(arrays), reference=reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBet:
    """A rank bet turns scores into rank cells by the `cuts` of their stratum; drift may have made `slack` of a score.

    The account keeps nothing but its wealth and counts.
    """

    part: RankEProcess
    cuts: tuple[Array, ...]
    slack: float
    repeats: tuple[str, ...] = ("exact", "near")
    repeat_radius: int = 0

    @classmethod
    def of(cls, name: str, reference: ScoreReference, settings: BetSettings, slack: float) -> RankBet:
        """The bet of the monitor `name` among `reference`."""
        strata = np.zeros(len(reference.scores), np.int64) if reference.strata is None else reference.strata
        own = [reference.scores[strata == stratum] for stratum in range(settings.strata)]
        kept = repr([each.tolist() for each in own])
        named = f"{hashlib.blake2b(kept.encode(), digest_size=6).hexdigest()}:{slack:g}"
        part = RankEProcess(
            name=name,
            sizes=tuple(map(len, own)),
            risk=settings.risk,
            calibration=f"{named}:{settings.risk:g}",
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
        scores, cells = np.asarray(column, np.float64), self.part.cells
        found = [
            cells.encode(scores[row : row + 1], self.cuts[stratum], self.slack)[0] for row, stratum in enumerate(strata)
        ]
        return None, list(map(float, found))


def _observed(fitted: ScreenReference, seen: Array, policy: Policy) -> Observations:  # noqa: ARG001
    return {STRANGE.name: seen, STRANGENESS: seen}


def _bet(fitted: ScreenReference, settings: BetSettings) -> Bet:
    return RankBet.of(STRANGE.name, fitted.reference, settings, OFFSET * settings.drift)


STRANGE = Monitor(
    name="strange",
    share=0.7,
    source=SCREEN,
    fit=ScreenReference.fit,
    read=ScreenReference.from_arrays,
    observe=_observed,
    bet=_bet,
)
