"""The bounded pool that answers requests: places, turns of the accounts that wait, threads whose work may be given up.

Turns are fair queueing: accounts that wait are served in rotation, so that one with many requests holds up the others
by one at most. Reference: Nagle, "On packet switches with infinite storage", RFC 970, 1985.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from medward.guard.errors import ModelError
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.metrics import NoteTime, unnoted
from medward.integrations.serving.refusal import CountRefusal, refusal, uncounted

_R = TypeVar("_R")
_log = logging.getLogger("medward")
BUSY = "every worker is busy and the queue is full"
HUNG = "the model has not answered for longer than the deadline; restart the server if it goes on"


class GivenUp(Exception):
    """Nobody wants the work any more, and the model was not asked."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that raised `error`."""

    error: Exception


class Work(Generic[_R]):
    """Work of one request in a worker thread, which is either begun or given up before, never both."""

    def __init__(
        self, account: str, job: Callable[[Work[_R]], _R], discard: Callable[[_R], None] | None, asked: float
    ) -> None:
        self.account, self._job, self._discard, self.asked = account, job, discard, asked
        self.context = copy_context()  # of its request, whoever's turn it is when the work begins
        self.outcome: asyncio.Future[_R] = asyncio.get_running_loop().create_future()
        self.since: float | None = None
        self._lock, self._begun, self._given_up = threading.Lock(), False, False

    def begin(self) -> None:
        """Called by the job just before it asks the model; raises `GivenUp` where it was given up before."""
        with self._lock:
            if self._given_up:
                raise GivenUp
            self._begun = True

    def give_up(self) -> bool:
        """Want it no more; returns whether the model was not asked, and never will be."""
        with self._lock:
            self._given_up = True
            self.outcome.cancel()
            return not self._begun

    def run(self) -> _R | Failed:
        """What the job returned or raised; one that would end the process ends itself alone."""
        try:
            return self._job(self)
        except Exception as error:
            return Failed(error)
        except BaseException as error:
            _log.exception("a job ended with %s", type(error).__name__)
            return Failed(ModelError(f"the model raised {type(error).__name__}"))

    def dispose(self, found: _R | Failed) -> None:
        """Let go of what the job returned after it was given up."""
        if self._discard is not None and not isinstance(found, Failed):
            self._discard(found)


@dataclass(slots=True, eq=False)
class Pool:
    """`limits.workers` threads and a queue; a request beyond both, or beyond its account's share, is refused at once.

    A thread that was given up on stays busy until its job returns, so there are never more; one that is busy for longer
    than ``limits.deadline`` hangs. `shared` says that there are several accounts: only then one has a share.
    Counts without a lock: every call comes from the one event loop. `clock` is in seconds.
    """

    limits: Limits
    shared: bool = True
    count: CountRefusal = uncounted
    note: NoteTime = unnoted
    clock: Callable[[], float] = time.monotonic
    draining: bool = field(default=False, init=False)
    _places: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _waiting: OrderedDict[str, deque[Work[Any]]] = field(default_factory=OrderedDict, init=False, repr=False)
    _running: set[Work[Any]] = field(default_factory=set, init=False, repr=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False, repr=False)
    _threads: anyio.CapacityLimiter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._threads = anyio.CapacityLimiter(self.limits.workers)

    @property
    def jobs(self) -> int:
        """Requests that have a place."""
        return self._places.total()

    @property
    def hung(self) -> int:
        """Threads that hang."""
        now = self.clock()
        return sum(work.since is not None and now - work.since > self.limits.deadline for work in self._running)

    @property
    def all_hung(self) -> bool:
        """Whether no thread is left to answer."""
        return self.hung >= self.limits.workers

    def check_place(self, account: str) -> None:
        """Refuse a request of `account` for which there is no place now: 429 where its own share is taken, else 503."""
        if self.all_hung:
            raise refusal(self.count, 503, "hung", HUNG, 30)
        if self.jobs >= self.limits.places:
            raise refusal(self.count, 503, "busy", BUSY, 1)
        if self.shared and self._places[account] >= (most := self.limits.share_of(self.limits.places)):
            said = f"{most} requests of this account are being answered or wait, which is its share; ask one by one"
            raise refusal(self.count, 429, "share", said, 1)

    @contextmanager
    def place(self, account: str) -> Iterator[None]:
        """A place for one request whose body is there."""
        self.check_place(account)
        self._places[account] += 1
        try:
            yield
        finally:
            self._places[account] -= 1
            if not self._places[account]:
                del self._places[account]

    def submit(
        self, account: str, job: Callable[[Work[_R]], _R], discard: Callable[[_R], None] | None = None
    ) -> Work[_R]:
        """Work that is done when it is `account`'s turn; the caller holds a place.

        What it returned after it was given up goes to `discard`, in a thread.
        """
        work = Work(account, job, discard, self.clock())
        self._waiting.setdefault(account, deque()).append(work)
        self._take_turns()
        return work

    def give_up(self, work: Work[Any]) -> bool:
        """See `Work.give_up`; work that waits leaves the queue at once."""
        unasked, queue = work.give_up(), self._waiting.get(work.account, deque())
        if work.since is None and work in queue:
            queue.remove(work)
            if not queue:
                del self._waiting[work.account]
        return unasked

    async def run(self, account: str, job: Callable[[], _R]) -> _R:
        """Run `job` to its end when it is `account`'s turn, even if the caller is cancelled meanwhile."""
        await anyio.lowlevel.checkpoint()  # who was cancelled begins no more
        work = self.submit(account, lambda _: job())
        with anyio.CancelScope(shield=True):
            await asyncio.wait((work.outcome,))
        return work.outcome.result()

    def _take_turns(self) -> None:
        """Start what waits while threads are free, one of each account in rotation."""
        while self._waiting and len(self._running) < self.limits.workers:
            account, queue = self._waiting.popitem(last=False)
            work = queue.popleft()
            if queue:
                self._waiting[account] = queue
            work.since = self.clock()
            self.note("queue", work.since - work.asked)
            self._running.add(work)
            task = asyncio.create_task(self._finish(work), context=work.context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _finish(self, work: Work[_R]) -> None:
        """Run the work in a thread, and hand on what it came to, unless nobody wants it any more."""
        try:
            found = await anyio.to_thread.run_sync(work.run, abandon_on_cancel=True, limiter=self._threads)
            if work.outcome.done():
                await anyio.to_thread.run_sync(work.dispose, found, limiter=self._threads)
            elif isinstance(found, Failed):
                work.outcome.set_exception(found.error)
            else:
                work.outcome.set_result(found)
        finally:
            if work.since is not None:
                self.note("answer", self.clock() - work.since)
            self._running.discard(work)
            self._take_turns()
