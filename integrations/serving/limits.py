"""What one request may cost, and the bounded pool that answers requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import HTTPException

from medward.guard.errors import MedwardError
from medward.guard.intake.picture import MOST_PIXELS

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the endpoint; each is checked before the work it bounds is done.

    `body_bytes` of a request, read within `body_seconds`; `rows` per request; `pixels` per uploaded image
    before it is decoded (the default holds a full-size radiograph); `workers` requests run at a time and
    `queue` wait, so bodies take ``(workers + queue) * body_bytes`` of memory at most. A report that is streamed is
    written and taken within `stream_seconds`, or stopped. `connections` may be open, each for `header_seconds` without
    a request.
    """

    body_bytes: int = 16 * 2**20
    body_seconds: float = 30.0
    rows: int = 64
    pixels: int = MOST_PIXELS
    workers: int = 2
    queue: int = 32
    connections: int = 256
    header_seconds: float = 10.0
    stream_seconds: float = 300.0

    def __post_init__(self) -> None:
        for bound in fields(self):
            value = getattr(self, bound.name)
            least = 0 if bound.name == "queue" else 1
            if value < least:
                raise MedwardError(f"limits.{bound.name} must be >= {least}, got {value}")


@dataclass(slots=True)
class Pool:
    """`workers` threads and a queue of `queue`; a request beyond both is refused at once with 503.

    Counts without a lock: every call comes from the one event loop.
    """

    workers: int
    queue: int
    jobs: int = field(default=0, init=False)
    _limiter: anyio.CapacityLimiter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(self.workers)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A place for one request, taken before its body is read: what waits is in memory."""
        if self.jobs >= self.workers + self.queue:
            raise HTTPException(503, "every worker is busy and the queue is full", {"Retry-After": "1"})
        self.jobs += 1
        try:
            yield
        finally:
            self.jobs -= 1

    async def run(self, job: Callable[[], _R]) -> _R:
        """Run `job` in a thread and return what it returns; the caller holds a slot."""
        return await anyio.to_thread.run_sync(job, limiter=self._limiter)
