"""What a validation is going to do: said before the start, and what a quick look leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPlan:
    """A plan is how much of a validation is run: by default all of it.

    `told` is said before the start. A quick look judges at most `rows` rows, and leaves out the attacks in `left_out`,
    each with the reason: their findings say that nothing was tested, so that nothing is HELD for them. Attacks that are
    run are as strong as ever, and each interval is as wide as fewer rows make it, so a quick look calls nothing HELD
    that its own intervals do not show.
    """

    told: str = ""
    quick: bool = False
    rows: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    def note(self, ran: int, attacks: int) -> str:
        """What a report says of it that `ran` so many of so many `attacks`; empty of a whole validation."""
        if not self.quick:
            return ""
        return (
            f"a quick look: {ran} of {attacks} attacks were run, at full strength, on at most "
            f"{self.rows} judged rows, so intervals are wide; what was left out is not shown to hold"
        )


WHOLE_PLAN = ValidationPlan()
"""A validation of which nothing is left out."""

RunAhead = Callable[[ValidationPlan, Sequence[str], Path, Callable[[str], None]], None]
"""Runs the attacks of the names elsewhere, as the plan has them, and keeps their runs in the folder of cells.

It is told how to say what goes on. Afterwards each run is recalled from there and judged as if it had been done here.
"""
