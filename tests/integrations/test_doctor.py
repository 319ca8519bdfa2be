"""``medward doctor``: a sentence on what is missing or wrong, the remedy, and an exit code; never more than that."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import sys
from datetime import UTC, datetime, timedelta
from importlib import metadata

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.authorities import Authority
from support.issuer import key_set
from support.redis_server import DURABLE, running

from medward.guard.bundle.folder import seal_bundle
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.integrations.cli import main
from medward.integrations.doctor import libraries, state_part
from medward.integrations.doctor.remark import Remark, examined
from medward.integrations.serving import load_app
from medward.integrations.serving.keys import KeyStore

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(300, 4)).astype(np.float32)
SECRET = "correct-horse"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    policy = Policy(on_error="withhold", budget={"daily_bits": 100})
    path = tmp_path_factory.mktemp("doctor") / "bundle"
    return protect(model, Split(ROWS), policy, path, classes=("no", "yes")).path


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made, tmp_path / "bundle")


@pytest.fixture
def state(made, tmp_path):
    """A folder that a server has used."""
    folder = tmp_path / "state"
    keys = KeyStore(folder / "keys.json")
    token = keys.add(("clinic", "ward"))
    keys.add(("monitoring",), scope="metrics")
    with TestClient(load_app(made, state=folder)) as client:
        answer = client.post("/v1/predict", json={"inputs": ROWS[:2].tolist()}, headers={"X-API-Key": token})
    assert answer.status_code == 200
    return folder


@pytest.fixture
def examine(capsys):
    """Run the command; its exit code, its remarks by state, and all it printed."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["doctor", *map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert SECRET not in said.out + said.err
        found = json.loads(said.out)
        assert found["well"] == (stopped.value.code == 0)
        return stopped.value.code, [Remark(**each) for each in found["remarks"]]

    return run


def mends(remarks):
    assert all(each.remedy for each in remarks if each.state == "mend"), remarks
    return {each.part: each.said for each in remarks if each.state == "mend"}


def kept(state):
    names = sorted(each.name for each in state.iterdir())
    return names, *((state / name).read_bytes() for name in ("audit.jsonl", "salt", "keys.json"))


def test_a_deployment_that_is_well_has_nothing_to_mend_and_is_left_as_it_was(examine, bundle, state):
    before = kept(state)
    code, remarks = examine(bundle, "--state", state)
    assert (code, mends(remarks)) == (0, {})
    parts = {each.part for each in remarks}
    assert parts >= {"python", "libraries", "onnxruntime", "bundle", "policy", "guard", "power", "disk"}
    assert parts >= {"store", "audit log", "clock", "keys"}
    assert kept(state) == before


def test_a_bare_host_is_examined_without_a_deployment_and_nothing_is_made(examine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, remarks = examine()
    assert code == 0
    assert {each.part for each in remarks} == {"python", "libraries"}
    code, remarks = examine("--state", tmp_path / "none", "--store", tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []


def test_in_words_each_line_has_its_state_its_part_and_its_remedy(capsys, bundle, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", str(bundle), "--state", str(tmp_path / "none")])
    lines = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 0
    assert lines[-1] == "all is well"
    assert any(
        line.startswith("note  bundle: whoever can rewrite") and "; start with --expect " in line for line in lines
    )


def damaged(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("part", ["policy.toml", "profile.npz", "card.json", "model.onnx"])
def test_a_bundle_with_a_changed_byte_is_named(examine, bundle, part, tmp_path):
    damaged(bundle / part)
    code, remarks = examine(bundle, "--state", tmp_path / "none")
    assert code == 1
    assert part in mends(remarks)["bundle"]


def test_a_policy_that_asks_for_what_is_not_there_is_named(examine, bundle, tmp_path):
    text = (bundle / "policy.toml").read_text()
    assert "pooled = 0.0" in text
    (bundle / "policy.toml").write_text(text.replace("pooled = 0.0", "pooled = 0.9"))
    seal_bundle(bundle)
    code, remarks = examine(bundle, "--state", tmp_path / "none")
    assert code == 1
    assert "pooled" in mends(remarks)["guard"]


def test_what_a_policy_switches_off_is_said_and_is_nothing_to_mend(examine, bundle, tmp_path):
    text = (bundle / "policy.toml").read_text().replace("daily_bits = 100.0", "daily_bits = 0.0")
    (bundle / "policy.toml").write_text(text.replace('action = "withhold"\n', 'action = "allow"\n', 1))
    seal_bundle(bundle)
    code, remarks = examine(bundle, "--state", tmp_path / "none")
    noted = [each.said for each in remarks if each.part == "policy" and each.state == "note"]
    assert code == 0
    assert any(each.startswith('screen.action = "allow"') for each in noted)
    assert any(each.startswith("[budget] sets no limit") for each in noted)


def test_the_wrong_bundle_is_one_to_mend(examine, bundle, tmp_path):
    code, remarks = examine(bundle, "--state", tmp_path / "none", "--expect", "0" * 64)
    assert code == 1
    assert "expected 000000000000" in mends(remarks)["bundle"]


def test_a_library_that_is_missing_or_out_of_range_is_named_with_its_extra(monkeypatch):
    held = {"onnxruntime": "1.2", "redis": ""}
    installed = libraries._installed
    monkeypatch.setattr(libraries, "_installed", lambda name: held.get(name, installed(name)))
    (wrong,) = [each for each in libraries.library_remarks(("serve",), "to serve") if each.state == "mend"]
    assert wrong.said.startswith("onnxruntime 1.2 is not within >=1.18")
    assert wrong.remedy == "pip install --upgrade 'medward[serve]'"
    (away,) = libraries.library_remarks(("redis",), "for --store")
    assert (away.state, away.said) == ("mend", "redis is not installed; for --store")
    (well,) = libraries.library_remarks(("dicomweb",), "for --source")
    assert well.state == "well"


def test_an_extra_of_ours_stands_for_what_it_needs():
    found = libraries._wanted(metadata.requires("medward"), ("dicomweb",))
    assert {"httpx2", "pydicom"} <= found["dicomweb"].keys()
    assert "redis" not in found["dicomweb"]
    assert "numpy" in libraries._wanted(metadata.requires("medward"), ())[""]


def test_without_what_serving_needs_the_host_alone_is_examined(examine, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "medward.integrations.doctor.examination", None)
    monkeypatch.setattr(libraries, "_installed", lambda name: "" if name == "fastapi" else metadata.version(name))
    code, remarks = examine("--state", tmp_path)
    assert code == 1
    assert mends(remarks) == {"libraries": "fastapi is not installed; needed to serve a bundle"}


def test_a_python_out_of_range_is_named(monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    (found,) = libraries.python_remarks()
    assert (found.state, found.said) == ("mend", "Python 3.9.1 is not within >=3.11")


def test_a_folder_that_others_may_read_is_named_with_its_mode(examine, state):
    (state / "salt").chmod(0o644)
    code, remarks = examine("--state", state)
    assert code == 1
    assert mends(remarks)["state"] == f"{state / 'salt'}: others than its owner may use it (mode 644)"


def test_a_full_disk_and_a_slow_one_are_said(examine, state, monkeypatch):
    monkeypatch.setattr(state_part, "LEAST_ROOM", 2**62)
    monkeypatch.setattr(state_part, "SLOW_SYNC", -1.0)
    code, remarks = examine("--state", state)
    assert code == 1
    assert "GiB free" in mends(remarks)["disk"]
    assert any("an fsync takes" in each.said and each.state == "note" for each in remarks)


@pytest.mark.parametrize("name", ["audit.jsonl", "keys.json", "salt", "accounts.db"])
def test_a_damaged_file_of_the_state_is_one_to_mend_and_stays_as_it_is(examine, state, name):
    content = b"no such thing\n" * 100
    (state / name).write_bytes(content)
    code, remarks = examine("--state", state)
    parts = {"audit.jsonl": "audit log", "keys.json": "keys", "salt": "state", "accounts.db": "store"}
    assert code == 1
    assert list(mends(remarks)) == [parts[name]]
    assert (state / name).read_bytes() == content


def test_an_unfinished_last_line_is_noted_and_a_log_that_is_gone_is_not_made_anew(examine, state):
    log = state / "audit.jsonl"
    log.write_bytes(log.read_bytes() + b'{"seq":')
    code, remarks = examine("--state", state)
    assert code == 0
    assert any("ended in 7 bytes of a record" in each.said and each.state == "note" for each in remarks)
    log.rename(state / "audit.000001.jsonl")
    code, remarks = examine("--state", state)
    assert "closed segments are beside it" in mends(remarks)["audit log"]
    assert not log.exists()


def test_a_salt_that_is_gone_is_not_made_anew(examine, state):
    (state / "salt").unlink()
    code, remarks = examine("--state", state)
    assert code == 1
    assert "is missing beside a log" in mends(remarks)["state"]
    assert not (state / "salt").exists()


def test_a_record_from_the_future_says_that_the_clock_is_behind(state, monkeypatch):
    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=400)

    (well,) = [each for each in state_part.log_remarks(state / "audit.jsonl") if each.part == "clock"]
    monkeypatch.setattr(state_part, "datetime", Earlier)
    (behind,) = [each for each in state_part.log_remarks(state / "audit.jsonl") if each.part == "clock"]
    assert (well.state, behind.state) == ("well", "mend")
    assert "the clock is 400 days" in behind.said or "the clock is 399 days" in behind.said


def test_keys_are_counted_and_those_that_end_soon_are_named(examine, tmp_path):
    keys, now = KeyStore(tmp_path / "keys.json"), datetime.now(UTC)
    token = keys.add(("clinic", "soon"), expires=now + timedelta(days=3))
    keys.add(("clinic", "later"), expires=now + timedelta(days=30))
    (tmp_path).chmod(0o700)
    code, remarks = examine("--state", tmp_path)
    assert code == 1
    soon = token.split("_")[1]
    assert mends(remarks)["keys"].startswith(f"key {soon} of clinic/soon ends on ")
    assert "2 keys are valid (2 of scope predict, 0 of scope metrics" in " ".join(each.said for each in remarks)
    assert token not in str(remarks)


def test_a_host_without_a_key_can_be_asked_by_nobody_unless_tokens_are_taken(examine, tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "jwks.json").write_bytes(key_set())
    code, remarks = examine("--state", tmp_path / "state")
    assert mends(remarks)["keys"].endswith("nobody can ask")
    identity = ("--identity-issuer", "https://login.example", "--identity-audience", "x", "--identity-jwks")
    code, remarks = examine("--state", tmp_path / "state", *identity, tmp_path / "jwks.json")
    assert (code, mends(remarks)) == (0, {})
    assert "identity" in {each.part for each in remarks}
    code, remarks = examine("--state", tmp_path / "state", *identity, tmp_path / "none.json")
    assert list(mends(remarks)) == ["identity"]


def test_certificates_are_read_and_their_ends_named(examine, tmp_path):
    authority = Authority(tmp_path)
    (tmp_path / "state").mkdir(mode=0o700)
    KeyStore(tmp_path / "state" / "keys.json").add(("clinic",))
    for days, said in ((100, None), (3, "2 days"), (-1, "ended on")):
        own = authority.sign("server", days=days)
        code, remarks = examine(
            "--state", tmp_path / "state", "--certificate", own.certificate, "--private-key", own.private_key
        )
        assert code == (said is not None)
        assert (said or "") in mends(remarks).get("TLS", "")
    code, remarks = examine("--state", tmp_path / "state", "--certificate", tmp_path / "state" / "keys.json")
    assert "give both or neither" in mends(remarks)["transport"]
    assert "holds no PEM certificate" in mends(remarks)["TLS"]


def test_a_store_is_tried_and_its_password_never_shown(examine, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code, remarks = examine("--state", tmp_path / "none", "--store", f"redis://:{SECRET}@127.0.0.1:{port}/0")
    assert code == 1
    assert "store" in mends(remarks)


def test_a_store_that_replicas_share_is_well_while_it_answers(examine, tmp_path):
    with running(tmp_path, *DURABLE) as redis:
        code, remarks = examine("--state", tmp_path / "none", "--store", redis.url)
    assert (code, mends(remarks)) == (0, {})
    assert any(each.part == "store" and each.state == "well" for each in remarks)


def test_an_archive_that_does_not_answer_is_one_to_mend(examine, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDWARD_SOURCE_AUTHORIZATION", f"Bearer {SECRET}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code, remarks = examine("--state", tmp_path / "none", "--source", f"http://127.0.0.1:{port}/dicom-web")
    assert code == 1
    assert "archive" in mends(remarks)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--nonsense",), "nonsense"),
        (("--workers", "0"), "limits.workers must be >= 1, got 0"),
        (("--state", "a", "--state", "b"), "--state: is said 2 times"),
        (("--config", "none.toml"), "none.toml: cannot be read"),
        (("--alarm-webhook", "http://soc.example"), "alarm-webhook"),
        (("--source", "ftp://x"), "source: must be an address"),
    ],
)
def test_what_it_cannot_be_asked_ends_with_3_and_a_sentence(capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", *arguments])
    error = capsys.readouterr().err
    assert stopped.value.code == 3
    assert error.startswith("medward: ")
    assert said in error


def test_a_check_that_breaks_is_a_remark_and_hides_its_reason():
    def broken():
        yield Remark(part="x", said="seen")
        raise RuntimeError(SECRET)

    (found,) = examined("x", broken, "mend it")
    assert found.state == "mend"
    assert SECRET not in str(found)


def test_it_can_be_asked_while_a_server_holds_the_state(examine, made, state):
    with TestClient(load_app(made, state=state)) as client:
        code, remarks = examine(made, "--state", state)
        assert client.get("/readyz").status_code == 200
    assert (code, mends(remarks)) == (0, {})
    assert logging.getLogger("medward").level == logging.NOTSET
