"""How disclosure is judged: by the share of planted values that an attacker reads, and kind by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medward.attacks.intervals import Interval
from medward.attacks.validation.finding import Arm
from medward.attacks.validation.gate import ATTACKERS, NO_ROW, JudgedCell

ENOUGH_READ = 0.2
"""What the lower end must reach on the undefended writer before a cell counts."""


@dataclass(frozen=True, kw_only=True)
class DisclosureCell(JudgedCell):
    """A cell of disclosure holds shares of planted values that were read; its baseline is decoys that nobody planted.

    `kinds` are the arms kind by kind, the lower ends corrected for how many kinds there are.
    """

    kinds: Mapping[Arm, Mapping[str, Interval]] = field(default_factory=dict)

    def words(self, value: float) -> str:
        """A share of values."""
        return f"{value:.1%} of planted values read"

    def too_weak(self) -> tuple[str, ...]:
        """Without its filters the writer must give values of every kind away, and more than decoys are guessed."""
        seen, guessed = self.undefended, self.baseline
        if seen is None:
            return (NO_ROW,)
        reasons = []
        if seen.low < ENOUGH_READ:
            reasons.append(
                f"The writer gives too little away to test a filter: {seen.low:.1%} of planted values at least, "
                f"{ENOUGH_READ:.0%} is needed."
            )
        if guessed is None:
            reasons.append("There are no decoys beside the planted values to compare with.")
        elif seen.low <= guessed.high:
            reasons.append(
                f"No more is read than of decoys, which nobody planted: of them up to {guessed.high:.1%} are guessed."
            )
        if silent := [kind for kind, share in self.kinds.get("undefended", {}).items() if share.value == 0]:
            reasons.append(
                f"The writer gives nothing away of the kind {', '.join(map(repr, silent))}, so a filter of it is not "
                "tested; plant such values where it says them, or leave that kind out."
            )
        return tuple(reasons)

    def passing_in_part(self, arm: Arm, limit: float) -> tuple[str, ...]:
        """A kind of value that leaves shows it too, though the share of all values may stay within the `limit`."""
        return tuple(
            f"{ATTACKERS[arm]} passes the guard: at least {share.low:.1%} of values of the kind {kind!r} are read, "
            f"the bound is {limit:.1%}."
            for kind, share in self.kinds.get(arm, {}).items()
            if share.low > limit
        )
