"""Group commit: what several threads want on the disk is written together, and all wait for one fsync.

Reference: DeWitt et al., "Implementation techniques for main memory database systems", SIGMOD 1984, sec. 5.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from medward.guard.errors import MedwardError, UnavailableError

_T = TypeVar("_T")
LARGEST_GROUP = 512
IDLE_SECONDS = 1.0  # after which the thread ends; the next that is submitted starts another


class GroupCommit(Generic[_T]):
    """Hands what was submitted since the last call to `commit`, in its order, in one thread of its own.

    Whatever is submitted while `commit` runs is the next group, so groups grow with the load and nobody waits for
    others to come. If `commit` raises, all of its group have failed. A child process after a fork starts with nothing
    submitted: what waited is its parent's.
    """

    def __init__(self, commit: Callable[[Sequence[_T]], None], *, name: str) -> None:
        self._commit, self._name = commit, name
        self._waiting: list[tuple[_T, Future[None]]] = []
        self._arrived, self._running = threading.Condition(), False
        _alive.add(self)

    def submit(self, item: _T) -> Future[None]:
        """Have `item` committed; the future is done once it is, and cannot be cancelled."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        with self._arrived:
            self._waiting.append((item, done))
            self._arrived.notify()
            starts, self._running = not self._running, True
        if starts:
            try:
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            except RuntimeError:  # no more threads, or the interpreter ends
                self._run(idle=0)
        return done

    def _run(self, idle: float = IDLE_SECONDS) -> None:
        while group := self._next_group(idle):
            failed: Exception | None = None
            try:
                self._commit([item for item, _ in group])
            except Exception as error:
                failed = error
            for _, done in group:
                if failed is None:
                    done.set_result(None)
                else:
                    done.set_exception(_same_error(failed))

    def _next_group(self, idle: float) -> list[tuple[_T, Future[None]]]:
        """What waits, oldest first; nothing after `idle` seconds in which nothing came, and then nobody runs."""
        with self._arrived:
            self._arrived.wait_for(lambda: bool(self._waiting), timeout=idle)
            group, self._waiting = self._waiting[:LARGEST_GROUP], self._waiting[LARGEST_GROUP:]
            self._running = bool(group)
            return group

    def start_empty(self) -> None:
        """Begin anew in a process that was forked, whose threads are gone and whose locks may be held by nobody."""
        self._waiting, self._arrived, self._running = [], threading.Condition(), False


def _same_error(error: Exception) -> UnavailableError:
    """An error of one's own for each who waits: what was submitted is sound, so it is the disk's or the log's fault."""
    said = isinstance(error, (UnavailableError, MedwardError))
    return UnavailableError(str(error) if said else f"{type(error).__name__} while it was written: {error}")


_alive: weakref.WeakSet[GroupCommit[Any]] = weakref.WeakSet()


def _start_all_empty() -> None:
    for each in _alive:
        each.start_empty()


os.register_at_fork(after_in_child=_start_all_empty)
