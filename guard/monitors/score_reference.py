"""The scores of benign rows, and the p-values that they give: what monitors of a number per input bet on.

The p-values are calibration-conditional (`guard.statistics.conformal.Thresholds`), the same for every account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medward.guard.monitors.base import BetSettings, PlainBet
from medward.guard.statistics.conformal import Thresholds
from medward.guard.statistics.eprocess import EProcess
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReference:
    """A score reference is ``scores (n,)`` of benign rows, ascending, of ``strata (n,)`` where these are known.

    Large scores are strange. `thresholds` have no level until `at_risk` sets them.
    """

    scores: Array
    strata: Ints | None = None
    thresholds: Thresholds = field(default_factory=lambda: Thresholds((), (), 1.0, 0))

    @classmethod
    def fit(cls, scores: Array, strata: Ints) -> ScoreReference:
        """Keep the `scores` of the reference rows."""
        order = np.argsort(scores, kind="stable")
        return cls(scores=scores[order], strata=strata[order])

    def at_risk(self, risk: float, strata: int) -> ScoreReference:
        """The same with thresholds at `risk`, in so many strata."""
        if strata > 1 and self.strata is not None:
            found = Thresholds.stratified(self.scores, self.strata, strata, risk=risk)
        else:
            found = Thresholds.calibrate(self.scores, risk=risk)
        return replace(self, thresholds=found)

    def p_values(self, scores: Array) -> Array:
        """The p-value ``(n,)`` of each score: on the grid, or 1."""
        return self.thresholds.p_values(scores)

    def bet(self, name: str, settings: BetSettings, *, ratio: float = 1.0, offset: str = "") -> PlainBet:
        """The bet of the monitor `name` on these p-values; `offset` names what else they rest on."""
        return PlainBet(
            part=EProcess(
                name=name,
                levels=self.thresholds.levels,
                rare=self.thresholds.rare,
                calibration=f"{self.thresholds.fingerprint}{offset}",
                contamination=settings.contamination,
                ratio=ratio,
            )
        )

    def named(self, scores: str, strata: str) -> dict[str, Array | Ints]:
        """The arrays, under these names."""
        return {scores: self.scores, **({} if self.strata is None else {strata: self.strata})}

    @classmethod
    def read(cls, arrays: Mapping[str, Any], scores: str, strata: str) -> ScoreReference:
        """Read back what `named` gave."""
        return cls(scores=arrays[scores], strata=arrays.get(strata))
