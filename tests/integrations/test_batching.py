"""Requests that wait are answered together, and none is later, worse off or unanswered for another's sake."""

from __future__ import annotations

import gzip
import json

import anyio
import httpx
import pytest
from support.live_servers import WaitingModel

from medward.guard.types import Query
from medward.integrations.serving import Limits, create_app, service
from medward.integrations.serving.service import submit_in_turns

ROW = [0.5, -1.0, 2.0]


def answered(app, model, bodies):
    """The status and content of each of `bodies`, which all wait while the model has the first."""
    found = {}

    async def main():
        transport = httpx.ASGITransport(app)
        with anyio.fail_after(30):
            async with (
                httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30) as client,
                anyio.create_task_group() as tasks,
            ):

                async def send(place, body):
                    said = {"Content-Type": "application/json", **body.get("headers", {})}
                    content = body.get("content") or json.dumps(body).encode()
                    reply = await client.post("/v1/predict", content=content, headers=said)
                    found[place] = reply.status_code, reply.json()

                for place, body in enumerate(bodies):
                    tasks.start_soon(send, place, body)
                    while app.state.service.pool.jobs <= place or not model.calls:
                        await anyio.sleep(0.001)
                model.go.set()

    anyio.run(main)
    return [found[place] for place in range(len(bodies))]


def body(*rows):
    return {"inputs": [*rows]}


@pytest.fixture
def made(make_guard, linear_model):
    def make(**limits):
        model = WaitingModel(linear_model.spec)
        return create_app(make_guard(model=model), keys=None, limits=Limits(**limits)), model

    return make


@pytest.mark.parametrize(("batch", "calls"), [(32, [1, 5]), (2, [1, 2, 2, 1]), (1, [1] * 6)])
def test_what_waits_is_answered_together(made, batch, calls):
    app, model = made(workers=1, batch=batch)
    bodies = [body([first, 0.0, 0.0]) for first in range(6)]
    found = answered(app, model, bodies)
    assert model.calls == calls
    assert [status for status, _ in found] == [200] * 6
    assert [row[0] for row in model.asked] == [*range(6)]
    assert len({content["id"] for _, content in found}) == 6
    assert app.state.service.pool.jobs == 0


@pytest.mark.parametrize(
    "slow",
    [
        pytest.param({"content": b'{"inputs": [[0.5, -1.0, 2.0]]}'.ljust(300)}, id="large"),
        pytest.param(
            {"content": gzip.compress(b'{"inputs": [[0.5, -1.0, 2.0]]}'), "headers": {"Content-Encoding": "gzip"}},
            id="compressed",
        ),
    ],
)
def test_what_may_take_long_is_answered_alone(made, slow, monkeypatch):
    monkeypatch.setattr(service, "TOGETHER_BYTES", 200)
    app, model = made(workers=1)
    found = answered(app, model, [body(ROW), body(ROW), slow, body(ROW), body(ROW)])
    assert [status for status, _ in found] == [200] * 5
    assert model.calls == [1, 1, 1, 2]


def test_a_thread_leaves_the_others_their_part(made):
    app, model = made(workers=2)
    found = answered(app, model, [body(ROW)] * 8)
    assert [status for status, _ in found] == [200] * 8
    assert model.calls[:2] == [1, 1]
    assert sum(model.calls[2:]) == 6
    assert max(model.calls) == 3, "half of those that wait"


def test_what_is_refused_takes_nothing_from_those_beside_it(made):
    app, model = made(workers=1)
    found = answered(app, model, [body(ROW), body(ROW), body(ROW[:2]), body(ROW, ROW)])
    assert [status for status, _ in found] == [200, 200, 422, 200]
    assert [len(content.get("labels", ())) for _, content in found] == [1, 1, 0, 2]
    assert model.calls == [1, 3]


def test_rows_in_one_call_are_bounded_as_those_of_a_request(make_guard, linear_model):
    model = WaitingModel(linear_model.spec)
    model.go.set()
    queries = [Query(principal=("a",), inputs=[ROW] * rows) for rows in (3, 1, 2, 4, 1)]
    found = submit_in_turns(make_guard(model=model), 4, queries)
    assert [len(each.result().labels) for each in found] == [3, 1, 2, 4, 1]
    assert model.calls == [4, 2, 4, 1]


def test_a_model_that_ends_the_process_ends_nobody_elses_request(made):
    app, model = made(workers=1)
    ask, hostile = model.predict, 66.0

    def predict(inputs):
        outputs = ask(inputs)
        if (inputs == hostile).any():
            raise SystemExit(1)
        return outputs

    model.predict = predict
    found = answered(app, model, [body(ROW), body(ROW), body([hostile, 0.0, 0.0]), body(ROW)])
    assert [status for status, _ in found] == [200, 200, 503, 200]
