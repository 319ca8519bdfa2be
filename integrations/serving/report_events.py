"""A report as server-sent events: that it was admitted, its text piece by piece, and its end.

References: WHATWG HTML, sec. 9.2 (server-sent events); RFC 9457 for the data of an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from typing import Any, Literal, TypeVar

import anyio
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from medward.guard.errors import ModelError, UnavailableError
from medward.guard.report_stream import ReportStream
from medward.integrations.serving.predictions import client_view
from medward.integrations.serving.problems import UNANSWERABLE, UNAVAILABLE, problem_content
from medward.integrations.serving.service import Service

_R = TypeVar("_R")
EVENT_STREAM = "text/event-stream"
EventName = Literal["admitted", "text", "end", "error"]
_log = logging.getLogger("medward")


class ReportEvents(StreamingResponse):
    """A response that hands `stream` on as it is written, in turns of `account`, and closes it.

    Events are ``admitted`` (``{"id", "model", "level"}``), ``text`` (``{"text"}``, none at level label or withheld),
    and ``end`` with what ``/v1/predict`` would have answered, or ``error`` with problem details in its place. `held` is
    let go of at the end. A client that leaves, or takes longer than ``limits.stream_seconds``, stops the report, which
    is then on record as stopped.
    """

    media_type = EVENT_STREAM

    def __init__(self, stream: ReportStream, service: Service, request: Request, account: str, held: ExitStack) -> None:
        super().__init__(self._events(), headers={"X-Accel-Buffering": "no"})  # or a proxy keeps it until the end
        self._stream, self._service, self._request = stream, service, request
        self._account, self._held = account, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; whatever happens, the report is closed and the slot is free afterwards."""
        try:
            with self._held, anyio.move_on_after(self._service.limits.stream_seconds) as limit:
                await super().__call__(scope, receive, send)
            if limit.cancelled_caught:
                name = self._request.state.request_id
                _log.warning("request %s: its report was not taken in time, and is stopped", name)
        finally:
            with anyio.CancelScope(shield=True):
                await self._run(self._stream.close)
            if self._stream.ended is not None:  # one that was withheld was counted when it was admitted
                self._service.metrics.streamed(self._stream.ended)
            if self._stream.ended == "finished":
                self._service.metrics.answer(self._stream.answer)

    async def _run(self, job: Callable[[], _R]) -> _R:
        return await self._service.pool.run(self._account, job)

    async def _events(self) -> AsyncIterator[bytes]:
        stream, spec = self._stream, self._service.guard.model.spec
        yield event_bytes("admitted", {"id": stream.id, "model": spec.name, "level": stream.level.label})
        try:
            while (piece := await self._run(lambda: next(stream, None))) is not None:
                yield event_bytes("text", {"text": piece})
        except (ModelError, UnavailableError) as error:
            name, detail = self._request.state.request_id, UNANSWERABLE if type(error) is ModelError else UNAVAILABLE
            _log.error("request %s: %s", name, error)
            yield event_bytes("error", problem_content(self._request, 503, detail))
            return
        yield event_bytes("end", client_view(stream.answer, spec).model_dump(mode="json", exclude_unset=True))


def event_bytes(event: EventName, data: Mapping[str, Any]) -> bytes:
    """One event, with its data as JSON on one line."""
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def wants_events(request: Request) -> bool:
    """Whether the client accepts server-sent events, and does not name JSON before them."""
    named = [each.partition(";")[0].strip().lower() for each in request.headers.get("accept", "").split(",")]
    known = [each for each in named if each in (EVENT_STREAM, "application/json")]
    return known[:1] == [EVENT_STREAM]
