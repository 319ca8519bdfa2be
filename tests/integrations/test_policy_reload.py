"""Hot reload of a policy: on record first, between batches, states kept; a bad one changes nothing and is told."""

from __future__ import annotations

import os
import signal
import threading
import time

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.live_servers import listening
from support.processes import serving

from medward.guard.audit.log import read_log, verify_log
from medward.guard.audit.record import POLICY_CHANGED, is_query_record
from medward.guard.audit.replay import replay_log
from medward.guard.bundle.folder import load_bundle, seal_bundle
from medward.guard.bundle.make import protect
from medward.guard.bundle.new_policy import reread_policy
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.policy_change import changed_keys, check_changeable
from medward.integrations.clinical.fhir_audit import audit_event
from medward.integrations.serving import health, load_app
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.policy_reload import PolicyRefused
from medward.integrations.serving.served_guard import ServedGuard, ServedPlace

RNG = np.random.default_rng(11)
BENIGN = RNG.normal(size=(400, 4)).astype(np.float32)
THEFT = RNG.normal(size=(30, 4)).astype(np.float32) * 6
ROW = {"inputs": [[0.1, -0.2, 0.3, 0.4]]}
LADDER = {"ladder": [{"false_alarm": 0.01, "action": "coarsen"}, {"false_alarm": 0.0001, "action": "withhold"}]}
POLICY = {"on_error": "withhold", "screen": {"action": "flag"}, "budget": {"total_bits": 1000}, "monitor": LADDER}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    model = LogisticRegression().fit(BENIGN, BENIGN[:, 0] > 0)
    path = tmp_path_factory.mktemp("reload") / "bundle"
    protect(model, Split(BENIGN), Policy(**POLICY), path, classes=("no", "yes"))
    return {each.name: each.read_bytes() for each in path.iterdir()}


@pytest.fixture
def bundle(made, tmp_path):
    path = tmp_path / "bundle"
    path.mkdir()
    for name, content in made.items():
        (path / name).write_bytes(content)
    return path


def level_of(reply):
    return reply.json()["levels"][0]


def sealed(bundle, **sections):
    """Write the policy with other sections, and seal it."""
    (bundle / "policy.toml").write_text(Policy(**{**POLICY, **sections}).to_toml())
    return seal_bundle(bundle)


class Host:
    """A server in this process, and keys of all scopes."""

    def __init__(self, bundle, state, **settings):
        keys = KeyStore(state / "keys.json")
        scopes = ("predict", "metrics", "admin")
        self.tokens = {scope: keys.add(("clinic", scope), scope=scope) for scope in scopes}
        self.tokens["thief"] = keys.add(("clinic", "thief"))
        self.state, self.log = state, state / "audit.jsonl"
        self.app = load_app(bundle, state=state, **settings)
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def ask(self, body=ROW, who="predict"):
        return self.client.post("/v1/predict", json=body, headers={"X-API-Key": self.tokens[who]})

    def reload(self, who="admin", **body):
        return self.client.post("/admin/v1/reload", json=body or None, headers={"X-API-Key": self.tokens[who]})

    def ready(self):
        return self.client.get("/readyz", headers={"X-API-Key": self.tokens["metrics"]}).json()

    def records(self):
        return [*read_log(self.log)]


@pytest.fixture
def host(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(health, "SECONDS_KEPT", 0.0)
    made = Host(bundle, tmp_path / "state")
    with made.client:
        yield made


def test_a_sealed_policy_is_in_force_at_once_and_on_record_before(host, bundle):
    before = load_bundle(bundle)
    assert level_of(host.ask()) == "rounded"
    digest = sealed(bundle, release={"level": "label"})
    assert level_of(host.ask()) == "rounded"  # it was not asked for
    reply = host.reload()
    assert reply.status_code == 200, reply.text
    assert level_of(host.ask()) == "label"
    after = load_bundle(bundle)
    said = reply.json()
    assert said["bundle"] == digest == after.digest
    assert (said["before"], said["policy"]) == (before.policy.fingerprint, after.policy.fingerprint)
    assert said["sections"] == ["release"]
    assert said["keys"] == {"release.level": ["rounded", "label"]}
    records = host.records()
    (changed,) = [each for each in records if each.get("event") == POLICY_CHANGED]
    assert changed["operator"] == "clinic/admin"
    assert changed["credential"] == f"key:{host.tokens['admin'].split('_')[1]}"
    assert (changed["bundle_before"], changed["bundle"]) == (before.digest, after.digest)
    queries = [each for each in records if is_query_record(each)]
    named = [(each["policy"], each["bundle"], each["seq"] > changed["seq"]) for each in queries]
    old = (before.policy.fingerprint, before.digest, False)
    assert named == [old, old, (after.policy.fingerprint, after.digest, True)]
    assert verify_log(host.log).records == len(records)
    assert audit_event(changed, observer="here")["agent"][0]["who"]["identifier"]["value"] == "clinic/admin"


def test_the_version_that_clients_are_told_follows_and_is_that_of_who_answered(host, bundle):
    head = {"X-API-Key": host.tokens["predict"]}
    name = host.app.state.service.guard.model.spec.name
    old = host.client.get(f"/v2/models/{name}", headers=head).json()["versions"]
    digest = sealed(bundle, release={"level": "label"})
    host.reload()
    metadata = host.client.get(f"/v2/models/{name}", headers=head).json()
    assert metadata["versions"] == [digest[:12]] != old
    tensor = {"name": "inputs", "shape": [1, 4], "datatype": "FP32", "data": ROW["inputs"][0]}
    answer = host.client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}, headers=head).json()
    assert answer["model_version"] == digest[:12]
    schema = host.client.get("/openapi.json", headers=head).json()
    assert schema["info"]["version"] == digest[:12]
    assert old[0] not in str(schema)
    fhir = host.client.post("/v1/predict", json=ROW, headers={**head, "Accept": "application/fhir+json"})
    assert digest[:12] in fhir.text
    metrics = host.client.get("/metrics", headers={"X-API-Key": host.tokens["metrics"]}).text
    assert f'version="{digest[:12]}"' in metrics
    assert 'medward_policy_reloads_total{outcome="taken"} 1.0' in metrics


def test_states_survive_and_the_ladder_reads_them(host, bundle):
    for row in THEFT:
        host.ask({"inputs": [row.tolist()]}, "thief")
    assert level_of(host.ask(who="thief")) == "withheld"
    before = host.app.state.service.guard.accounts.overview("clinic/thief")
    rungs = [{"false_alarm": 1e-300, "action": "coarsen"}]
    sealed(bundle, monitor={"ladder": rungs})
    milder = host.reload().json()
    assert (milder["restarted"], milder["stricter"]) == (False, [])
    assert "clinic/thief" in milder["milder"]
    assert level_of(host.ask(who="thief")) == "rounded"
    after = host.app.state.service.guard.accounts.overview("clinic/thief")
    assert after.queries == before.queries + 1  # the test goes on
    assert after.peak >= before.peak
    sealed(bundle)
    assert "clinic/thief" in host.reload().json()["stricter"]
    assert level_of(host.ask(who="thief")) == "withheld"
    policies = [Policy(**POLICY), Policy(**{**POLICY, "monitor": {"ladder": rungs}})]
    loaded = load_bundle(bundle)
    assert replay_log(host.records(), policies, loaded.profile).restarts == {}


def test_what_a_monitor_means_begins_the_tests_anew_and_clears_no_alarm(host, bundle):
    for row in THEFT:
        host.ask({"inputs": [row.tolist()]}, "thief")
    sealed(bundle, monitor={**LADDER, "drift": 0.5})
    said = host.reload().json()
    assert (said["restarted"], said["milder"], said["sections"]) == (True, [], ["monitor"])
    assert level_of(host.ask(who="thief")) == "withheld"
    assert host.app.state.service.guard.accounts.overview("clinic/thief").queries == 1


def test_what_was_told_stays_told_under_another_budget(host, bundle):
    rows = [{"inputs": [row.tolist()]} for row in BENIGN[:8]]
    for row in rows[:4]:
        assert level_of(host.ask(row)) == "rounded"
    spent = host.app.state.service.guard.accounts.overview("clinic/predict").bits_total
    assert spent > 4
    sealed(bundle, budget={"total_bits": spent / 2})
    assert "clinic/predict" in host.reload().json()["spent"]
    assert level_of(host.ask(rows[4])) == "withheld"
    sealed(bundle, budget={"total_bits": spent * 100})
    host.reload()
    assert level_of(host.ask(rows[5])) == "rounded"
    assert host.app.state.service.guard.accounts.overview("clinic/predict").bits_total > spent


def unsealed(bundle):
    text = (bundle / "policy.toml").read_text()
    (bundle / "policy.toml").write_text(text.replace("decimals = 2", "decimals = 3"))


def no_toml(bundle):
    (bundle / "policy.toml").write_text("on_error = ")


def gone(bundle):
    (bundle / "policy.toml").unlink()


def unknown_key(bundle):
    text = (bundle / "policy.toml").read_text()
    (bundle / "policy.toml").write_text(text.replace("decimals = 2", "digits = 2"))
    reseal(bundle)


def unpooled(bundle):
    sealed(bundle, release={"pooled": 0.9})


def another_model(bundle):
    (bundle / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes() + b"\0")


def certified(bundle):
    policy = Policy(**{**POLICY, "certify": {"enabled": True, "radius": 0.1}})
    (bundle / "policy.toml").write_text(policy.to_toml())
    reseal(bundle)


def recalibrated(bundle):
    card = load_bundle(bundle).card
    card = card.model_copy(update={"data_digest": "0" * 64}).sealed()
    (bundle / "card.json").write_bytes(card.to_bytes())


def reseal(bundle):
    """Seal whatever the policy holds, as who seals by other means would."""
    from medward.guard.bundle.card import POLICY as NAME
    from medward.guard.bundle.card import sha256
    from medward.guard.bundle.parts import read_card

    card = read_card(bundle)
    files = {**card.files, NAME: sha256((bundle / NAME).read_bytes())}
    (bundle / "card.json").write_bytes(card.model_copy(update={"files": files}).sealed().to_bytes())


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (unsealed, "policy.toml: does not match its digest in card.json; run `medward seal`"),
        (no_toml, "policy.toml: does not match its digest"),
        (gone, "policy.toml: cannot be read"),
        (unknown_key, "release.digits = 2 is not a known key"),
        (unpooled, "pooled"),
        (another_model, "model.onnx: does not match its digest"),
        (certified, "certif"),
        (recalibrated, "differs from the bundle that is served by more than its policy; restart the server"),
    ],
)
def test_a_bad_policy_on_reload_is_refused_in_a_sentence_and_the_old_one_goes_on(host, bundle, made, bad, said):
    first = host.ask().json()
    count, kept = len(host.records()), host.app.state.service.place.now
    bad(bundle)
    reply = host.reload()
    assert reply.status_code == 422
    assert said in reply.json()["detail"]
    assert host.app.state.service.place.now is kept
    ready = host.ready()
    assert ready["status"] == "ok"
    assert any("was refused at" in note and said in note for note in ready["notes"])
    again = host.ask().json()
    assert {**again, "id": ""} == {**first, "id": ""}
    events = [each.get("event") for each in host.records()[count:]]
    assert POLICY_CHANGED not in events
    for name, content in made.items():
        (bundle / name).write_bytes(content)
    assert host.reload().json()["sections"] == []
    assert not any("was refused at" in note for note in host.ready().get("notes", []))


def test_a_change_that_cannot_be_put_on_record_is_not_made(host, bundle, monkeypatch):
    audit = host.app.state.service.guard.audit

    def away(record):
        raise UnavailableError("the disk is full")

    sealed(bundle, release={"level": "label"})
    with monkeypatch.context() as patch:
        patch.setattr(audit, "append", away)
        reply = host.reload()
    assert (reply.status_code, reply.json()["detail"]) == (503, "the disk is full")
    assert level_of(host.ask()) == "rounded"
    assert host.reload().status_code == 200
    assert level_of(host.ask()) == "label"


def test_while_the_store_is_away_a_policy_can_be_changed_and_nobody_is_counted(host, bundle, monkeypatch):
    store = host.app.state.service.guard.store

    def away():
        raise UnavailableError("gone")

    monkeypatch.setattr(store, "state_keys", away)
    sealed(bundle, on_error="flag", budget={"total_bits": 5})
    said = host.reload().json()
    assert said["keys"]["on_error"] == ["withhold", "flag"]
    assert (said["stricter"], said["milder"], said["spent"]) == (None, None, None)


def test_only_the_scope_admin_reloads(host, bundle):
    sealed(bundle, release={"level": "label"})
    assert host.reload("predict").status_code == 403
    assert host.reload("metrics").status_code == 403
    assert host.client.post("/admin/v1/reload").status_code == 401
    assert host.reload(policy="x").status_code == 422
    assert level_of(host.ask()) == "rounded"


def test_a_server_that_was_started_with_a_digest_is_told_the_new_one(bundle, tmp_path):
    host = Host(bundle, tmp_path / "state", expect=load_bundle(bundle).digest)
    with host.client:
        digest = sealed(bundle, release={"level": "label"})
        refused = host.reload()
        assert refused.status_code == 422
        assert "started with --expect" in refused.json()["detail"]
        assert "expected 000000000000" in host.reload(expect="0" * 64).json()["detail"]
        with pytest.raises(PolicyRefused):
            host.app.state.reloader.reload("signal")
        assert host.reload(expect=digest).status_code == 200
        assert host.reload().json()["sections"] == []  # nothing new: no digest is needed


def test_a_batch_under_way_is_of_the_old_policy_and_what_comes_waits_for_the_new(bundle, tmp_path, monkeypatch):
    host = Host(bundle, tmp_path / "state")
    place = host.app.state.service.place
    asked, go = threading.Event(), threading.Event()
    predict = type(place.now.guard.model).predict

    def waiting(self, inputs):
        asked.set()
        assert go.wait(30)
        return predict(self, inputs)

    monkeypatch.setattr(type(place.now.guard.model), "predict", waiting)
    found = {}

    def post(name, path, key, body):
        head = {"X-API-Key": host.tokens[key]}
        found[name] = httpx.post(f"{live.url}{path}", json=body, headers=head, timeout=30)

    with listening(host.app) as live:
        threads = [threading.Thread(target=post, args=("first", "/v1/predict", "predict", ROW))]
        threads[0].start()
        assert asked.wait(30)
        sealed(bundle, release={"level": "label"})
        threads.append(threading.Thread(target=post, args=("reload", "/admin/v1/reload", "admin", None)))
        threads[1].start()
        deadline = time.monotonic() + 30
        while not place._changing:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        threads.append(threading.Thread(target=post, args=("second", "/v1/predict", "thief", ROW)))
        threads[2].start()
        while host.app.state.service.pool.jobs < 2:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert place.now.guard.policy.release.level == "rounded"
        assert not found
        go.set()
        for thread in threads:
            thread.join(30)
    assert found["reload"].status_code == 200, found["reload"].text
    assert [level_of(found[name]) for name in ("first", "second")] == ["rounded", "label"]
    events = [each.get("event", "query") for each in host.records()]
    assert events == ["query", POLICY_CHANGED, "query"]


def test_a_batch_that_does_not_end_stops_the_reload_and_nobody_else():
    place = ServedPlace(ServedGuard(None, "old"))
    with place.answering() as served:
        with pytest.raises(UnavailableError, match="did not end within"), place.between_batches(0.01):
            raise AssertionError("it was let in")
        with place.answering() as other:
            assert served is other
    with place.between_batches(0.01):
        place.now = ServedGuard(None, "new")
    with place.answering() as served:
        assert served.version == "new"


def test_sighup_reloads_a_running_server_and_a_bad_policy_leaves_it_up(bundle, tmp_path):
    keys = KeyStore(tmp_path / "state" / "keys.json")
    token, watching = keys.add(("clinic",)), keys.add(("watch",), scope="metrics")
    with serving(bundle, tmp_path) as server, httpx.Client(base_url=server.url) as client:

        def level():
            return level_of(client.post("/v1/predict", json=ROW, headers={"X-API-Key": token}))

        def until(holds):
            deadline = time.monotonic() + 30
            while not holds():
                assert time.monotonic() < deadline, (tmp_path / "stderr").read_text()
                time.sleep(0.05)

        def refused():
            return "was refused at" in client.get("/readyz", headers={"X-API-Key": watching}).text

        assert level() == "rounded"
        sealed(bundle, release={"level": "label"})
        os.kill(server.process.pid, signal.SIGHUP)
        until(lambda: level() == "label")
        unsealed(bundle)
        os.kill(server.process.pid, signal.SIGHUP)
        until(refused)
        assert level() == "label"
        assert server.process.poll() is None
    (changed,) = [each for each in read_log(server.state / "audit.jsonl") if each.get("event") == POLICY_CHANGED]
    assert changed["operator"] == "signal SIGHUP"


def test_keys_that_differ_are_named_with_both_values_and_waivers_without_their_text():
    waiver = {"attack": "uap", "reason": "a secret of ours", "by": "jo", "until": "2099-01-01"}
    old, new = Policy(**POLICY), Policy(**{**POLICY, "on_error": "flag", "accept": [waiver]})
    assert changed_keys(old, new) == {"on_error": ("withhold", "flag"), "accept": (0, 1)}
    assert changed_keys(old, old) == {}


def test_what_is_fixed_at_the_start_takes_a_restart(bundle):
    spec = load_bundle(bundle).card.spec
    old = Policy(**POLICY)
    with pytest.raises(MedwardError, match="restart"):
        check_changeable(old, Policy(**{**POLICY, "certify": {"enabled": True, "radius": 0.1}}), spec)
    check_changeable(old, Policy(**{**POLICY, "privacy": {"memory": True}}), spec)  # of a model that writes nothing


def test_rereading_loads_no_model(bundle, monkeypatch):
    loaded = load_bundle(bundle)
    sealed(bundle, release={"level": "label"})
    monkeypatch.setattr("medward.guard.models.load_model", None)
    again = reread_policy(loaded)
    assert again.model is loaded.model
    assert again.policy.release.level == "label"
