"""Who asks, in one's own application: the principal of the request at hand, and functions whose inputs are guarded.

What an application does with a guard is `guard.answer(Query(...))`, in whatever thread it is in, or
`await guard.answer_async(Query(...))` in an event loop. Where the call is deep in code that knows of no request, the
principal is passed on by `contextvars`, which threads of a web framework and tasks of an event loop inherit.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, overload

from medward.guard.accounts.names import checked_principal
from medward.guard.errors import MedwardError
from medward.guard.pipeline import Guard
from medward.guard.types import Answer, Principal, Query

_P = ParamSpec("_P")
_asking: ContextVar[Principal | None] = ContextVar("medward_principal", default=None)


def current_principal() -> Principal:
    """Who asks in this thread or task, as `GuardMiddleware` or `asking_as` said. Raises `MedwardError` without one."""
    principal = _asking.get()
    if principal is None:
        raise MedwardError(
            "principal: nobody is known to ask; add GuardMiddleware, use asking_as(principal), or give principal=..."
        )
    return principal


@contextmanager
def asking_as(principal: Principal) -> Iterator[Principal]:
    """Let `principal` be who asks within, for code that a request does not reach: a worker of a queue, a notebook."""
    checked = checked_principal(principal)
    token = _asking.set(checked)
    try:
        yield checked
    finally:
        _asking.reset(token)


class GuardedFunction:
    """A guarded function is a decorator: what a function prepares is asked of `guard`, and the answer comes instead."""

    def __init__(self, guard: Guard, principal: Principal | Callable[..., Principal]) -> None:
        self._guard, self._principal = guard, principal

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, prepare: Callable[_P, Awaitable[object]]
    ) -> Callable[_P, Awaitable[Answer]]: ...
    @overload
    def __call__(self, prepare: Callable[_P, object]) -> Callable[_P, Answer]: ...
    def __call__(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """`prepare`, but its inputs are asked; an ``async`` function stays one."""
        if inspect.iscoroutinefunction(prepare):

            @functools.wraps(prepare)
            async def answered_async(*args: Any, **kwargs: Any) -> Answer:
                return await self._guard.answer_async(self._query(await prepare(*args, **kwargs), args, kwargs))

            return answered_async

        @functools.wraps(prepare)
        def answered(*args: Any, **kwargs: Any) -> Answer:
            return self._guard.answer(self._query(prepare(*args, **kwargs), args, kwargs))

        return answered

    def _query(self, inputs: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Query:
        """What is asked; a prepared `Query` may say an id and a study, and who asks is set here all the same."""
        who = self._principal(*args, **kwargs) if callable(self._principal) else self._principal
        if isinstance(inputs, Query):
            return Query(principal=who, inputs=inputs.inputs, id=inputs.id, study=inputs.study)
        return Query(principal=who, inputs=inputs)


def guarded(guard: Guard, *, principal: Principal | Callable[..., Principal] | None = None) -> GuardedFunction:
    """A decorator for the function where one's own code called the model: it returns the inputs, its caller the answer.

    ::

        @guarded(guard)
        def score(scan): return window(scan)[None]

        score(scan).decisions

    `principal` says who asks: a principal, or a function of the same arguments; without it `current_principal`.
    A plain function answers in the thread that calls it. An ``async`` one prepares in the event loop and answers in the
    guard's own thread (`Guard.answer_async`).
    """
    return GuardedFunction(guard, principal or (lambda *_, **__: current_principal()))
