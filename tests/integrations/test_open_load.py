"""The load generator of the soak sends what it says, and tells apart what was answered, refused and lost."""

from __future__ import annotations

import asyncio
import json
import socket

from support.live_servers import listening
from support.open_load import LOST, Load, post

from medward.integrations.serving import Limits, create_app
from medward.integrations.serving.keys import KeyStore

BODY = json.dumps({"inputs": [[0.5, -1.0, 2.0]]}).encode()


async def asked(load, count):
    replies = await load.at_rate(1000, count / 1000)
    await load.close()
    return replies


def test_each_request_has_its_reply(make_guard, tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    tokens = [keys.add(("clinic",)), "nobody's"]
    app = create_app(make_guard(), keys=keys, limits=Limits(rate="10/hour"))
    with listening(app) as live:
        load = Load(live.address, lambda number: post("/v1/predict", tokens[number % 20 == 0], BODY))
        replies = asyncio.run(asked(load, 20))
    assert sorted(each.status for each in replies) == [200] * 10 + [401] + [429] * 9
    assert all(bool(each.id) == (each.status == 200) for each in replies)
    assert all(each.retry_after == (each.status == 429) for each in replies)
    assert len({each.id for each in replies}) == 11


def test_a_request_without_an_answer_is_lost():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    load = Load(address, lambda _: post("/", "x", b"{}"))
    assert [each.status for each in asyncio.run(asked(load, 2))] == [LOST] * 2
