"""What an attacker may do: declared by the attack, enforced by the target."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Access(IntEnum):
    """What a target shows, each level including those before it."""

    LABELS = 1
    SCORES = 2
    GRADIENTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreatModel:
    """What the attacker may do. `epsilon` is an L-infinity radius in input units; `queries` a budget in rows.

    `accounts` is how many accounts the attacker asks from; None is a new one for every row.
    """

    access: Access
    epsilon: float | None = None
    queries: int | None = None
    accounts: int | None = 1
    knowledge: str = ""
