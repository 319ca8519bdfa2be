"""Work of requests in worker threads: jobs, each done alone, and queries, which the guard may answer together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from medward.guard.errors import ModelError
from medward.guard.pending_answer import PendingAnswer
from medward.guard.types import Query

_R = TypeVar("_R")
SubmitAll = Callable[[Sequence[Query]], Sequence[PendingAnswer | Exception]]
"""Answers queries together but for the wait for their records: `Guard.submit_all`."""
_log = logging.getLogger("medward")


class GivenUp(Exception):
    """Nobody wants the work any more, and the model was not asked."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Work that raised `error`."""

    error: Exception


class Work(Generic[_R]):
    """Work of one request in a worker thread, which is either begun or given up before, never both."""

    def __init__(self, account: str, discard: Callable[[_R], None] | None, asked: float) -> None:
        self.account, self._discard, self.asked = account, discard, asked
        self.context = copy_context()  # of its request, whoever's turn it is when the work begins
        self.outcome: asyncio.Future[_R] = asyncio.get_running_loop().create_future()
        self.since: float | None = None
        self._lock, self._begun, self._given_up = threading.Lock(), False, False

    def begin(self) -> None:
        """Called just before the model is asked; raises `GivenUp` where it was given up before."""
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

    def dispose(self, found: _R | Failed) -> None:
        """Let go of what the work came to after it was given up."""
        if self._discard is not None and not isinstance(found, Failed):
            self._discard(found)


class JobWork(Work[_R]):
    """Work that is a job: what it returns is what the work comes to, and what it `discard`s when nobody wants it."""

    def __init__(
        self, account: str, job: Callable[[Work[_R]], _R], discard: Callable[[_R], None] | None, asked: float
    ) -> None:
        super().__init__(account, discard, asked)
        self._job = job

    def run(self) -> _R | Failed:
        """What the job returned or raised; one that would end the process ends itself alone."""
        found: dict[int, _R | Failed] = {}
        with _failing(found, 0):
            found[0] = self._job(self)
        return found[0]


class QueryWork(Work[PendingAnswer]):
    """Work that asks the guard one query, `alone` or with others; `read` makes the query, and may refuse to."""

    def __init__(self, account: str, read: Callable[[], Query], asked: float, *, alone: bool) -> None:
        super().__init__(account, None, asked)
        self._read, self.alone = read, alone

    def query(self) -> Query:
        """The query, which is then begun."""
        query = self.context.copy().run(self._read)
        self.begin()
        return query


def run_together(works: Sequence[QueryWork], submit_all: SubmitAll) -> list[PendingAnswer | Failed]:
    """What each of `works` came to, whose queries are answered together."""
    found: dict[int, PendingAnswer | Failed] = {}
    queries: dict[int, Query] = {}
    for place, work in enumerate(works):
        with _failing(found, place):
            queries[place] = work.query()
    with _failing(found, *queries):
        for place, answer in zip(queries, submit_all([*queries.values()]), strict=True):
            found[place] = Failed(answer) if isinstance(answer, Exception) else answer
    return [found[place] for place in range(len(works))]


@contextmanager
def _failing(found: dict[int, Any], *places: int) -> Iterator[None]:
    """What raises within has failed at all `places`; what would end the process ends nothing else."""
    try:
        yield
    except Exception as error:
        found |= dict.fromkeys(places, Failed(error))
    except BaseException as error:
        _log.exception("a job ended with %s", type(error).__name__)
        found |= dict.fromkeys(places, Failed(ModelError(f"the model raised {type(error).__name__}")))
