"""What a person sees while a writer is asked: how far an attack is, and how long the rest may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Say = Callable[[str], None]
"""Where a sentence for the person who waits goes."""
SAID_EVERY = 10.0
"""Seconds between two sentences."""


def say_nothing(_: str) -> None:
    """Nobody waits."""


@dataclass(slots=True, kw_only=True)
class TurnProgress:
    """Turn progress says every few seconds how many of `total` conversations are over, and when all will be."""

    what: str
    total: int
    say: Say
    clock: Callable[[], float] = time.monotonic
    _done: int = 0
    _begun: float = field(init=False)
    _said: float = field(init=False)

    def __post_init__(self) -> None:
        self._begun = self._said = self.clock()

    def step(self, count: int = 1) -> None:
        """So many more conversations are over, or need not be held."""
        self._done += count
        now = self.clock()
        if now - self._said < SAID_EVERY or not self._done:
            return
        self._said = now
        left = (now - self._begun) * (self.total - self._done) / self._done
        self.say(
            f"{self.what}: {self._done:,} of {self.total:,} conversations after {_words(now - self._begun)}, "
            f"about {_words(left)} left at this pace"
        )


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
