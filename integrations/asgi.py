"""Middleware for one's own FastAPI or Starlette application: nobody asks without a key, and errors are problems.

::

    guard = medward.load("bundle").guard(state="state/", on_alarm=page_someone)
    app = FastAPI()
    app.add_middleware(medward.GuardMiddleware, guard=guard, keys="state/keys.json")

    @app.post("/score")
    async def score(request: Request) -> dict:
        rows = preprocess(await request.json())
        answer = await guard.answer_async(medward.Query(principal=request.state.principal, inputs=rows))
        return answer.as_dict()

Which thread runs what: the middleware and ``async def`` endpoints run in the event loop, ``def`` endpoints in a thread
of the framework's pool; there `guard.answer` answers on the spot. `guard.answer_async` answers in the guard's one own
thread, in the order asked, and `on_alarm` is called in the thread that answers. Keys are looked up in the event loop:
reading them again after a change takes a millisecond. `answer.unavailable` says what kept an answer back that a client
may ask for again.
"""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medward.guard.accounts.names import checked_principal
from medward.guard.errors import IntegrityError, MedwardError, ModelError, UnavailableError
from medward.guard.pipeline import Guard
from medward.guard.types import Principal
from medward.integrations.asking import asking_as
from medward.integrations.serving.identity.authentication import CHALLENGE
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.problems import problem_response

_log = logging.getLogger("medward")
Identify = Callable[[HTTPConnection], Principal | Awaitable[Principal | None] | None]
"""Says who asks, as one's own login knows; None for nobody."""


class GuardMiddleware:
    """The guard's middleware puts ``guard`` and ``principal`` on ``request.state`` and refuses who has no principal.

    Give `keys`, a file that ``medward keys add --state`` wrote, for keys sent as ``Authorization: Bearer`` or
    ``X-API-Key``; or `identify`, a function (``async`` or not, called in the event loop) from the connection to a
    principal, such as one's own session. `open_paths` need no principal, such as ``/health``; paths below them do.
    Within a request `current_principal` is who asks. A `MedwardError` that an endpoint lets out becomes a problem as
    `medward serve` answers it: 422 for inputs, 503 for a model or a store that is away.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        guard: Guard,
        keys: KeyStore | Path | str | None = None,
        identify: Identify | None = None,
        open_paths: Sequence[str] = (),
    ) -> None:
        if (keys is None) == (identify is None):
            raise MedwardError(
                "GuardMiddleware: give either keys, such as 'state/keys.json', or identify; one must say who asks"
            )
        if isinstance(open_paths, str) or not all(path.startswith("/") for path in open_paths):
            raise MedwardError(
                f"GuardMiddleware: open_paths is a list of paths such as ['/health'], got {open_paths!r}"
            )
        self._app, self._guard, self._open = app, guard, frozenset(open_paths)
        self._keys = keys if isinstance(keys, KeyStore | None) else KeyStore(Path(keys))
        self._identify = identify or self._by_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it; other scopes of ASGI pass."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection, begun = HTTPConnection(scope), False
        connection.state.guard, connection.state.request_id = self._guard, uuid.uuid4().hex

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"].endswith((".start", ".accept"))
            await send(message)

        try:
            principal = await self._principal(connection)
            if principal is None and scope["path"] not in self._open:
                await self._refuse(scope, receive, send)
                return
            connection.state.principal = principal
            if principal is None:
                await self._app(scope, receive, watched)
                return
            with asking_as(principal):
                await self._app(scope, receive, watched)
        except (MedwardError, UnavailableError) as error:
            if begun or scope["type"] != "http":
                raise
            await self._problem(Request(scope), error)(scope, receive, send)

    async def _principal(self, connection: HTTPConnection) -> Principal | None:
        found = self._identify(connection)
        principal = await found if inspect.isawaitable(found) else found
        return None if principal is None else checked_principal(principal)

    async def _by_key(self, connection: HTTPConnection) -> Principal | None:
        """The principal of the key that was sent, if it may ask."""
        scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else connection.headers.get("x-api-key", "")
        key = await self._keys.holder(token) if self._keys and token else None
        return key.principal if key and key.valid(datetime.now(UTC)) and key.scope == "predict" else None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        said = "say who asks: send a valid key as Authorization: Bearer or X-API-Key" if self._keys else "say who asks"
        await problem_response(Request(scope), 401, said, CHALLENGE if self._keys else None)(scope, receive, send)

    def _problem(self, request: Request, error: Exception) -> Response:
        """What the client is told; the reasons of what is no fault of its own stay in the log."""
        if isinstance(error, MedwardError) and not isinstance(error, ModelError | IntegrityError):
            return problem_response(request, 422, str(error))
        _log.error("request %s: %s", request.state.request_id, error, exc_info=error)
        if isinstance(error, ModelError):
            return problem_response(request, 503, "the model could not answer this input")
        said = "a part the guard depends on does not answer; no prediction left"
        return problem_response(request, 503, said, {"Retry-After": "5"})
