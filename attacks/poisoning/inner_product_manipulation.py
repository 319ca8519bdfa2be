"""Inner-product manipulation (IPM).

Reference: Xie, Koyejo and Gupta, "Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation", UAI
2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medward.attacks.poisoning.crafted import checked_updates
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerProductManipulation:
    """Inner-product manipulation sends minus `factor` times the honest mean: short, and against the descent."""

    factor: float = 0.5

    name: ClassVar[str] = "inner-product-manipulation"

    def craft(self, honest: Array, *, clients: int, malicious: int) -> Array:
        """(d,): minus `factor` means."""
        del clients, malicious
        return np.asarray(-self.factor * checked_updates(self.name, honest).mean(axis=0))
