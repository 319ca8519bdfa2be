"""A copy of what lies elsewhere: fetched by one thread at a time, and used for a bounded time."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from medward.guard.errors import MedwardError, UnavailableError

_T = TypeVar("_T")
_log = logging.getLogger("medward")
FAILURE_PAUSE = 2.0  # seconds after a failed fetch in which none is tried
FETCH_PATIENCE = 6.0  # seconds that who asks waits for a fetch at most


class FetchedCopy(Generic[_T]):
    """A copy of what `fetch` returns, which is at most `fresh` seconds old, or at most `stale` where fetching fails.

    Its age counts from when the fetch began. However many ask, one fetch runs at a time, in a thread of its own, and
    after one that failed there is none for `FAILURE_PAUSE` seconds. Nobody waits longer than `FETCH_PATIENCE`
    seconds for one. `name` says in messages what it is a copy of. `fetch` raises `MedwardError`, `UnavailableError` or
    `OSError` where it fails.
    """

    def __init__(
        self,
        fetch: Callable[[], _T],
        *,
        name: str,
        fresh: float,
        stale: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch, self._name, self._fresh, self._stale, self._clock = fetch, name, fresh, max(fresh, stale), clock
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="medward-fetch")
        self._under_way: Future[None] | None = None
        self._value: tuple[_T, float] | None = None  # and when it was fetched
        self._tried = float("-inf")
        self._failure = ""

    @property
    def failure(self) -> str:
        """Why the last fetch failed; "" where it did not."""
        return self._failure

    async def current(self) -> _T:
        """The copy; raises `UnavailableError` where there is none that may still be used."""
        if (value := self._within(self._fresh)) is None:
            under_way = self._begin(FAILURE_PAUSE if self._failure else 0.0)
            if under_way is not None and not (self._failure and self._within(self._stale)):
                await self._end_of(under_way)
            value = self._within(self._stale)
        if value is None:
            raise UnavailableError(f"{self._name}: {self._failure or 'they did not come in time'}")
        return value[0]

    async def renewed(self, pause: float) -> _T:
        """The copy, fetched anew unless that was tried in the last `pause` seconds; raises as `current` does."""
        under_way = self._begin(pause)
        if under_way is not None:
            await self._end_of(under_way)
        return await self.current()

    async def _end_of(self, under_way: Future[None]) -> None:
        await asyncio.wait((asyncio.wrap_future(under_way),), timeout=FETCH_PATIENCE)

    def _within(self, seconds: float) -> tuple[_T, float] | None:
        value = self._value
        return value if value is not None and self._clock() - value[1] <= seconds else None

    def _begin(self, pause: float) -> Future[None] | None:
        """The fetch that is under way, begun if there is none and the last one began more than `pause` seconds ago."""
        with self._lock:
            if self._under_way is not None and not self._under_way.done():
                return self._under_way
            if self._clock() - self._tried < pause:
                return None
            self._tried = self._clock()
            self._under_way = self._threads.submit(self._renew, self._tried)
            return self._under_way

    def _renew(self, begun: float) -> None:
        try:
            value = self._fetch()
        except (MedwardError, UnavailableError, OSError) as error:
            if not self._failure:
                _log.error("%s: %s", self._name, error)
            self._failure = str(error) or type(error).__name__
        except Exception as error:
            _log.exception("%s failed", self._name)
            self._failure = type(error).__name__
        else:
            self._value, self._failure = (value, begun), ""
