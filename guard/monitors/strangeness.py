"""Strangeness: how strange an account's inputs look to the screens, by the p-values that single inputs have too.

The strangeness of an input is a fixed function of it, so its calibration-conditional p-values are bet on; too many
strange inputs raise the wealth. Drift may make inputs up to `OFFSET` times its dial stranger.

Reference: Bates et al. 2023 for the p-values (`guard.statistics.conformal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from medward.guard.monitors.base import SCREEN, BenignRows, BetSettings, Monitor, Observations, PlainBet
from medward.guard.monitors.score_reference import ScoreReference
from medward.guard.policy import Policy
from medward.guard.screens.fused import FusedScreen
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


def strangeness_p_values(policy: Policy, reference: ScoreReference, scores: Array) -> Array:
    """p-values ``(n,)`` of strangeness ``(n,)``, of which drift may have made a part."""
    return reference.p_values(scores - OFFSET * policy.monitor.drift)


def _observed(fitted: ScreenReference, seen: Array, policy: Policy) -> Observations:
    return {STRANGE.name: strangeness_p_values(policy, fitted.reference, seen), STRANGENESS: seen}


def _bet(fitted: ScreenReference, settings: BetSettings) -> PlainBet:
    return fitted.reference.bet(STRANGE.name, settings, offset=f":{OFFSET * settings.drift:g}")


STRANGE = Monitor(
    name="strange",
    share=0.6,
    source=SCREEN,
    fit=ScreenReference.fit,
    read=ScreenReference.from_arrays,
    observe=_observed,
    bet=_bet,
)
