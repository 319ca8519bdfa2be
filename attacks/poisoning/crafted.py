"""What an attacker of updates is: colluding clients who see honest updates and send one of their own making."""

from __future__ import annotations

from typing import ClassVar, Protocol

from medward.guard.errors import MedwardError
from medward.guard.types import Array


class CraftedUpdate(Protocol):
    """A crafted update is what colluding clients send instead of what they learned.

    `honest` (k, d) are the updates that they know of: those of their own honest trainings or, at worst, everybody's.
    `clients` and `malicious` count all clients of the round and theirs.
    """

    name: ClassVar[str]

    def craft(self, honest: Array, *, clients: int, malicious: int) -> Array:
        """(d,): what each of them sends."""


def checked_updates(name: str, honest: Array, least: int = 1) -> Array:
    """`honest`, where it is a matrix of at least `least` updates; raises `MedwardError`."""
    if honest.ndim != 2 or len(honest) < least:
        raise MedwardError(f"{name}: needs {least} honest updates or more as rows, got shape {honest.shape}")
    return honest
