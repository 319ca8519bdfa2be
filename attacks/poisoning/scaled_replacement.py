"""Scaled replacement.

Reference: Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020 (model replacement).
"""

from __future__ import annotations

from dataclasses import dataclass

from medward.attacks.poisoning.crafted import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledReplacement:
    """Scaled replacement sends what the attacker learned from poisoned rows, multiplied so that the mean becomes it.

    Unlike other crafted updates it starts from the attacker's own poisoned update, `learned` (d,). Without `factor` it is
    the clients per malicious one.
    """

    factor: float | None = None

    name = "scaled-replacement"

    def scaled(self, learned: Floats, *, clients: int, malicious: int) -> Floats:
        """(d,): the learned update, longer."""
        return learned * (clients / malicious if self.factor is None else self.factor)
