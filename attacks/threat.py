"""What an attacker may do: declared by the attack, enforced by the target."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Access(IntEnum):
    """What a target shows, each level including those before it; a model that writes shows what leaves of its texts."""

    TEXT = 0
    LABELS = 1
    SCORES = 2
    GRADIENTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreatModel:
    """What the attacker may do. `epsilon` is an L-infinity radius in input units; `queries` a budget in rows.

    `accounts` is how many accounts the attacker asks from in turn; None is a new one for every row. `per_day` is how
    many rows it asks a day, spread evenly; None is all at once. `universal` is one change for all inputs.
    """

    access: Access
    epsilon: float | None = None
    queries: int | None = None
    accounts: int | None = 1
    per_day: float | None = None
    knowledge: str = ""
    universal: bool = False
