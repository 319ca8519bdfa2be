"""Sign flip.

Reference: Li et al., "RSA: Byzantine-robust stochastic aggregation methods for distributed learning", AAAI 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

from medward.attacks.poisoning.crafted import Floats, checked_updates


@dataclass(frozen=True, slots=True, kw_only=True)
class SignFlip:
    """Sign flip sends the mean update the other way round, `scale` times as long."""

    scale: float = 1.0

    name = "sign-flip"

    def craft(self, honest: Floats, *, clients: int, malicious: int) -> Floats:
        """(d,): minus the mean."""
        del clients, malicious
        return -self.scale * checked_updates(self.name, honest).mean(axis=0)
