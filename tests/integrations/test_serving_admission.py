"""Who is answered when many ask: what one account does to a server changes next to nothing for the others."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import anyio
import httpx
import pytest
from support.live_servers import WaitingModel, listening, wait_until

from medward.guard.errors import MedwardError
from medward.integrations.serving import Limits, create_app
from medward.integrations.serving.keys import KeyStore

ROW = [0.5, -1.0, 2.0]
BODY = json.dumps({"inputs": [ROW]}).encode()


@pytest.fixture
def keys(tmp_path):
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture
def tokens(keys):
    """The key of a clinic, and one of somebody hostile."""
    return {name: keys.add((name, "key-1")) for name in ("clinic", "hostile")}


@pytest.fixture
def app(make_guard, keys):
    def make(model=None, audit=None, **limits):
        parts = {"model": model} if model else {}
        return create_app(make_guard(audit=audit, **parts), keys=keys, limits=Limits(**limits))

    return make


def header(token):
    lines = ("POST /v1/predict HTTP/1.1", "Host: x", f"X-API-Key: {token}", "Content-Type: application/json")
    return "\r\n".join((*lines, f"Content-Length: {len(BODY)}", "", "")).encode()


def ask(live, token):
    return httpx.post(f"{live.url}/v1/predict", content=BODY, headers=said(token), timeout=20)


def said(token):
    return {"X-API-Key": token, "Content-Type": "application/json"}


def under_way(app):
    return app.state.service.arrivals._requests


def refusals(app, reason):
    return app.state.service.metrics._refused.labels(reason)._value.get()


def whole_answer(connection):
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(2**16)
        assert piece, answer
        answer += piece
    return answer


def test_slow_bodies_of_one_key_take_no_place_from_another(app, tokens):
    made = app(workers=1, queue=1)
    with listening(made) as live, ExitStack() as stack:
        slow = [stack.enter_context(live.send(header(tokens["hostile"]) + BODY[:5])) for _ in range(34)]
        wait_until(lambda: under_way(made)["hostile/key-1"] == 34)
        assert ask(live, tokens["clinic"]).status_code == 200
        assert made.state.service.pool.jobs == 0
        slow[0].sendall(BODY[5:])  # the control: they are requests like others
        assert whole_answer(slow[0]).startswith(b"HTTP/1.1 200")
    wait_until(lambda: not under_way(made))
    assert not made.state.service.arrivals._bytes


def test_a_key_has_a_share_of_the_connections_on_which_requests_are_under_way(app, tokens):
    made = app(connections=8)
    with listening(made) as live, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(live.send(header(tokens["hostile"]) + b"{"))
        wait_until(lambda: under_way(made)["hostile/key-1"] == 4)
        refused = ask(live, tokens["hostile"])
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.headers["connection"] == "close"
        assert "4 requests of this account are under way" in refused.json()["detail"]
        assert ask(live, tokens["clinic"]).status_code == 200
    assert refusals(made, "share") == 1


def with_timeout(main):
    async def bounded():
        with anyio.fail_after(30):
            await main()

    anyio.run(bounded)


def client_of(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=30)


def test_bodies_are_held_up_to_a_bound_and_one_key_s_up_to_its_share(app, keys, tokens):
    """Memory for four bodies of 1,000 bytes: two a key."""
    tokens["other"] = keys.add(("other",))
    made = app(workers=1, queue=3, body_bytes=1000)
    statuses = []

    async def main():
        ends = anyio.Event()

        async def endless():
            yield b"x" * 900
            await ends.wait()
            yield BODY

        async with client_of(made) as client, anyio.create_task_group() as tasks:

            async def send(name):
                answer = await client.post("/v1/predict", content=endless(), headers=said(tokens[name]))
                statuses.append((name, answer.status_code, answer.headers.get("retry-after")))

            async def send_two(name):
                for _ in range(2):
                    tasks.start_soon(send, name)
                while made.state.service.arrivals._bytes[f"{name}/key-1"] < 1800:
                    await anyio.sleep(0.001)

            await send_two("hostile")
            await send("hostile")
            assert statuses.pop() == ("hostile", 429, "1")
            answer = await client.post("/v1/predict", content=BODY.ljust(900), headers=said(tokens["other"]))
            assert answer.status_code == 200
            await send_two("clinic")
            await send("other")
            assert statuses.pop() == ("other", 503, "1")
            ends.set()

    with_timeout(main)
    assert [status for _, status, _ in statuses] == [400] * 4, "they were read to their ends"
    assert not made.state.service.arrivals._bytes
    assert (refusals(made, "share"), refusals(made, "memory")) == (1, 1)


def test_accounts_that_wait_take_turns_and_one_has_a_share_of_the_places(app, tokens, linear_model):
    model = WaitingModel(linear_model.spec)
    made = app(model, workers=1, queue=9)
    statuses = []

    async def main():
        async with client_of(made) as client, anyio.create_task_group() as tasks:

            async def send(name, first):
                body = json.dumps({"inputs": [[first, *ROW[1:]]]})
                answer = await client.post("/v1/predict", content=body, headers=said(tokens[name]))
                statuses.append((name, answer.status_code))

            for number in range(5):
                tasks.start_soon(send, "hostile", 1.0)
                while made.state.service.pool.jobs <= number:
                    await anyio.sleep(0.001)
            await send("hostile", 1.0)
            assert statuses == [("hostile", 429)]
            for number in range(2):
                tasks.start_soon(send, "clinic", 2.0)
                while made.state.service.pool.jobs <= 5 + number:
                    await anyio.sleep(0.001)
            model.go.set()

    with_timeout(main)
    assert [row[0] for row in model.asked] == [1, 1, 2, 1, 2, 1, 1]
    assert sorted(statuses) == [("clinic", 200)] * 2 + [("hostile", 200)] * 5 + [("hostile", 429)]
    assert made.state.service.pool.jobs == 0


def test_who_is_alone_has_all_places(make_guard, linear_model):
    """Without keys there is nobody to share with; the same with `share = 1`."""
    model = WaitingModel(linear_model.spec)
    made = create_app(make_guard(model=model), keys=None, limits=Limits(workers=1, queue=3))
    statuses = []

    async def main():
        async with client_of(made) as client, anyio.create_task_group() as tasks:

            async def send():
                statuses.append((await client.post("/v1/predict", json={"inputs": [ROW]})).status_code)

            for number in range(4):
                tasks.start_soon(send)
                while made.state.service.pool.jobs <= number:
                    await anyio.sleep(0.001)
            await send()
            model.go.set()

    with_timeout(main)
    assert statuses == [503, 200, 200, 200, 200]
    assert refusals(made, "busy") == 1


# Connections


PROBES = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")


def test_connections_that_ask_nothing_shut_nobody_out(app, tokens):
    made = app(connections=20, header_seconds=600)
    with listening(made) as live, ExitStack() as stack:
        idle = [stack.enter_context(live.connect()) for _ in range(60)]
        for each in idle[40::2]:
            each.sendall(b"GET /healthz HTTP/1.1\r\nHost")
        assert ask(live, tokens["clinic"]).status_code == 200
        for path in PROBES:
            assert httpx.get(live.url + path).status_code == 200
        assert [each.recv(1) for each in idle[:40]] == [b""] * 40, "those that waited longest made room"
        wait_until(lambda: len(live.server.server_state.connections) <= 20)
    assert refusals(made, "connections") == 0


def test_probes_are_answered_while_requests_are_under_way_on_every_connection(app, keys):
    made = app(connections=4)
    owners = [keys.add((name,)) for name in "abcd"]
    with listening(made) as live, ExitStack() as stack:
        held = [stack.enter_context(live.send(header(token) + b"{")) for token in owners]
        wait_until(lambda: under_way(made).total() == 4)
        for path in PROBES:
            assert httpx.get(live.url + path).status_code == 200
        refused = ask(live, owners[0])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        assert "too many connections" in refused.json()["detail"]
        held.pop().close()
        wait_until(lambda: under_way(made).total() == 3)
        assert ask(live, owners[3]).status_code == 200
    assert refusals(made, "connections") == 1


def test_an_address_with_many_idle_connections_makes_room_before_one_with_few(app):
    """127.0.0.2 opened its one first, and keeps it."""
    made = app(connections=5, header_seconds=600)
    with listening(made) as live, ExitStack() as stack:
        own = stack.enter_context(socket.create_connection(live.address, 20, ("127.0.0.2", 0)))
        wait_until(lambda: len(live.server.server_state.connections) == 1)
        crowd = [stack.enter_context(live.connect()) for _ in range(12)]
        assert [each.recv(1) for each in crowd[:8]] == [b""] * 8
        own.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert whole_answer(own).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"share": 1.5}, "limits.share must be <= 1, got 1.5"),
        ({"deadline": 0}, "limits.deadline must be >= 0.001, got 0"),
        ({"deadline": float("nan")}, "limits.deadline must be >= "),
        ({"drain": -1}, "limits.drain must be >= 0"),
    ],
)
def test_a_bound_out_of_its_range_is_refused(limits, said):
    with pytest.raises(MedwardError, match=said):
        Limits(**limits)
