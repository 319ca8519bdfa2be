"""Mimic.

Which client is copied is chosen in each round from all honest updates of it; the paper learns the direction during the
first rounds and then keeps to one.

Reference: Karimireddy, He and Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medward.attacks.poisoning.crafted import checked_updates
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Mimic:
    """Mimic sends what one honest client sent, so that this one counts for many; nothing about it looks odd.

    The victim is the client furthest out along the direction in which honest updates vary most, unless it is given.
    """

    victim: int | None = None

    name: ClassVar[str] = "mimic"

    def craft(self, honest: Array, *, clients: int, malicious: int) -> Array:
        """(d,): the update of the victim."""
        del clients, malicious
        updates: Array = checked_updates(self.name, honest, 1 + (self.victim or 0))
        return np.array(updates[furthest_out(updates) if self.victim is None else self.victim])


def furthest_out(updates: Array) -> int:
    """Which of updates (n, d) lies furthest from their mean along the direction of their largest variance."""
    centred = updates - updates.mean(axis=0)
    _, vectors = np.linalg.eigh(centred @ centred.T)
    return int(np.argmax(np.abs(vectors[:, -1])))
