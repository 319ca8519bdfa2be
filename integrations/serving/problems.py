"""Every error as problem details, ``application/problem+json``.

Reference: RFC 9457, sec. 3. ``type`` is always about:blank, so ``title`` is the status phrase and
``detail`` says what to change. ``instance`` ends in the request id that the log line of the same failure
carries. ``error`` repeats ``detail`` for clients of the inference protocols, who read errors there; the RFC allows it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from medward.guard.accounts.suspension import SuspendedError
from medward.guard.errors import IntegrityError, MedwardError, ModelError, UnavailableError

_log = logging.getLogger("medward")
MEDIA = "application/problem+json"
UNANSWERABLE = "the model could not answer this input"
UNAVAILABLE = "a part the guard depends on does not answer; no prediction left"
_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "error"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "error": {"type": "string"},
    },
}


def problem_response(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response for one error."""
    body = problem_content(request, status, detail)
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA)


def problem_content(request: Request, status: int, detail: str) -> dict[str, Any]:
    """The problem details of one error."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": f"{quote(request.scope['path'])}#{request.state.request_id}",
        "error": detail,
    }


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entry of each of `statuses`."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA: {"schema": _SCHEMA}}}
        for status in statuses
    }


def mistake_sentence(mistake: ErrorDetails) -> str:
    """A mistake pydantic found: where and what, never the value."""
    where = ".".join(str(part) for part in mistake["loc"])
    return f"{where}: {mistake['msg']}" if where else mistake["msg"]


def install_handlers(app: FastAPI) -> None:
    """Make every exception a route or the router can raise a problem. The rest is `Edge`'s last resort."""

    def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return problem_response(request, error.status_code, str(error.detail), error.headers)

    def refused(request: Request, error: Exception) -> JSONResponse:
        return problem_response(request, 422, str(error))

    def suspended(request: Request, error: Exception) -> JSONResponse:
        return problem_response(request, 403, str(error))

    def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return problem_response(request, 422, mistake_sentence(error.errors()[0]))

    def unanswerable(request: Request, error: Exception) -> JSONResponse:
        _log.error("request %s: %s", request.state.request_id, error, exc_info=error)
        return problem_response(request, 503, UNANSWERABLE, {"Retry-After": "5"})

    def unavailable(request: Request, error: Exception) -> JSONResponse:
        _log.error("request %s: %s", request.state.request_id, error)
        return problem_response(request, 503, UNAVAILABLE, {"Retry-After": "5"})

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(MedwardError, refused)
    app.add_exception_handler(SuspendedError, suspended)
    app.add_exception_handler(ModelError, unanswerable)
    app.add_exception_handler(IntegrityError, unavailable)
    app.add_exception_handler(UnavailableError, unavailable)
