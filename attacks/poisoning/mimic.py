"""Mimic.

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
    """Mimic sends what one honest client sent, so that this one counts for many; nothing about it looks odd."""

    victim: int = 0

    name: ClassVar[str] = "mimic"

    def craft(self, honest: Array, *, clients: int, malicious: int) -> Array:
        """(d,): the update of the victim."""
        del clients, malicious
        updates: Array = checked_updates(self.name, honest, self.victim + 1)
        return np.array(updates[self.victim])
