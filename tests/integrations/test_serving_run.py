"""The server as it is deployed: a bundle, a state folder, a process that can be killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient

from guard.audit import read, verify
from guard.data import Split
from guard.errors import IntegrityError, MedwardError
from guard.policy import Policy
from guard.protect import protect
from guard.stores import SQLiteStore
from integrations.keys import KeyStore
from integrations.serving import load_app, serve
from integrations.serving.run import read_salt

ROWS = np.random.default_rng(3).normal(size=(300, 4)).astype(np.float32)
WHO = ("hospital-a", "key-1")
SERVER = """
import sys
from pathlib import Path
from integrations.serving import serve
serve(Path(sys.argv[1]), state=Path(sys.argv[2]), port=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    path = tmp_path_factory.mktemp("served") / "bundle"
    return protect(model, Split(ROWS), Policy(on_error="withhold"), path, classes=("no", "yes"))


@pytest.fixture
def server(bundle, tmp_path):
    """A running server's process, its address and its state folder; killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    state = tmp_path / "state"
    command = [sys.executable, "-c", SERVER, str(bundle.path), str(state), str(port)]
    with open(tmp_path / "stderr", "wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, stdout=stderr)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/readyz").raise_for_status()
                break
            except httpx.TransportError:
                assert process.poll() is None, (tmp_path / "stderr").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield process, url, state
    finally:
        process.kill()
        process.wait()


def test_kill_9_under_load_loses_no_acknowledged_audit_record(server, bundle):
    process, url, state = server
    assert httpx.post(f"{url}/v1/predict", json={"inputs": [[0] * 4]}).status_code == 401
    token = KeyStore(state / "keys.json").add(WHO)
    acknowledged: list[str] = []
    killed = threading.Event()

    def ask(row):
        with httpx.Client(headers={"X-API-Key": token}) as client:
            for _ in range(200):
                try:
                    response = client.post(f"{url}/v1/predict", json={"inputs": [row]}, timeout=30)
                except httpx.TransportError:
                    return
                assert response.status_code == 200, response.text
                acknowledged.append(response.json()["id"])
                if len(acknowledged) >= 60 and not killed.is_set():
                    killed.set()
                    process.send_signal(signal.SIGKILL)

    threads = [threading.Thread(target=ask, args=(row.tolist(),)) for row in ROWS[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert process.wait(10) == -signal.SIGKILL
    assert 60 <= len(acknowledged) < 600
    log = state / "audit.jsonl"
    assert set(acknowledged) <= {record["query"] for record in read(log)}
    before = verify(log).records
    assert {record["principal"] for record in read(log)} == {"/".join(WHO)}

    with TestClient(load_app(bundle.path, state=state)) as client:
        body = {"inputs": ROWS[:1].tolist()}
        assert client.post("/v1/predict", json=body, headers={"X-API-Key": token}).status_code == 200
    assert verify(log).records == before + 1


def test_a_restart_remembers_accounts_keys_and_salt(bundle, tmp_path):
    state = tmp_path / "state"
    for _ in range(2):
        with TestClient(load_app(bundle.path, state=state, anonymous=True)) as client:
            assert client.post("/v1/predict", json={"inputs": ROWS[:5].tolist()}).status_code == 200
    first, second = read(state / "audit.jsonl")
    assert first["inputs"] == second["inputs"]
    store = SQLiteStore(state / "accounts.db")
    assert store.get("anonymous")["n"] == 5  # the repeats are not bet on again
    store.close()
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "salt").stat().st_mode & 0o777 == 0o600


def test_the_bundle_s_digest_is_the_served_version(bundle, tmp_path):
    with TestClient(load_app(bundle.path, state=tmp_path, anonymous=True, expect=bundle.digest)) as client:
        assert client.get("/v2/models/model").json()["versions"] == [bundle.digest[:12]]
    with pytest.raises(IntegrityError):
        load_app(bundle.path, state=tmp_path, anonymous=True, expect="0" * 64)


def test_the_salt_is_made_once_and_a_short_one_is_refused(tmp_path):
    salt = read_salt(tmp_path / "salt")
    assert len(salt) == 32
    assert read_salt(tmp_path / "salt") == salt
    assert [each.name for each in tmp_path.iterdir()] == ["salt"]
    (tmp_path / "salt").write_bytes(salt[:31])
    with pytest.raises(IntegrityError, match="32 bytes, got 31"):
        read_salt(tmp_path / "salt")


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
        serve(bundle.path, state=tmp_path / "state", **options)
    assert not (tmp_path / "state").exists()


def test_a_state_that_is_a_file_is_refused_with_a_sentence(bundle, tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(MedwardError, match="cannot hold the server's state"):
        load_app(bundle.path, state=tmp_path / "state")


def test_an_empty_key_file_is_warned_about(bundle, tmp_path, caplog):
    load_app(bundle.path, state=tmp_path)
    assert "every request is refused until one is added" in caplog.text
