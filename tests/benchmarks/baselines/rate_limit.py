"""A plain rate limit: more queries than `limit` in its period are too many, whatever they ask."""

from __future__ import annotations

from dataclasses import dataclass

from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """The rule within one period."""

    limit: int = 1000

    def start(self) -> int:
        """No query so far."""
        return 0

    def step(self, state: int, features: Array, label: int) -> tuple[int, bool]:
        """One more query; only that there is one counts."""
        return state + 1, state + 1 > self.limit
