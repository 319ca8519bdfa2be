"""The outermost layer: request id, bodies in bounds, security headers, timing, and the last resort for a crash."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Collection
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medward.guard.spec import ModelSpec
from medward.integrations.serving.body import CLOSE, shorter_body
from medward.integrations.serving.compression import content_coding, inflated, plain_scope
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.logs import log_request, request_logged
from medward.integrations.serving.metrics import Metrics
from medward.integrations.serving.problems import problem_response
from medward.integrations.serving.rejections import RejectionRecords

_log = logging.getLogger("medward")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def host_name(request: Request) -> str:
    """The name that the client asked for, without the port, "" where it says none or several."""
    said = request.headers.getlist("host")
    try:
        return (urlsplit(f"//{said[0]}").hostname or "") if len(said) == 1 else ""
    except ValueError:
        return ""


class Edge:
    """ASGI middleware. A body is metered as it streams in, whether or not it declares a length, and inflated too.

    HEAD is answered as GET is, without the body, since some load balancers probe so. A body whose length is said in two
    ways is refused (RFC 9112, sec. 6.3), and so is a Host that is none of `hosts`, if there are any: a web page may
    have its own name point to this machine (DNS rebinding).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        spec: ModelSpec,
        limits: Limits,
        metrics: Metrics,
        rejections: RejectionRecords | None = None,
        hosts: Collection[str] = (),
    ) -> None:
        self.app = app
        self.spec = spec
        self.limits = limits
        self.metrics = metrics
        self.rejections = rejections
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request.state.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        plain, metered = scope, self._metered(receive)
        head = scope["method"] == "HEAD"
        status = 0
        started = time.perf_counter()

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request.state.request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            elif head:
                message = {**message, "body": b""}
            await send(message)

        with request_logged(request.state.request_id):
            try:
                if refusal := self._refusal(request):
                    response = problem_response(request, refusal.status_code, refusal.detail, refusal.headers)
                    await response(scope, receive, dressed)
                    return
                if coding := content_coding(request):
                    plain, metered = plain_scope(scope), self._metered(inflated(metered, coding))
                plain = {**plain, "method": "GET"} if head else plain
                await self.app(plain, metered, dressed)
            except ClientDisconnect:
                _log.info("the client left")
            except Exception:
                _log.exception("request %s failed", request.state.request_id)
                if status:
                    raise
                await problem_response(request, 500, "the server failed; the log has the details")(
                    scope, receive, dressed
                )
            finally:
                seconds = time.perf_counter() - started
                self.metrics.request(plain, status, seconds)
                log_request(plain, status, seconds)
                if self.rejections is not None:
                    self.rejections.rejected(Request(plain), status)

    def _refusal(self, request: Request) -> HTTPException | None:
        """Why the request is refused on its headers alone."""
        if self.hosts and host_name(request) not in self.hosts:
            said = f"this server without keys answers to {', '.join(self.hosts)} only; ask it by one of these names"
            return HTTPException(421, said, CLOSE)
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            return HTTPException(400, "Content-Length: must not come with Transfer-Encoding; send one of them", CLOSE)
        declared = request.headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdigit()):
            return HTTPException(400, "Content-Length: must be a whole number", CLOSE)
        if int(declared[:20]) > self.limits.body_bytes:
            return HTTPException(413, self._too_large, CLOSE)
        try:
            content_coding(request)
        except HTTPException as refusal:
            return refusal
        return None

    @property
    def _too_large(self) -> str:
        most = self.limits.body_bytes
        return f"the body may hold at most {most} bytes; {shorter_body(self.spec, most)}"

    def _metered(self, receive: Receive) -> Receive:
        """`receive`, but it raises 413 past the size limit and 408 past the time limit."""
        deadline = time.monotonic() + self.limits.body_seconds
        size, done = 0, False

        async def metered() -> Message:
            nonlocal size, done
            if done:
                return await receive()
            try:
                with anyio.fail_after(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                detail = f"the body must arrive within {self.limits.body_seconds:g} s"
                raise HTTPException(408, detail, CLOSE) from None
            done = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > self.limits.body_bytes:
                raise HTTPException(413, self._too_large, CLOSE)
            return message

        return metered
