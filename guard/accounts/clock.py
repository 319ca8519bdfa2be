"""Time that has passed, as it counts for what expires: one wrong clock moves it by a day at most.

Clocks jump: to 1970 until the first answer of a time server, by years after an empty battery. What expires by such a
clock is lost at the first query, alarms among it, and what was written at a wrong time may never expire. So expiry goes
by a time of its own. It moves as the clock does, never back, and never more than `LONGEST` from one use to the next: a
clock that jumps to and fro would have to do so once for every day. A deployment that is not used for longer than
`LONGEST` keeps what it knows for longer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST = 86400.0  # seconds


class Elapsed(NamedTuple):
    """The `time` that counts, in seconds, and what the clock said then."""

    time: float
    clock: float


def elapsed_time(before: Elapsed | None, clock: float) -> Elapsed | None:
    """The time that counts at Unix seconds `clock`: at first the clock's own; one that is no number changes nothing."""
    if not math.isfinite(clock):
        return before
    if before is None:
        return Elapsed(clock, clock)
    step = clock - before.clock
    if -LONGEST < step < 0:  # clocks that differ a little must not count the same seconds twice
        return before
    return Elapsed(before.time + min(max(step, 0.0), LONGEST), clock)


@dataclass(slots=True)
class SteadyClock:
    """`clock` without its jumps; safe to use from many threads."""

    clock: Callable[[], float]
    _last: Elapsed | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __call__(self) -> float:
        """The time that counts, 0 while the clock has said no number yet."""
        with self._lock:
            self._last = elapsed_time(self._last, self.clock())
            return self._last.time if self._last else 0.0
