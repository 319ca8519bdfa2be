"""The guard that answers, which a reload of its policy replaces between two batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from medward.guard.errors import UnavailableError
from medward.guard.pipeline import Guard

SWAP_SECONDS = 5.0  # for which batches that come wait, at most, until those under way are done


@dataclass(frozen=True, slots=True)
class ServedGuard:
    """A guard that answers, and `version`, the name of its bundle that clients are told."""

    guard: Guard
    version: str


@dataclass(slots=True, eq=False)
class ServedPlace:
    """The place of the guard that answers `now`; safe for many threads.

    Guarantee: no batch begins or runs while the guard is replaced, so each is of one guard from its first step to its
    last, and all records before the replacement are of the one before. `refused` says why a policy that was to take its
    place did not; "" where the last one that was asked for did.
    """

    now: ServedGuard
    refused: str = ""
    _change: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)
    _running: int = field(default=0, init=False)
    _changing: bool = field(default=False, init=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as one may think, a sentence each."""
        return (*self.now.guard.notes, *([self.refused] if self.refused else []))

    @contextmanager
    def answering(self) -> Iterator[ServedGuard]:
        """The guard that answers a batch within."""
        with self._change:
            self._change.wait_for(lambda: not self._changing)
            self._running += 1
        try:
            yield self.now
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    @contextmanager
    def between_batches(self, within: float = SWAP_SECONDS) -> Iterator[None]:
        """Let no batch run within; waits so many seconds for those under way, or raises `UnavailableError`.

        One thread at a time may ask for it.
        """
        with self._change:
            self._changing = True
        try:
            with self._change:
                if not self._change.wait_for(lambda: not self._running, within):
                    raise UnavailableError(f"requests under way did not end within {within:g} s; ask again")
            yield
        finally:
            with self._change:
                self._changing = False
                self._change.notify_all()
