"""What a site lives with: the tables ``[[accept]]`` of a policy, each a risk that a person accepts until a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError


class Waiver(BaseModel):
    """A waiver says that what one attack does is accepted: why (`reason`), by whom (`by`) and until when (`until`).

    The attack's row of a report is then ACCEPTED, first in the report and never HELD; after the day it is again what it
    was. `attack` is the name of the row. A waiver covers what the attack does: a row that would not be good if the
    attack reached nothing, for what the guard costs, a flag or as nothing was run, stays what it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attack: str = Field(min_length=1, max_length=100)
    reason: str = Field(min_length=10, max_length=1000)
    by: str = Field(min_length=2, max_length=200)
    until: date

    @field_validator("attack", "reason", "by")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if not text.isprintable() or text != text.strip():
            raise PydanticCustomError("one_line", "must be one line of printable text without spaces around it")
        return text

    def to_toml(self) -> str:
        """The table with every key spelled out."""
        attack, reason, by = (
            each.replace("\\", "\\\\").replace('"', '\\"') for each in (self.attack, self.reason, self.by)
        )
        return (
            f'\n[[accept]]                   # shown first in reports, never counted as held\nattack = "{attack}"\n'
            f'reason = "{reason}"\nby = "{by}"\nuntil = {self.until.isoformat()}\n'
        )


def ended_waivers(waivers: Sequence[Waiver], today: date) -> tuple[str, ...]:
    """A sentence for each of the `waivers` whose last day was before `today`: nothing is accepted by it."""
    return tuple(
        f"accept: that of {each.attack!r} by {each.by} ended on {each.until}; remove it, or look at the risk again and "
        "name a later day"
        for each in waivers
        if each.until < today
    )
