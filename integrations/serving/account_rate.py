"""How often one account may ask: a moving window of the library `limits`, shared by replicas that share a Redis."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

from medward.guard.errors import MedwardError, UnavailableError
from medward.integrations.serving.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import MovingWindowRateLimiter

_log = logging.getLogger("medward")
_PREFIX = "medward-rate"
_PATIENCE = 0.5  # seconds that a Redis may take
_CLOCKS_DIFFER = 60.0  # seconds by which the clocks of replicas may differ


@dataclass(frozen=True, slots=True)
class AccountRate:
    """The rate of each account: never more requests than each of `items` says in any window of its length.

    Counted in this process, or in the Redis at `redis` for all replicas that count there. Windows go by the clocks of
    the hosts; what was counted by a clock that was then set back is forgotten. What is refused does not count.
    """

    items: tuple[RateLimitItem, ...]
    _limiter: MovingWindowRateLimiter
    _breaker: CircuitBreaker
    _shared: bool

    @classmethod
    def of(cls, rate: str, redis: str | None = None) -> AccountRate | None:
        """The rate that a text such as ``10/second; 20000/day`` says; None for an empty one."""
        if not rate.strip():
            return None
        try:
            from limits import parse_many
            from limits.storage import MemoryStorage, RedisStorage
            from limits.strategies import MovingWindowRateLimiter
        except ModuleNotFoundError:
            raise MedwardError("rate: needs the package limits: pip install 'medward[serve]'") from None
        try:
            items = tuple(parse_many(rate))
        except ValueError:
            items = ()
        if not items or any(item.amount < 1 or item.multiples < 1 for item in items):
            raise MedwardError(f"rate: {rate!r} is not a rate; write '60/minute', or several: '10/second; 20000/day'")
        storage = (
            MemoryStorage()
            if redis is None
            else RedisStorage(redis, key_prefix=_PREFIX, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)
        )
        return cls(items, MovingWindowRateLimiter(storage), CircuitBreaker(), redis is not None)

    async def wait(self, account: str) -> float:
        """Count a request of `account`: 0, or the seconds after which it may be asked again.

        Raises `UnavailableError` where Redis does not answer.
        """
        if self._shared:
            return await anyio.to_thread.run_sync(self._wait, account)
        return self._wait(account)

    def _wait(self, account: str) -> float:
        with self._breaker.trying():
            try:
                full = [item for item in self.items if not self._limiter.test(item, account)]
                if full and self._forgot(full, account):
                    full = [item for item in self.items if not self._limiter.test(item, account)]
                if not full:
                    full = [item for item in self.items if not self._limiter.hit(item, account)]
                ends = [self._limiter.get_window_stats(item, account).reset_time for item in full]
            except self._limiter.storage.base_exceptions as error:
                raise UnavailableError(f"rate: the Redis that counts requests does not answer: {error}") from error
        return max((max(end - time.time(), 0.001) for end in ends), default=0.0)

    def _forgot(self, full: list[RateLimitItem], account: str) -> bool:
        """Forget counts of `full` windows that end later than one that begins now could: the clock was set back.

        Otherwise an account would wait for as long as the clock was ahead, be it years.
        """
        now = time.time()
        ahead = [
            item
            for item in full
            if self._limiter.get_window_stats(item, account).reset_time > now + item.get_expiry() + _CLOCKS_DIFFER
        ]
        for item in ahead:
            self._limiter.clear(item, account)
        return bool(ahead)
