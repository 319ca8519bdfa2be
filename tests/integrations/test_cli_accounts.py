"""``medward accounts`` and ``medward incidents`` on a serving host: what they say and decide, one sentence each."""

from __future__ import annotations

import json
import time

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.processes import serving
from support.redis_server import DURABLE, running

from medward.guard.audit.log import read_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.integrations.cli import main
from medward.integrations.serving import load_app
from medward.integrations.serving.keys import KeyStore

RNG = np.random.default_rng(7)
BENIGN = RNG.normal(size=(400, 4)).astype(np.float32)
THEFT = RNG.normal(size=(30, 4)).astype(np.float32) * 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(BENIGN, BENIGN[:, 0] > 0)
    policy = Policy(on_error="withhold", screen={"action": "flag"}, budget={"total_bits": 500})
    path = tmp_path_factory.mktemp("accounts") / "bundle"
    return protect(model, Split(BENIGN), policy, path, classes=("no", "yes")).path


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    return stopped.value.code


def post(client, token, rows):
    for row in rows:
        answer = client.post("/v1/predict", json={"inputs": [row.tolist()]}, headers={"X-API-Key": token})
    return answer


@pytest.fixture
def host(bundle, tmp_path):
    state = tmp_path / "state"
    keys = KeyStore(state / "keys.json")
    tokens = {name: keys.add(("clinic", name)) for name in ("good", "thief")}
    with TestClient(load_app(bundle, state=state)) as client:
        post(client, tokens["good"], BENIGN[:20])
        post(client, tokens["thief"], THEFT)
        yield client, tokens, state


def test_list_and_show_say_who_asked_and_what_is_done(bundle, host, capsys):
    _, _, state = host
    assert run("accounts", "list", bundle, "--state", state) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("clinic/thief: withheld; 30 rows, e-value ")
    assert any(line.startswith("clinic/good: nothing raised; 20 rows") for line in lines)
    assert run("accounts", "list", bundle, "--state", state, "--alarmed", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["account"], found["action"]) == ("clinic/thief", "withhold")
    assert run("accounts", "show", bundle, "clinic/Thief", "--state", state) == 0
    said = capsys.readouterr().out
    assert "30 rows judged; e-value" in said
    assert "bits in all" in said
    assert run("accounts", "show", bundle, "clinic/nobody", "--state", state) == 3
    assert capsys.readouterr().err == "medward: clinic/nobody: no account of that name has asked anything\n"


def test_a_suspended_account_is_refused_and_may_ask_again_once_released(host, capsys, monkeypatch):
    client, tokens, state = host
    assert run("accounts", "suspend", "clinic/good", "--reason", "lost key", "--operator", "jo", "--state", state) == 0
    monkeypatch.setattr("medward.guard.accounts.suspension.KEPT", 0.0)
    deadline = time.monotonic() + 5
    while (answer := post(client, tokens["good"], BENIGN[:1])).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status_code == 403
    assert answer.json()["detail"] == "clinic/good is suspended; ask whoever operates this server"
    assert post(client, tokens["thief"], THEFT[:1]).status_code == 200
    assert run("accounts", "release", "clinic/good", "--reason", "found it", "--state", state, "--operator", "jo") == 0
    assert post(client, tokens["good"], BENIGN[:1]).status_code == 200
    events = [record for record in read_log(state / "audit.jsonl") if "operator" in record]
    assert [(each["event"], each["operator"], each["reason"]) for each in events] == [
        ("account suspended", "jo", "lost key"),
        ("suspension lifted", "jo", "found it"),
    ]
    assert run("accounts", "release", "clinic/good", "--reason", "again", "--state", state) == 3
    assert capsys.readouterr().err == "medward: clinic/good: is not suspended\n"
    assert run("accounts", "suspend", "clinic", "--state", state, "--reason", " ") == 3
    assert "reason: give 1 to 500 printable characters" in capsys.readouterr().err


def test_incidents_say_who_since_when_and_what_to_do_and_a_reset_ends_them(host, capsys):
    _, _, state = host
    assert run("incidents", state) == 0
    said = capsys.readouterr().out
    assert "clinic/thief: withhold since 20" in said
    assert "medward accounts suspend" in said
    for account in ("clinic", "clinic/thief"):
        reset = ("accounts", "reset", account, "--state", state, "--reason", "a pen test", "--operator", "jo")
        assert run(*reset) == 0
    capsys.readouterr()
    assert run("incidents", state) == 0
    assert capsys.readouterr().out == f"{state}: no alarm stands\n"
    assert run("incidents", state, "--ended", "--json") == 0
    assert {each["account"] for each in json.loads(capsys.readouterr().out)} == {"clinic", "clinic/thief"}
    last = [*read_log(state / "audit.jsonl")][-1]
    assert (last["event"], last["reason"], last["operator"]) == ("reset", "a pen test", "jo")


def test_replicas_that_share_a_redis_refuse_a_suspended_account_within_a_second(bundle, tmp_path):
    with running(tmp_path, *DURABLE) as redis:
        homes = [tmp_path / "a", tmp_path / "b"]
        for home in homes:
            home.mkdir()
        with (
            serving(bundle, homes[0], "--store", redis.url) as first,
            serving(bundle, homes[1], "--store", redis.url) as second,
            httpx.Client(timeout=30) as client,
        ):
            tokens = [KeyStore(each.state / "keys.json").add(("clinic", "key")) for each in (first, second)]

            def statuses():
                body = {"inputs": [[0.0] * 4]}
                return [
                    client.post(f"{each.url}/v1/predict", json=body, headers={"X-API-Key": token}).status_code
                    for each, token in zip((first, second), tokens, strict=True)
                ]

            assert statuses() == [200, 200]
            said = ("--reason", "lost key", "--state", homes[0] / "state", "--store", redis.url)
            assert run("accounts", "suspend", "clinic", *said) == 0
            time.sleep(1)
            assert statuses() == [403, 403]
            assert run("accounts", "release", "clinic", *said) == 0
            time.sleep(1)
            assert statuses() == [200, 200]
