"""The bounded pool that answers requests: places, turns of the accounts that wait, threads whose work may be given up.

Turns are fair queueing: accounts that wait are served in rotation, so that one with many requests holds up the others
by one at most. Queries that wait are answered together; none waits for others to come.
Reference: Nagle, "On packet switches with infinite storage", RFC 970, 1985.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from medward.guard.pending_answer import PendingAnswer
from medward.guard.types import Query
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.metrics import NoteTime, unnoted
from medward.integrations.serving.refusal import CountRefusal, refusal, uncounted
from medward.integrations.serving.work import Failed, JobWork, QueryWork, SubmitAll, Work, run_together

_R = TypeVar("_R")
BUSY = "every worker is busy and the queue is full"
HUNG = "the model has not answered for longer than the deadline; restart the server if it goes on"


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
    submit_all: SubmitAll | None = None
    draining: bool = field(default=False, init=False)
    _places: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _waiting: OrderedDict[str, deque[Work[Any]]] = field(default_factory=OrderedDict, init=False, repr=False)
    _running: set[tuple[Work[Any], ...]] = field(default_factory=set, init=False, repr=False)
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
        begun = (works[0].since for works in self._running)
        return sum(since is not None and now - since > self.limits.deadline for since in begun)

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
        return self._wait(JobWork(account, job, discard, self.clock()))

    def ask(self, account: str, read: Callable[[], Query], *, alone: bool = False) -> Work[PendingAnswer]:
        """Work that asks a query when it is `account`'s turn, with others that wait; the caller holds a place.

        `read` makes the query, and may refuse to; where that or the answer takes long, it is asked `alone`, or others
        would wait for it. A pool that asks has a `submit_all`.
        """
        return self._wait(QueryWork(account, read, self.clock(), alone=alone))

    def _wait(self, work: Work[_R]) -> Work[_R]:
        self._waiting.setdefault(work.account, deque()).append(work)
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
        """Start what waits while threads are free: one of each account in rotation, queries several at a time.

        A thread takes its part of those that wait, so that none is idle soon while another has a long batch.
        """
        while self._waiting and len(self._running) < self.limits.workers:
            waiting = sum(map(len, self._waiting.values()))
            most = min(self.limits.batch, -(-waiting // self.limits.workers))
            works = [self._next()]
            while len(works) < most and self._waiting and _joins(works[0]) and _joins(self._first):
                works.append(self._next())
            now = self.clock()
            for work in works:
                work.since = now
                self.note("queue", now - work.asked)
            busy = tuple(works)
            self._running.add(busy)
            context = works[0].context if len(works) == 1 else Context()  # nobody's, where it is of several
            task = asyncio.create_task(self._finish(busy), context=context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self) -> Work[Any]:
        """The work whose turn it is."""
        account, queue = self._waiting.popitem(last=False)
        work = queue.popleft()
        if queue:
            self._waiting[account] = queue
        return work

    @property
    def _first(self) -> Work[Any]:
        """The work whose turn it is; some waits."""
        return next(iter(self._waiting.values()))[0]

    async def _finish(self, works: tuple[Work[Any], ...]) -> None:
        """Run works in a thread, and hand on what each came to, unless nobody wants it any more."""
        try:
            found = await anyio.to_thread.run_sync(self._run, works, abandon_on_cancel=True, limiter=self._threads)
            for work, each in zip(works, found, strict=True):
                if work.outcome.done():
                    await anyio.to_thread.run_sync(work.dispose, each, limiter=self._threads)
                elif isinstance(each, Failed):
                    work.outcome.set_exception(each.error)
                else:
                    work.outcome.set_result(each)
        finally:
            for work in works:
                if work.since is not None:
                    self.note("answer", self.clock() - work.since)
            self._running.discard(works)
            self._take_turns()

    def _run(self, works: Sequence[Work[Any]]) -> list[Any]:
        """What `works` came to: a job, or queries."""
        (first, *_) = works
        if isinstance(first, JobWork):
            return [first.run()]
        assert self.submit_all is not None
        return run_together([each for each in works if isinstance(each, QueryWork)], self.submit_all)


def _joins(work: Work[Any]) -> bool:
    """Whether `work` may be done together with others."""
    return isinstance(work, QueryWork) and not work.alone
