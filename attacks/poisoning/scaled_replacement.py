"""Scaled replacement.

Reference: Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020 (model replacement).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledReplacement:
    """Scaled replacement sends what the attacker learned from poisoned rows, multiplied so that the mean becomes it.

    Unlike crafted updates it starts from the attacker's own poisoned update, `learned` (d,). Without `factor` it is the
    clients per malicious one, and the other updates are taken to be short, as near convergence.
    """

    factor: float | None = None

    name: ClassVar[str] = "scaled-replacement"

    def scaled(self, learned: Array, *, clients: int, malicious: int) -> Array:
        """(d,): the learned update, longer."""
        return learned * (clients / malicious if self.factor is None else self.factor)
