"""A circuit breaker before what may be away: who asks next is told at once, instead of waiting as long as the last.

Reference: Nygard, "Release It!", 2nd ed., 2018, ch. 5 (circuit breaker).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from medward.guard.accounts.stores import CorruptStateError, JsonValue, StepAll, Store, StoreStep
from medward.guard.errors import UnavailableError
from medward.integrations.serving.metrics import NoteTime, unnoted

_R = TypeVar("_R")
AWAY_KEPT = 2.0  # seconds for which it is remembered that a part was away


class CircuitBreaker:
    """Remembers for `AWAY_KEPT` seconds that a part was away; after that one call at a time tries it again.

    Safe for many threads. `clock` is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._said, self._until, self._tried = "", 0.0, False

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Ask the part within, or raise `UnavailableError` at once with what it raised last."""
        with self._lock:
            trial = bool(self._said)
            if trial and (self._tried or self._clock() < self._until):
                raise UnavailableError(self._said)
            self._tried = trial
        said = ""
        try:
            yield
        except CorruptStateError:  # it answered
            raise
        except UnavailableError as error:
            said = str(error)
            raise
        finally:
            with self._lock:
                if said or trial or not self._said:  # a call from before it failed proves nothing of now
                    self._said, self._until = said, self._clock() + AWAY_KEPT
                self._tried = self._tried and not trial


class BreakerStore:
    """A store of accounts behind a circuit breaker; otherwise `store` itself (`guard.accounts.stores.Store`)."""

    def __init__(self, store: Store, breaker: CircuitBreaker | None = None, note: NoteTime = unnoted) -> None:
        self._store, self._breaker, self._note = store, breaker or CircuitBreaker(), note

    def transact(self, key: str, step: StoreStep[_R], *, ttl: float | None = None) -> _R:
        """As the store does."""
        with self._breaker.trying():
            return self._store.transact(key, step, ttl=ttl)

    def transact_all(self, keys: Sequence[str], step: StepAll[_R], *, ttl: float | None = None) -> _R:
        """As the store does; how long it takes is noted."""
        began = time.perf_counter()
        try:
            with self._breaker.trying():
                return self._store.transact_all(keys, step, ttl=ttl)
        finally:
            self._note("store", time.perf_counter() - began)

    def get(self, key: str) -> JsonValue:
        """As the store does."""
        with self._breaker.trying():
            return self._store.get(key)

    def state_keys(self) -> Iterator[str]:
        """As the store does, which is asked page by page."""
        return self._store.state_keys()

    def now(self) -> float:
        """As the store does, which waits for nobody."""
        return self._store.now()

    def delete(self, key: str) -> None:
        """As the store does."""
        with self._breaker.trying():
            self._store.delete(key)

    def close(self) -> None:
        """As the store does."""
        self._store.close()
