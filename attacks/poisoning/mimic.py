"""Mimic.

Reference: Karimireddy, He and Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

from medward.attacks.poisoning.crafted import Floats, checked_updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Mimic:
    """Mimic sends what one honest client sent, so that this one counts for many; nothing about it looks odd."""

    victim: int = 0

    name = "mimic"

    def craft(self, honest: Floats, *, clients: int, malicious: int) -> Floats:
        """(d,): the update of the victim."""
        del clients, malicious
        updates: Floats = checked_updates(self.name, honest, self.victim + 1)
        return updates[self.victim].copy()
