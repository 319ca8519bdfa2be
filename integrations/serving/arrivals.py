"""Requests whose bodies are on their way: they take no place, but memory as they come, each account its share of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medward.integrations.serving.body import CLOSE
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.refusal import CountRefusal, refusal, uncounted


@dataclass(slots=True, eq=False)
class Arrivals:
    """How many requests of each account are under way, and how many bytes of their bodies are held.

    Both are bounded, for all accounts by ``limits.connections`` and the memory of as many bodies as there are places,
    and for one account by its share of these; `shared` is that of `Pool`.
    """

    limits: Limits
    shared: bool = True
    count: CountRefusal = uncounted
    _requests: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _bytes: Counter[str] = field(default_factory=Counter, init=False, repr=False)

    @contextmanager
    def arriving(self, request: Request, account: str) -> Iterator[None]:
        """Count `request` and the body that is read of it meanwhile."""
        most = self._most(self.limits.connections)
        if self._requests[account] >= most:
            said = f"{most} requests of this account are under way, which is its share; wait for their answers"
            raise _closing(refusal(self.count, 429, "share", said, 1))
        self._requests[account] += 1
        request.state.arrival = arrival = Arrival(self, account)
        try:
            yield
        finally:
            self._requests[account] -= 1
            self._bytes[account] -= arrival.size
            request.state.arrival = None
            for counts in (self._requests, self._bytes):
                if not counts[account]:
                    del counts[account]

    def add(self, account: str, size: int) -> None:
        """Hold `size` bytes more for `account`, or refuse the request whose body they are of."""
        total = self.limits.places * self.limits.body_bytes
        if self._bytes[account] + size > max(self._most(total), self.limits.body_bytes):
            said = "the bodies of this account's requests take its share of memory; send them one by one"
            raise _closing(refusal(self.count, 429, "share", said, 1))
        if self._bytes.total() + size > total:
            raise _closing(refusal(self.count, 503, "memory", "too many bodies are on their way", 1))
        self._bytes[account] += size

    def _most(self, total: int) -> int:
        return self.limits.share_of(total) if self.shared else total


@dataclass(slots=True)
class Arrival:
    """The body of one request as far as it has come."""

    arrivals: Arrivals
    account: str
    size: int = 0

    def add(self, size: int) -> None:
        """Count what has come; see `Arrivals.add`."""
        self.arrivals.add(self.account, size)
        self.size += size


class BodyMeter:
    """ASGI middleware that counts the body of a request while `Arrivals.arriving` says whose it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def counted() -> Message:
            message = await receive()
            arrival: Arrival | None = scope.get("state", {}).get("arrival")
            if arrival is not None and message["type"] == "http.request":
                arrival.add(len(message.get("body", b"")))
            return message

        await self.app(scope, counted, send)


def _closing(refused: HTTPException) -> HTTPException:
    """`refused`, of a body that is not read on, so that its connection is of no more use."""
    refused.headers = {**(refused.headers or {}), **CLOSE}
    return refused
