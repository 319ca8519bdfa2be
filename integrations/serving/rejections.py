"""Refused requests are on record without content, and so few a minute that nobody can fill the disk by asking."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from medward.guard.audit.record import REJECTED, AuditSink
from medward.guard.types import QueryOrigin
from medward.integrations.serving.identity.failed_authentication import FailedAuthentication
from medward.integrations.serving.logs import QUIET_ROUTES
from medward.integrations.serving.service import recordable_text, request_origin

_log = logging.getLogger("medward")
RECORDED_STATUSES = frozenset({400, 401, 403, 408, 413, 415, 422, 429, 500, 503})
WINDOW = 60.0  # seconds
STOP_SECONDS = 5.0  # that a stopping server waits for the last records


@dataclass(slots=True, eq=False)
class RejectionRecords:
    """Rejection records say that a request was refused: status, route, request id, credential, account and address.

    At most `most` of each status are written in `WINDOW` seconds, each status by itself, so that guesses at keys do not
    hide other refusals. The next record of any status says in `left_out` how many of which were not written since the
    one before; a server that stops says it too. They are written in a thread of their own: no answer waits for
    them, and one that cannot be written is counted as left out. What a kill -9 takes are those of the last moments.
    `clock` is in seconds.
    """

    audit: AuditSink
    most: int
    clock: Callable[[], float] = time.monotonic
    _begun: float = field(default=float("-inf"), init=False)
    _written: Counter[int] = field(default_factory=Counter, init=False)
    _left_out: Counter[int] = field(default_factory=Counter, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _waiting: queue.SimpleQueue[tuple[int, Mapping[str, Any]] | None] = field(
        default_factory=queue.SimpleQueue, init=False
    )
    _writer: threading.Thread | None = field(default=None, init=False)

    def rejected(self, request: Request, status: int) -> None:
        """Have it on record that `request` was answered with `status`, if that is a refusal; returns at once.

        One that did not say who asks is `failed`'s, and a probe that finds a server not ready was not refused.
        """
        route = getattr(request.scope.get("route"), "path", "other")
        if status not in RECORDED_STATUSES or route in QUIET_ROUTES or route.endswith("/ready"):
            return
        if getattr(request.state, "authentication_failed", False):
            return
        identity = getattr(request.state, "identity", None)
        principal = {} if identity is None else {"principal": "/".join(identity.principal)}
        self._submit(status, {"route": route, **principal, **request_origin(request).content})

    def failed(self, failure: FailedAuthentication) -> None:
        """Have it on record that a request did not say who asks, and why it was not taken; returns at once."""
        address = recordable_text(failure.address)
        origin = QueryOrigin(credential=failure.credential, request=failure.request_id, client=address)
        self._submit(403 if failure.reason == "scope" else 401, {"reason": failure.reason, **origin.content})

    def close(self) -> None:
        """Write what waits, and how many were left out since the last record."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            self._waiting.put(None)
            writer.join(STOP_SECONDS)
        if self._left_out:
            self._write(0, {"event": REJECTED})

    def _submit(self, status: int, said: Mapping[str, Any]) -> None:
        with self._lock:
            now = self.clock()
            if now - self._begun >= WINDOW:
                self._begun = now
                self._written.clear()
            if self._written[status] >= self.most:
                self._left_out[status] += 1
                return
            self._written[status] += 1
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="medward-rejections", daemon=True)
                self._writer.start()
        self._waiting.put((status, {"event": REJECTED, "status": status, **said}))

    def _write_all(self) -> None:
        while (found := self._waiting.get()) is not None:
            self._write(*found)

    def _write(self, status: int, record: Mapping[str, Any]) -> None:
        with self._lock:
            left_out, self._left_out = self._left_out, Counter()
        said = {"left_out": {str(each): count for each, count in sorted(left_out.items())}} if left_out else {}
        try:
            self.audit.append({**record, **said})
        except Exception:  # of whatever sink; the next is tried all the same
            _log.exception("a rejected request is not on record")
            with self._lock:
                self._left_out += left_out
                if status:
                    self._left_out[status] += 1
