"""The log of a server: one line for each event, with the request's id, and nothing in it that a client could plant."""

from __future__ import annotations

import io
import json
import logging
import threading

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.live_servers import wait_until
from support.processes import serving

from medward.guard.accounts.stores import MemoryStore
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.types import Outputs
from medward.integrations.serving import create_app
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.logs import structured_logs

ROW = {"inputs": [[0.0, 0.0, 0.0]]}


@pytest.fixture
def lines():
    """What was logged so far, each line read."""
    stream = io.StringIO()
    with structured_logs("json", "debug", stream):
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_line_by_its_route_and_never_by_its_path(make_guard, lines):
    with TestClient(create_app(make_guard(store=MemoryStore()), keys=None)) as client:
        client.post("/v1/predict?token=mw_secret", json=ROW, headers={"X-Request-ID": "r-1"})
        client.get("/v2/models/Jane%20Doe%0aforged/ready")
        client.get("/nowhere/Jane-Doe")
        client.get("/healthz")
    said = [each for each in lines() if each["logger"] == "medward.access"]
    assert [(each["route"], each["status"], each["level"]) for each in said] == [
        ("/v1/predict", 200, "info"),
        ("/v2/models/{name}/ready", 404, "info"),
        ("none", 404, "info"),
        ("/healthz", 200, "debug"),
    ]
    assert said[0]["request"] == "r-1"
    assert {"timestamp", "method", "ms"} <= said[0].keys()
    text = json.dumps([each for each in lines() if not each["logger"].startswith("httpx")])  # the client's own lines
    assert not [each for each in ("mw_secret", "Jane", "Doe", "forged") if each in text]


def test_lines_from_worker_threads_carry_the_id_of_their_own_request(make_guard, lines, linear_model):
    log, both = logging.getLogger("medward"), threading.Barrier(2, timeout=20)

    class Talking:
        spec = linear_model.spec

        def predict(self, inputs):
            both.wait()
            log.warning("row %g", inputs[0, 0])
            return Outputs(np.zeros((len(inputs), 2), np.float32), inputs)

    app = create_app(make_guard(model=Talking(), store=MemoryStore()), keys=None)
    with TestClient(app) as client:

        def ask(name):
            body = {"inputs": [[float(name), 0, 0]]}
            client.post("/v1/predict", json=body, headers={"X-Request-ID": name})

        for first in (0, 2, 4):
            threads = [threading.Thread(target=ask, args=(str(first + i),)) for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    rows = [each for each in lines() if each["event"].startswith("row ")]
    assert len(rows) == 6
    assert all(each["event"] == f"row {each['request']}" for each in rows)


def test_an_event_is_one_line_whatever_is_in_it_and_a_traceback_shows_no_values(lines):
    secret = "Jane Doe"
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.getLogger("medward").exception("failed\nfor %s", "x\x1b[31m")
    (said,) = lines()
    assert said["event"] == "failed\\nfor x\\x1b[31m"
    assert "RuntimeError: broken" in said["exception"]
    assert secret not in json.dumps(said)


def test_as_text_a_line_has_the_same_members(make_guard):
    stream = io.StringIO()
    with structured_logs("text", "info", stream):
        logging.getLogger("medward").warning("disk %s", "full\nnow")
    (line,) = stream.getvalue().splitlines()
    assert "[warning" in line
    assert "disk full\\nnow" in line
    assert "medward" in line


def test_afterwards_logging_is_as_it_was():
    before = (logging.getLogger().level, list(logging.getLogger().handlers))
    with structured_logs("json"):
        pass
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before


def test_a_served_process_logs_json_from_its_first_line_on(tmp_path):
    rows = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    bundle = protect(model, Split(rows), Policy(on_error="withhold"), tmp_path / "bundle", classes=("no", "yes")).path
    with serving(bundle, tmp_path, "--log-format", "json") as server:
        token = KeyStore(server.state / "keys.json").add(("a",))
        answer = httpx.post(f"{server.url}/v1/predict?key={token}", json=ROW, headers={"X-API-Key": token})
        assert answer.status_code == 200
        wait_until(lambda: '"/v1/predict"' in (tmp_path / "stderr").read_text())
    found = [json.loads(line) for line in (tmp_path / "stderr").read_text().splitlines()]
    assert all({"timestamp", "level", "logger", "event"} <= each.keys() for each in found)
    (asked,) = [each for each in found if each.get("route") == "/v1/predict"]
    assert asked["request"] == answer.headers["X-Request-ID"]
    assert token not in (tmp_path / "stderr").read_text()
