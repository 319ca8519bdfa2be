"""Boundary probing: whether an account asks where the model is undecided, far more often than patients are.

How near an input is to another decision (`Outputs.doubt`: 0 on the border, negative elsewhere) is a fixed function of
it, so its calibration-conditional p-values are bet on as the screens' are, with the same guarantee. A task says what
its borders are; where it has none there is nothing to watch. Query-based evasion and active thieves ask near borders.
Who asks about undecided patients alone looks the same.

Reference: Pal et al., "ActiveThief", AAAI 2020, for thieves that choose by uncertainty; Bates et al. 2023 for the
p-values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.monitors.base import BenignRows, BetSettings, Monitor, Observations, PlainBet
from medward.guard.monitors.score_reference import ScoreReference
from medward.guard.policy import Policy
from medward.guard.types import Array, Outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtReference:
    """How near benign rows are to another decision."""

    reference: ScoreReference

    @classmethod
    def fit(cls, rows: BenignRows) -> DoubtReference | None:
        """Keep the doubt of the reference rows; None for a task without borders."""
        doubt = rows.reference[1].doubt
        return None if doubt is None else cls(reference=ScoreReference.fit(doubt, rows.strata))

    def see(self, inputs: Array, outputs: Outputs) -> Array:  # noqa: ARG002 (as everything fitted)
        """The doubt ``(n,)``."""
        if outputs.doubt is None:
            raise MedwardError("probing: the outputs say nothing of borders; judge them first (ModelSpec.judged)")
        return outputs.doubt

    def at_risk(self, risk: float, strata: int) -> DoubtReference:
        """The same with thresholds at `risk`."""
        return replace(self, reference=self.reference.at_risk(risk, strata))

    def arrays(self) -> dict[str, Any]:
        """What was fitted, by name."""
        return dict(self.reference.named("margins", "margin_strata"))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> DoubtReference | None:
        """Read back what `arrays` gave; None where a profile has no margins."""
        if "margins" not in arrays:
            return None
        return cls(reference=ScoreReference.read(arrays, "margins", "margin_strata"))


def _observed(fitted: DoubtReference, seen: Array, policy: Policy) -> Observations:  # noqa: ARG001 (as every monitor)
    return {PROBING.name: fitted.reference.p_values(seen)}


def _bet(fitted: DoubtReference, settings: BetSettings) -> PlainBet:
    return fitted.reference.bet(PROBING.name, settings, ratio=settings.ratio)


PROBING = Monitor(
    name="probing",
    share=0.05,
    source="probing",
    fit=DoubtReference.fit,
    read=DoubtReference.from_arrays,
    observe=_observed,
    bet=_bet,
)
