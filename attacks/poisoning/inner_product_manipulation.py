"""Inner-product manipulation (IPM).

Reference: Xie, Koyejo and Gupta, "Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation", UAI 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

from medward.attacks.poisoning.crafted import Floats, checked_updates


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerProductManipulation:
    """Inner-product manipulation sends minus `factor` times the honest mean: short enough to pass, and against the descent."""

    factor: float = 0.5

    name = "inner-product-manipulation"

    def craft(self, honest: Floats, *, clients: int, malicious: int) -> Floats:
        """(d,): minus `factor` means."""
        del clients, malicious
        return -self.factor * checked_updates(self.name, honest).mean(axis=0)
