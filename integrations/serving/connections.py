# mypy: allow-subclassing-any
# (uvicorn is not followed by mypy; see pyproject.toml)
"""TCP connections: none may wait without asking, those that do make room for new ones, and probes always have some."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import uuid
from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from medward.integrations.serving.problems import problem_response

_log = logging.getLogger("medward")
PROBE_PATHS = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
PROBE_ROOM = 32  # connections beyond the limit, on which probes alone are answered


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, but each request's header must be complete in time, the first one's too.

    uvicorn's own timer starts after the first response and ends with the next byte, so silent clients could
    hold every connection that ``limit_concurrency`` allows for ever. Here ``timeout_keep_alive`` seconds
    after it opened, or after its last response, a connection is closed unless a whole header has come.

    Where more are open than ``limit_concurrency``, one that waits for a header is closed for the new one: of the
    address with the most of these, the one that has waited longest. So who only holds connections open shuts nobody
    out. Where requests are under way on all, `PROBE_ROOM` more may open: health probes are answered there, others 503.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.most: int = self.config.limit_concurrency
        self.limit_concurrency = None  # `_route` answers instead of uvicorn's plain text
        self.app = self._route
        self.waiting: asyncio.TimerHandle | None = None
        self.since = math.inf  # by the loop's clock, since when it waits
        self.beyond = False  # whether it is one of those more

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start to wait for the first header."""
        super().connection_made(transport)
        self._wait()
        self._make_room()

    def handle_events(self) -> None:
        """Handle what has come. A request under way has the limits of `Edge` instead."""
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
        self.since = self.loop.time()
        self.waiting = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _stop(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None

    def _make_room(self) -> None:
        """Close a connection that waits, if this one is one too many; this one, if it is beyond the room for probes."""
        if len(self.connections) <= self.most or (count := len(self._open)) <= self.most:
            return
        idle = [each for each in self._open if each is not self and each.waiting is not None]
        if idle:
            crowd = Counter(each.address for each in idle)
            max(idle, key=lambda each: (crowd[each.address], -each.since)).timeout_keep_alive_handler()
        elif count <= self.most + PROBE_ROOM:
            self.beyond = True
        else:
            self.transport.abort()

    @property
    def address(self) -> str:
        """Where it comes from, without the port."""
        return self.client[0] if self.client else ""

    @property
    def _client_certificate(self) -> str:
        """What the client showed in its TLS handshake, as PEM, or ""; named as ASGI's TLS extension has it."""
        tls = self.transport.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True) if tls is not None else None
        return ssl.DER_cert_to_PEM_cert(shown) if shown else ""

    @property
    def _open(self) -> list[Connection]:
        return [each for each in self.connections if not each.transport.is_closing()]

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.beyond = self.beyond and len(self._open) > self.most
        refused = self.beyond and scope["path"] not in PROBE_PATHS
        if refused:
            self.config.app.state.service.metrics.refused("connections")
        if certificate := self._client_certificate:
            scope.setdefault("extensions", {})["tls"] = {"client_cert_chain": [certificate]}
        await (busy if refused else self.config.loaded_app)(scope, receive, send)


async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    """What a request on one connection too many is answered."""
    _log.warning("a request came on one of too many connections; it is answered 503")
    request = Request(scope)
    request.state.request_id = uuid.uuid4().hex
    headers = {"Retry-After": "1", "Connection": "close"}
    await problem_response(request, 503, "too many connections are open", headers)(scope, receive, send)
