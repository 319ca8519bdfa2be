"""Sign flip.

Reference: Li et al., "RSA: Byzantine-robust stochastic aggregation methods for distributed learning", AAAI 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medward.attacks.poisoning.crafted import checked_updates
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SignFlip:
    """Sign flip sends the mean update the other way round, `scale` times as long."""

    scale: float = 1.0

    name: ClassVar[str] = "sign-flip"

    def craft(self, honest: Array, *, clients: int, malicious: int) -> Array:
        """(d,): minus the mean."""
        del clients, malicious
        return np.asarray(-self.scale * checked_updates(self.name, honest).mean(axis=0))
