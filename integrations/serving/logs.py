"""The log of a serving process: a line for each event, as JSON or for a terminal, those of a request with its id.

What is logged of a request is its method, the route's pattern, status and time: never its path or query, in which a
client may have put a key, a name or a line break.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import structlog
from starlette.types import Scope

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
_access = logging.getLogger("medward.access")
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Routes whose success is logged at the level ``debug``: an orchestrator asks them every few seconds."""


@contextmanager
def structured_logs(form: LogFormat, level: LogLevel = "info", stream: TextIO | None = None) -> Iterator[None]:
    """Write what every library of this process logs from `level` up to `stream`, by default stderr, in `form`.

    Every line has ``timestamp`` (UTC), ``level``, ``logger`` and ``event``, and ``request`` where it is of one; an
    exception is a member of its line, so that no line is half of an event.
    """
    root, handler = logging.getLogger(), logging.StreamHandler(stream or sys.stderr)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=_plain_traceback)]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=True)]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _one_line, *last],
        )
    )
    before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


@contextmanager
def request_logged(request_id: str) -> Iterator[None]:
    """Give every line that is logged within, also in threads that it begins, the id of a request."""
    with structlog.contextvars.bound_contextvars(request=request_id):
        yield


def log_request(scope: Scope, status: int, seconds: float) -> None:
    """Log one request once it is over."""
    route = getattr(scope.get("route"), "path", "")
    quiet = route in QUIET_ROUTES and status < 400
    said = {"method": scope["method"][:16], "route": route or "none", "status": status, "ms": round(seconds * 1e3, 1)}
    _access.log(logging.DEBUG if quiet else logging.INFO, "request", extra=said)


def _one_line(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what a line break or a control would make of one line."""
    text = event.get("event")
    if isinstance(text, str) and not text.isprintable():
        event["event"] = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return event


def _plain_traceback(stream: TextIO, error: Any) -> None:
    structlog.dev.plain_traceback(stream, error)
