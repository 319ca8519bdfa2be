"""The server as it is deployed: a bundle, a state folder, a process that can be killed."""

from __future__ import annotations

import socket
import threading
import time

import httpx
import numpy as np
import pytest
import uvicorn
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.live_servers import wait_until
from support.processes import WHO, kill_under_load, lost_records, serving

from medward.guard.accounts.stores import SQLiteStore
from medward.guard.audit.log import read_log, verify_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.policy import Policy
from medward.integrations.serving import Limits, load_app, serve_bundle
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.server import DrainingServer

ROWS = np.random.default_rng(3).normal(size=(300, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    path = tmp_path_factory.mktemp("served") / "bundle"
    return protect(model, Split(ROWS), Policy(on_error="withhold"), path, classes=("no", "yes"))


def test_kill_9_under_load_loses_no_acknowledged_audit_record(bundle, tmp_path):
    with serving(bundle.path, tmp_path) as server:
        reply = httpx.post(f"{server.url}/v1/predict", json={"inputs": [[0] * 4]})
        assert reply.status_code == 401
        acknowledged = kill_under_load(server, ROWS[:3], after=60)
    log = server.state / "audit.jsonl"
    assert lost_records(server.state, acknowledged) == 0
    assert lost_records(server.state, [*acknowledged, "never answered"]) == 1
    before = verify_log(log).records
    records = list(read_log(log))
    assert {record["principal"] for record in records if "query" in record} == {"/".join(WHO)}
    assert [record["status"] for record in records if "query" not in record] == [401]

    token = KeyStore(server.state / "keys.json").add(WHO)
    with TestClient(load_app(bundle.path, state=server.state)) as client:
        body = {"inputs": ROWS[:1].tolist()}
        assert client.post("/v1/predict", json=body, headers={"X-API-Key": token}).status_code == 200
    assert verify_log(log).records == before + 1


def test_a_server_closes_its_log_by_age_and_answers_on(bundle, tmp_path):
    with TestClient(load_app(bundle.path, state=tmp_path, anonymous=True, limits=Limits(segment_days=1e-9))) as client:
        answers = [client.post("/v1/predict", json={"inputs": ROWS[:1].tolist()}) for _ in range(3)]
    assert [each.status_code for each in answers] == [200] * 3
    assert verify_log(tmp_path / "audit.jsonl").segments == 3
    kept = [record["query"] for record in read_log(tmp_path / "audit.jsonl") if "query" in record]
    assert kept == [each.json()["id"] for each in answers]


def test_a_restart_remembers_accounts_keys_and_salt(bundle, tmp_path):
    state = tmp_path / "state"
    for _ in range(2):
        with TestClient(load_app(bundle.path, state=state, anonymous=True)) as client:
            assert client.post("/v1/predict", json={"inputs": ROWS[:5].tolist()}).status_code == 200
    first, second = read_log(state / "audit.jsonl")
    assert first["inputs"] == second["inputs"]
    store = SQLiteStore(state / "accounts.db")
    assert store.get("anonymous")["e-process"]["n"] == 10
    store.close()
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "salt").stat().st_mode & 0o777 == 0o600


def test_the_bundle_s_digest_is_the_served_version(bundle, tmp_path):
    with TestClient(load_app(bundle.path, state=tmp_path, anonymous=True, expect=bundle.digest)) as client:
        assert client.get("/v2/models/model").json()["versions"] == [bundle.digest[:12]]
    with pytest.raises(IntegrityError):
        load_app(bundle.path, state=tmp_path, anonymous=True, expect="0" * 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anonymous": True, "host": "0.0.0.0"}, "must stay on 127.0.0.1"),
        ({"certificate": "cert.pem"}, "both or neither"),
        ({"certificate": "cert.pem", "private_key": "key.pem"}, "not a usable key pair: No such file"),
    ],
)
def test_a_server_that_would_expose_itself_is_not_started(bundle, tmp_path, options, message):
    with pytest.raises(MedwardError, match=message):
        serve_bundle(bundle.path, state=tmp_path / "state", **options)
    assert not (tmp_path / "state").exists()


def test_a_state_that_is_a_file_is_refused_with_a_sentence(bundle, tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(MedwardError, match="cannot hold the guard's state"):
        load_app(bundle.path, state=tmp_path / "state")


@pytest.fixture
def running(bundle, tmp_path, monkeypatch):
    """`serve_bundle` the bundle to anybody, with its own settings but in a thread; returns the address."""
    servers, threads = [], []
    monkeypatch.setattr(DrainingServer, "run", lambda server: setattr(server, "started", bool(servers.append(server))))

    def start(limits):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = probe.getsockname()
        with pytest.raises(MedwardError, match="the server did not start"):  # it is this test that starts it
            serve_bundle(bundle.path, state=tmp_path / "state", port=address[1], anonymous=True, limits=limits)
        threads.append(threading.Thread(target=uvicorn.Server.run, args=servers))
        threads[0].start()
        wait_until(lambda: servers[0].started)
        return address

    yield start
    for server, thread in zip(servers, threads, strict=True):
        server.should_exit = True
        thread.join(20)


def whole_answer(connection):
    """Header and JSON body, which may come in several pieces."""
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(2**16)
        assert piece, "closed in the middle of an answer"
        answer += piece
    return answer


def test_a_connection_may_wait_for_its_body_and_not_for_its_next_header(running):
    address = running(Limits(header_seconds=1))
    body = b'{"inputs": [[0, 0, 0, 0]]}'
    lines = ("Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}")
    header = "\r\n".join(["POST /v1/predict HTTP/1.1", *lines, "", ""])
    with socket.create_connection(address, 20) as slow:
        for _ in range(2):
            slow.sendall(header.encode())
            time.sleep(1.3)
            slow.sendall(body)
            assert whole_answer(slow).startswith(b"HTTP/1.1 200")
        slow.sendall(b"P")
        wait_until(lambda: slow.recv(2**16) == b"")


def test_a_server_without_keys_is_asked_by_the_names_of_its_own_machine_only(running):
    """A web page whose own name was made to point here (DNS rebinding) asks by that name."""
    host, port = running(Limits())
    for name, status in {
        f"127.0.0.1:{port}": 200, "localhost": 200, f"[::1]:{port}": 200, "LOCALHOST:80": 200,
        "evil.example": 421, f"evil.example:{port}": 421, "127.0.0.1.evil.example": 421, "localhost@evil.example": 421,
        "": 421, "[": 421,
    }.items():  # fmt: skip
        for path in ("/readyz", "/metrics", "/v1/models/model"):
            answer = httpx.get(f"http://{host}:{port}{path}", headers={"Host": name})
            assert answer.status_code == status, name
    assert "answers to 127.0.0.1, ::1, localhost only" in answer.json()["detail"]


def test_an_empty_key_file_is_warned_about(bundle, tmp_path, caplog):
    load_app(bundle.path, state=tmp_path)
    assert "every request is refused until one is added" in caplog.text
