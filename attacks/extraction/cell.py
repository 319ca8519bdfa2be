"""A theft as the gate judges it: what a clone gains behind the guard, of what it gains without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from medward.attacks.intervals import Interval
from medward.attacks.validation.finding import Arm
from medward.attacks.validation.gate import ATTACKERS, NO_ROW, JudgedCell

EXTRACTION_GAIN = 0.05
"""What the lower end of a gain must exceed before it is one."""


@dataclass(frozen=True, kw_only=True)
class TheftCell(JudgedCell):
    """A cell of a theft holds shares of the stolen gain; `undefended` is the gain itself.

    `gains` is the agreement that a clone behind the guard gained over one that never saw the victim.
    """

    gains: Mapping[Arm, Interval] = field(default_factory=dict)

    def on(self, arm: Arm) -> Self:
        """With the gain of that arm alone."""
        gains = {each: gain for each, gain in self.gains.items() if each == arm}
        return replace(JudgedCell.on(self, arm), gains=gains)

    def words(self, value: float) -> str:
        """A share of the gain."""
        return f"{value:.0%} of the stolen gain"

    def too_weak(self) -> tuple[str, ...]:
        """The clone must gain over one that never saw the model."""
        if self.undefended is None:
            return (NO_ROW,)
        if self.undefended.low > EXTRACTION_GAIN:
            return ()
        return (
            f"The clone gains too little over one that never saw the model: {self.undefended.low:.1%} of agreement at "
            f"least, more than {EXTRACTION_GAIN:.0%} is needed.",
        )

    def passing(self, limit: float) -> tuple[str, ...]:
        """What survives of a stolen gain is a ratio, and without a gain worth the name unguarded a ratio of noise.

        Then the gain behind the guard must itself be one, and its lower end exceed the limit's share of all that the
        undefended gain may be.
        """
        if not self.too_weak():
            return JudgedCell.passing(self, limit)
        most = 0.0 if self.undefended is None else max(0.0, self.undefended.high)
        return tuple(
            f"{ATTACKERS[arm]} passes the guard: the clone gains at least {gain.low:.1%} of agreement behind it, at "
            f"most {most:.1%} without it; the bound is {self.words(limit)}."
            for arm, gain in self.gains.items()
            if gain.low > max(EXTRACTION_GAIN, limit * most)
        )
