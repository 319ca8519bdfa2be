"""What one request may cost, and the bounded pool that answers requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import HTTPException

from guard.errors import MedwardError

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the endpoint; each is checked before the work it bounds is done.

    `body_bytes` of a request, read within `body_seconds`; `rows` per request; `pixels` per uploaded image
    before it is decoded (the default holds a full-size radiograph); `workers` requests run at a time and
    `queue` wait.
    """

    body_bytes: int = 16 * 2**20
    body_seconds: float = 30.0
    rows: int = 64
    pixels: int = 25_000_000
    workers: int = 2
    queue: int = 32

    def __post_init__(self) -> None:
        for bound in fields(self):
            value = getattr(self, bound.name)
            least = 0 if bound.name == "queue" else 1
            if value < least:
                raise MedwardError(f"limits.{bound.name} must be >= {least}, got {value}")


@dataclass(slots=True)
class Pool:
    """`workers` threads and a queue of `queue`; a job beyond both is refused at once with 503.

    Counts without a lock: every call comes from the one event loop.
    """

    workers: int
    queue: int
    jobs: int = field(default=0, init=False)
    _limiter: anyio.CapacityLimiter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(self.workers)

    async def run(self, job: Callable[[], R]) -> R:
        """Run `job` in a thread and return what it returns."""
        if self.jobs >= self.workers + self.queue:
            raise HTTPException(503, "every worker is busy and the queue is full", {"Retry-After": "1"})
        self.jobs += 1
        try:
            return await anyio.to_thread.run_sync(job, limiter=self._limiter)
        finally:
            self.jobs -= 1
