# mypy: allow-subclassing-any
# (uvicorn is not followed by mypy; see pyproject.toml)
"""TCP connections: none may wait without asking, and one too many is told so as a problem."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from medward.integrations.serving.problems import problem_response

_log = logging.getLogger("medward")


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, but each request's header must be complete in time, the first one's too.

    uvicorn's own timer starts after the first response and ends with the next byte, so silent clients could
    hold every connection that ``limit_concurrency`` allows for ever. Here ``timeout_keep_alive`` seconds
    after it opened, or after its last response, a connection is closed unless a whole header has come.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.most: int = self.config.limit_concurrency
        self.limit_concurrency = None  # `busy` answers instead of uvicorn's plain text
        self.waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start to wait for the first header."""
        super().connection_made(transport)
        self._wait()

    def handle_events(self) -> None:
        """Handle what has come. A request under way has the limits of `Edge` instead."""
        self.app = busy if len(self.connections) >= self.most else self.config.loaded_app
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()

    def on_response_complete(self) -> None:
        """Start to wait for the next header."""
        self._wait()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop()
        self.waiting = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _stop(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()


async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    """What a request on one connection too many is answered."""
    _log.warning("a request came on one of too many connections; it is answered 503")
    request = Request(scope)
    request.state.request_id = uuid.uuid4().hex
    headers = {"Retry-After": "1", "Connection": "close"}
    await problem_response(request, 503, "too many connections are open", headers)(scope, receive, send)
