"""A guard inside one's own application: who asks is known, nobody else is let in, and errors are problems."""

from __future__ import annotations

import asyncio
from typing import Annotated

import numpy as np
import pytest
from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from medward.guard.accounts.stores import MemoryStore
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.types import Answer, Query
from medward.integrations.asgi import GuardMiddleware
from medward.integrations.asking import asking_as, current_principal, guarded
from medward.integrations.serving.keys import KeyStore

ROW = {"values": [0.1, 0.2, 0.3]}


class Log(list):
    pass


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def keys(tmp_path):
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture
def guard(make_guard, log):
    return make_guard(Policy(on_error="withhold"), audit=log)


def application(guard, **settings):
    app = FastAPI()
    app.add_middleware(GuardMiddleware, guard=guard, **settings)

    @guarded(guard)
    def deep(values):
        return np.array([values])

    @app.get("/health")
    def health(request: Request) -> dict:
        return {"who": request.state.principal}

    @app.post("/score")
    async def score(request: Request) -> dict:
        rows = np.array([(await request.json())["values"]])
        answer = await request.state.guard.answer_async(Query(principal=request.state.principal, inputs=rows))
        return answer.as_dict()

    @app.post("/deep")
    def in_a_thread(body: dict, who: Annotated[tuple, Depends(current_principal)]) -> dict:
        return {**deep(body["values"]).rows()[0], "who": who}

    @app.post("/broken")
    async def broken() -> dict:
        raise UnavailableError("redis://:secret@host is away")

    @app.websocket("/live")
    async def live(socket: WebSocket):
        await socket.accept()
        await socket.send_json(list(current_principal()))
        await socket.close()

    return TestClient(app, raise_server_exceptions=True)


def test_who_has_a_key_is_answered_under_its_principal_and_others_are_refused(guard, log, keys, tmp_path):
    token = keys.add(("clinic", "ward"))
    watcher = keys.add(("clinic", "prometheus"), scope="metrics")
    client = application(guard, keys=str(tmp_path / "keys.json"), open_paths=("/health",))
    for headers in ({}, {"X-API-Key": token[:-1] + "x"}, {"Authorization": f"Basic {token}"}, {"X-API-Key": watcher}):
        refused = client.post("/score", json=ROW, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["www-authenticate"] == "Bearer"
    assert log == []
    for headers in ({"X-API-Key": token}, {"Authorization": f"Bearer {token}"}):
        answered = client.post("/score", json=ROW, headers=headers)
        assert answered.status_code == 200
        assert answered.json()["labels"] == ["c"]
    assert [record["principal"] for record in log] == ["clinic/ward"] * 2
    assert client.get("/health").json() == {"who": None}
    assert client.get("/health/all").status_code == 401


def test_a_principal_reaches_code_that_knows_of_no_request_and_is_gone_afterwards(guard, log, keys):
    client, token = application(guard, keys=keys), keys.add(("clinic", "ward"))
    said = client.post("/deep", json=ROW, headers={"X-API-Key": token}).json()
    assert said["label"] == "c"
    assert said["who"] == ["clinic", "ward"]
    assert log[0]["principal"] == "clinic/ward"
    with pytest.raises(MedwardError, match="nobody is known to ask"):
        current_principal()


def test_one_s_own_login_says_who_asks(guard, log):
    async def session(connection):
        user = connection.headers.get("user")
        return None if user is None else ("clinic", user)

    client = application(guard, identify=session)
    refused = client.post("/score", json=ROW)
    assert (refused.status_code, refused.json()["detail"]) == (401, "say who asks")
    assert "www-authenticate" not in refused.headers
    assert client.post("/score", json=ROW, headers={"user": "Ann"}).status_code == 200
    assert log[0]["principal"] == "clinic/ann"
    assert client.post("/score", json=ROW, headers={"user": "a/b"}).status_code == 422


def test_errors_are_problems_that_tell_a_client_its_own_mistakes_alone(guard, keys, caplog):
    client, headers = application(guard, keys=keys), {"X-API-Key": keys.add(("clinic",))}
    wrong = client.post("/score", json={"values": [1.0]}, headers=headers)
    assert wrong.status_code == 422
    assert "expected shape" in wrong.json()["detail"]
    away = client.post("/broken", headers=headers)
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    assert "secret" not in away.text
    assert "secret" in caplog.text


def test_a_websocket_without_a_principal_is_closed(guard, keys):
    client, token = application(guard, keys=keys), keys.add(("clinic",))
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/live"):
        pass
    assert caught.value.code == 1008
    with client.websocket_connect("/live", headers={"X-API-Key": token}) as socket:
        assert socket.receive_json() == ["clinic"]


def test_somebody_must_say_who_asks(guard, keys):
    for settings in ({}, {"keys": keys, "identify": lambda _: ("all",)}):
        with pytest.raises(MedwardError, match="who asks"):
            GuardMiddleware(Starlette(), guard=guard, **settings)


@pytest.mark.parametrize("paths", ["/health", ["health"]])
def test_open_paths_are_a_list_of_paths(paths, guard, keys):
    """The letters of "/health" would open the path "/"."""
    with pytest.raises(MedwardError, match=r"open_paths is a list of paths such as \['/health'\], got"):
        GuardMiddleware(Starlette(), guard=guard, keys=keys, open_paths=paths)


def test_a_lifespan_passes(guard, keys):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(GuardMiddleware(app, guard=guard, keys=keys)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_a_guarded_function_asks_what_it_prepares(guard, log):
    @guarded(guard, principal=("notebook",))
    def score(scale, *, of):
        """Scaled."""
        return scale * np.array([of])

    @guarded(guard, principal=lambda who, _: (who,))
    async def later(who, row):
        return Query(principal=("somebody else",), inputs=np.array([row]), id="mine", study="s")

    answer = score(2, of=[0.3, 0.2, 0.1])
    assert isinstance(answer, Answer)
    assert answer.unavailable == ()
    assert answer.decisions == ("a",)
    assert score.__doc__ == "Scaled."
    assert asyncio.run(later("ward", [0.1, 0.3, 0.2])).id == "mine"
    assert [record["principal"] for record in log] == ["notebook", "ward"]
    with asking_as(("Queue", "Worker")) as who:
        assert guarded(guard)(lambda: np.zeros((1, 3)))().decisions is not None
        assert who == current_principal() == ("queue", "worker")
    assert log[-1]["principal"] == "queue/worker"


def test_a_guard_whose_store_is_away_withholds_and_says_nothing_else(make_guard, keys):
    class Away(MemoryStore):
        def transact_all(self, names, step, *, ttl=None):
            raise UnavailableError("store is away")

    guard = make_guard(Policy(on_error="withhold"), store=Away())
    client = application(guard, keys=keys)
    said = client.post("/score", json=ROW, headers={"X-API-Key": keys.add(("clinic",))}).json()
    assert said["labels"] == [None]
    assert said["levels"] == ["withheld"]
    answer = guard.answer(Query(principal=("clinic",), inputs=np.zeros((1, 3))))
    assert answer.unavailable == ("error:account:clinic:UnavailableError",)
