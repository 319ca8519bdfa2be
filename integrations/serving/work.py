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
from medward.guard.types import Answer, Query

_R = TypeVar("_R")
AnswerAll = Callable[[Sequence[Query]], Sequence[Answer | Exception]]
"""Answers queries together, each with its answer or what `Guard.answer` would raise: `Guard.answer_all`."""
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


class QueryWork(Work[_R]):
    """Work that asks the guard one query, alone or with others.

    `read` makes the query, and may refuse to; `finish` makes of the answer what the work comes to.
    """

    def __init__(self, account: str, read: Callable[[], Query], finish: Callable[[Answer], _R], asked: float) -> None:
        super().__init__(account, None, asked)
        self._read, self._finish = read, finish

    def query(self) -> Query:
        """The query, which is then begun."""
        query = self.context.copy().run(self._read)
        self.begin()
        return query

    def finished(self, answer: Answer) -> _R:
        """What the work comes to by `answer`."""
        return self.context.copy().run(self._finish, answer)


def run_together(works: Sequence[QueryWork[Any]], answer_all: AnswerAll) -> list[Any]:
    """What each of `works` came to, or `Failed`; their queries are answered together."""
    found: dict[int, Any] = {}
    queries: dict[int, Query] = {}
    for place, work in enumerate(works):
        with _failing(found, place):
            queries[place] = work.query()
    answers: dict[int, Answer | Exception] = {}
    try:
        answers = dict(zip(queries, answer_all([*queries.values()]), strict=True))
    except BaseException as error:
        failed = _named(error)
        answers = dict.fromkeys(queries, failed)
    for place, answer in answers.items():
        with _failing(found, place):
            if isinstance(answer, Exception):
                raise answer
            found[place] = works[place].finished(answer)
    return [found[place] for place in range(len(works))]


@contextmanager
def _failing(found: dict[int, Any], place: int) -> Iterator[None]:
    """What raises within has failed at `place`."""
    try:
        yield
    except BaseException as error:
        found[place] = Failed(_named(error))


def _named(error: BaseException) -> Exception:
    """`error`, or one of the model in place of one that would end the process."""
    if isinstance(error, Exception):
        return error
    _log.error("a job ended with %s", type(error).__name__, exc_info=error)
    return ModelError(f"the model raised {type(error).__name__}")
