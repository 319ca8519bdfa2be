import gzip
import json
import logging
import threading
from dataclasses import replace
from types import SimpleNamespace

import anyio
import httpx
import numpy as np
import pytest
from support.host import files_no_larger_than
from support.models import LinearModel, benign_rows

from medward.guard.accounts.stores import MemoryStore
from medward.guard.audit.log import AuditLog, verify_log
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.types import Outputs
from medward.integrations.serving import Limits, create_app, health
from medward.integrations.serving.body import parse_body
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.predict import request_type

FULL = Policy(on_error="withhold", release={"level": "full"})
SCREENED = Policy(on_error="withhold", screen={"rate": 0.1, "action": "withhold"})
TOO_MUCH = "the body holds more than 64 rows of shape (3,) need"
ROWS = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]]


def assert_problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "instance", "error"}
    assert body["error"] == body["detail"]
    assert body["status"] == status
    assert body["instance"].endswith("#" + response.headers["x-request-id"])
    return body["detail"]


def test_at_level_full_the_answer_is_the_model_s_own(client, linear_model):
    body = client(FULL).post("/v1/predict", json={"inputs": ROWS}).json()
    own = linear_model.predict(np.float32(ROWS)).scores
    np.testing.assert_allclose(body["scores"], own, atol=1e-6)
    assert body["labels"] == ["c", "a"]
    assert body["indices"] == [2, 0]
    assert body["levels"] == ["full", "full"]
    assert body["model"] == "linear"
    assert body["score_kind"] == "logits"


def test_a_withheld_row_shows_nothing_and_not_why(client):
    response = client(SCREENED).post("/v1/predict", json={"inputs": [[90.0, -90.0, 90.0], ROWS[0]]})
    body = response.json()
    assert body["levels"] == ["withheld", "rounded"]
    assert body["labels"] == [None, "c"]
    assert body["indices"] == [None, 2]
    assert body["scores"][0] is None
    assert sum(body["scores"][1]) == pytest.approx(1, abs=0.03)
    assert body["score_kind"] == "probabilities"
    assert set(body) == {"id", "model", "labels", "indices", "scores", "levels", "score_kind"}
    for word in ("screen", "p_value", "verdict", "e-process", "strange", "log_e", "NaN"):
        assert word not in response.text


def test_a_label_only_answer_has_no_scores(client):
    policy = Policy(on_error="withhold", release={"level": "label"})
    body = client(policy).post("/v1/predict", json={"inputs": ROWS}).json()
    assert body["scores"] == [None, None]
    assert body["labels"] == ["c", "a"]


class List(list):
    def append(self, record):
        super().append(dict(record))


def test_the_answer_s_id_is_the_audit_record_s_and_never_the_client_s(client):
    audit = List()
    made = client(FULL, guard_parts={"audit": audit})
    response = made.post("/v1/predict", json={"inputs": ROWS}, headers={"X-Request-ID": "case-7"})
    assert response.headers["x-request-id"] == "case-7"
    assert audit[0]["query"] == response.json()["id"] != "case-7"
    assert audit[0]["principal"] == "anonymous"
    forged = made.post("/v1/predict", json={"inputs": ROWS}, headers={"X-Request-ID": "a b\tc"})
    assert forged.headers["x-request-id"] not in ("a b\tc", "case-7")


# Keys


def test_keys_decide_who_asks(client, tmp_path):
    keys, audit = KeyStore(tmp_path / "keys.json"), List()
    token = keys.add(("hospital-a", "key-1"))
    made = client(FULL, keys=keys, guard_parts={"audit": audit})
    for headers in ({"Authorization": f"Bearer {token}"}, {"X-API-Key": token}):
        assert made.post("/v1/predict", json={"inputs": ROWS}, headers=headers).status_code == 200
    assert [record["principal"] for record in audit] == ["hospital-a/key-1"] * 2
    for headers in ({}, {"X-API-Key": token[:-1] + "z"}, {"Authorization": f"Basic {token}"}):
        response = made.post("/v1/predict", json={"inputs": ROWS}, headers=headers)
        assert_problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    keys.revoke(keys.list()[0].id)
    assert_problem(made.post("/v1/predict", json={"inputs": ROWS}, headers={"X-API-Key": token}), 401)
    assert sum("verdicts" in record for record in audit) == 2


def test_the_schema_needs_a_key_too(client, tmp_path):
    """It shows the model's name, shape and range and the bundle's digest."""
    keys = KeyStore(tmp_path / "keys.json")
    token = keys.add(("a",))
    made = client(keys=keys)
    for path in ("/openapi.json", "/docs", "/redoc"):
        response = made.get(path)
        assert_problem(response, 401 if path == "/openapi.json" else 404)
        assert "linear" not in response.text
    schema = made.get("/openapi.json", headers={"X-API-Key": token}).json()
    assert schema["paths"].keys() == client().get("/openapi.json").json()["paths"].keys()
    assert "/v1/predict" in schema["paths"]
    assert made.get("/healthz").status_code == made.get("/readyz").status_code == 200


def test_without_keys_a_warning_is_logged(make_guard, caplog):
    with caplog.at_level(logging.WARNING, "medward"):
        create_app(make_guard(), keys=None)
    assert "anonymous" in caplog.text


def test_a_key_file_gone_bad_refuses_everybody(client, tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    token = keys.add(("a",))
    keys.path.write_text("[]")
    response = client(keys=keys).post("/v1/predict", json={"inputs": ROWS}, headers={"X-API-Key": token})
    assert str(tmp_path) not in assert_problem(response, 503)


# Input


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ('{"inputs": [[1, NaN, 2]]}', 422, "finite"),
        ('{"inputs": [[1, Infinity, 2]]}', 422, "finite"),
        ('{"inputs": [[1, 1e999, 2]]}', 422, "finite"),
        ('{"inputs": [[1, 1e39, 2]]}', 422, "finite"),
        ('{"inputs": [[1, 101, 2]]}', 422, "values must be <= 100, got 101"),
        ('{"inputs": [[1, 2]]}', 422, "expected shape (n >= 1, 3), got (1, 2)"),
        ('{"inputs": [[1, 2, 3], [1, 2]]}', 422, "expected a numeric array"),
        ('{"inputs": []}', 422, "expected shape (n >= 1, 3)"),
        ('{"inputs": [["1", 2, 3]]}', 422, "inputs.0.0: Input should be a valid number"),
        ('{"inputs": [[true, 2, 3]]}', 422, "inputs.0.0: Input should be a valid number"),
        ('{"inputs": [[null, 2, 3]]}', 422, "inputs.0.0"),
        ('{"inputs": [[[1], 2, 3]]}', 422, "inputs.0.0"),
        ('{"inputs": [1, 2, 3]}', 422, "inputs.0: Input should be a valid array"),
        ('{"inputs": ' + str([[1, 2, 3]] * 65) + "}", 422, "at most 64 rows per request, got 65"),
        ('{"inputs": [[' + "9" * 5000 + ", 2, 3]]}", 400, "not JSON"),
        ('{"inputs": [[1, 2, 3]], "principal": ["b"]}', 422, "principal: Extra inputs"),
        ('{"rows": [{"a": 1}]}', 422, 'send {"inputs": [...]}, tables of shape (3,)'),
        ('{"input": [[1, 2, 3]]}', 422, "inputs: Field required"),
        ('{"inputs": ' + "[" * 500 + "]" * 500 + "}", 400, "not JSON"),
        ('{"inputs": ' + "[" * 5000, 422, TOO_MUCH),
        ('{"inputs": [[' + "1," * 3000 + "2]]}", 422, TOO_MUCH),
        ('{"inputs": [' + "{}," * 3000 + "2]}", 422, TOO_MUCH),
        ('{"a": ' * 3000, 422, TOO_MUCH),
        ('{"inputs": [[1, 2, 3]]', 400, "not JSON"),
        ("", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        ("[]", 422, "should be an object"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(client, body, status, words):
    response = client().post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    assert words in assert_problem(response, status)


def test_errors_of_the_router_are_problems_too(client):
    made = client()
    assert_problem(made.get("/nowhere"), 404)
    response = made.get("/v1/predict")
    assert_problem(response, 405)
    assert response.headers["allow"] == "POST"
    assert_problem(made.post("/v1/predict", content=b"1,2,3", headers={"Content-Type": "text/csv"}), 415)
    assert_problem(made.post("/v1/predict"), 415)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "identity, gzip", "x"])
@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("/v1/predict", "application/json"),
        ("/v1/predict", "multipart/form-data; boundary=x"),
        ("/v2/models/linear/infer", "application/json"),
    ],
)
def test_a_body_compressed_otherwise_is_an_unsupported_media_type_whatever_it_holds(client, encoding, route, kind):
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    made = client()
    response = made.post(route, content=gzip.compress(b'{"inputs": [[0, 0, 0]]}'), headers=headers)
    assert "Content-Encoding" in assert_problem(response, 415)
    assert response.headers["accept-encoding"] == "gzip, deflate, identity"
    plain = made.post("/v1/predict", json={"inputs": ROWS}, headers={"Content-Encoding": "identity"})
    assert plain.status_code == 200


def test_every_response_carries_modest_security_headers(client):
    made = client()
    for response in (made.get("/healthz"), made.get("/nowhere"), made.post("/v1/predict", content=b"x")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in response.headers["content-security-policy"]


# Limits


def test_a_large_body_is_refused_with_and_without_its_length(client):
    made = client(limits=Limits(body_bytes=1000))
    headers = {"Content-Type": "application/json"}
    sent = []

    def chunks():
        for _ in range(100):
            sent.append(1)
            yield b" " * 100

    assert_problem(made.post("/v1/predict", content=b" " * 1001, headers=headers), 413)
    assert_problem(made.post("/v1/predict", content=chunks(), headers=headers), 413)
    assert_problem(made.post("/v1/predict", content=b"", headers={**headers, "Content-Length": "-1"}), 400)
    small = json.dumps({"inputs": ROWS}).encode().ljust(1000)
    assert made.post("/v1/predict", content=iter([small[:500], small[500:]]), headers=headers).status_code == 200


def test_json_is_bounded_by_what_the_rows_can_need(client, image_client):
    """16 MiB are for images; 64 rows of three numbers are never that long."""
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/predict", "/v2/models/linear/infer"):
        for content in (b" " * 65537, iter([b" " * 65536, b" "])):
            response = client().post(path, content=content, headers=headers)
            assert "at most 65536 bytes" in assert_problem(response, 413)
        assert_problem(client().post(path, content=b" " * 65536, headers=headers), 400)
    rows = 100  # of 24 pixels, 32 characters each
    made = image_client(limits=Limits(rows=rows))
    assert_problem(made.post("/v1/predict", content=b" " * (rows * 24 * 32), headers=headers), 400)
    assert_problem(made.post("/v1/predict", content=b" " * (rows * 24 * 32 + 1), headers=headers), 413)


@pytest.mark.parametrize("declared", [True, False])
def test_one_row_that_is_too_long_is_not_told_to_be_fewer_rows(
    client, image_client, image_profile, mean_model, declared
):
    """A 1024 x 1024 image in full precision, and a row of a million columns; several rows still are."""
    limits = Limits(body_bytes=700)  # one image of 24 pixels may take 768
    content = b" " * 701
    headers = {"Content-Type": "application/json"}

    def detail(made):
        return assert_problem(
            made.post("/v1/predict", content=content if declared else iter([content]), headers=headers), 413
        )

    assert "send one image per request, as a PNG file or with fewer digits" in detail(image_client(limits=limits))
    mean_model.spec = replace(mean_model.spec, low=-0.5)  # no scaling of pixels, so no files
    made = client(limits=limits, guard_parts={"model": mean_model, "profile": image_profile})
    assert "one row per request, its values with fewer digits" in detail(made)
    assert "send fewer rows" in detail(client(limits=limits))


def test_only_the_first_wrong_value_is_looked_for(linear_model):
    body = json.dumps({"inputs": [["a"] * 3] * 64}).encode()
    with pytest.raises(MedwardError, match=r"inputs\.0\.0") as caught:
        parse_body(body, request_type(linear_model.spec), linear_model.spec, 64)
    assert caught.value.__context__.error_count() == 1


def asgi(app, messages, headers=()):
    """Run one raw ASGI request and return the response's status and body."""
    sent = []

    async def main():
        queue = list(messages)

        async def receive():
            return queue.pop(0) if queue else await anyio.sleep_forever()

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json"), *headers], "server": ("test", 80),
            "client": ("test", 1),
        }  # fmt: skip
        await app(scope, receive, send)

    anyio.run(main)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_reading_stops_at_the_limit(make_guard):
    """An endless body is cut off, not collected first; one that declares too much is not read at all."""
    app = create_app(make_guard(), keys=None, limits=Limits(body_bytes=1000))
    assert asgi(app, [], [(b"content-length", b"1001")])[0] == 413
    endless = [{"type": "http.request", "body": b" " * 400, "more_body": True}] * 4
    assert asgi(app, endless)[0] == 413


def test_a_client_that_leaves_is_not_a_failure(make_guard, caplog):
    app = create_app(make_guard(), keys=None)
    with pytest.raises(IndexError):  # nothing was sent
        asgi(app, [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_body_that_never_ends_times_out(make_guard):
    app = create_app(make_guard(), keys=None, limits=Limits(body_seconds=1))
    status, body = asgi(app, [{"type": "http.request", "body": b"{", "more_body": True}])
    assert status == 408
    assert b"within 1 s" in body


class SlowModel:
    def __init__(self, spec):
        self.spec, self.go = spec, threading.Event()

    def predict(self, inputs):
        assert self.go.wait(20)
        return Outputs(inputs)


def test_a_full_queue_answers_503_at_once_and_recovers(make_guard, linear_model):
    model = SlowModel(linear_model.spec)
    app = create_app(make_guard(model=model), keys=None, limits=Limits(workers=1, queue=1))
    statuses = []

    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:

            async def ask():
                response = await made.post("/v1/predict", json={"inputs": ROWS}, timeout=30)
                statuses.append(response.status_code)
                if response.status_code == 503:
                    assert_problem(response, 503)
                    assert int(response.headers["retry-after"]) >= 1
                    assert (await made.get("/healthz")).status_code == 200
                    model.go.set()

            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)
            await ask()

    anyio.run(main)
    assert statuses == [503, 200, 200, 200]


@pytest.mark.parametrize("path", ["/v1/predict", "/v2/models/linear/infer"])
def test_a_body_is_not_read_while_there_is_no_place_for_it(make_guard, linear_model, path):
    """One that is read takes none: the first is answered although another comes slowly."""
    model = SlowModel(linear_model.spec)
    app = create_app(make_guard(model=model), keys=None, limits=Limits(workers=1, queue=1))

    async def main():
        transport = httpx.ASGITransport(app)
        headers = {"Content-Type": "application/json"}
        go, read, statuses = anyio.Event(), [], []

        async def slow():
            read.append(1)
            yield b"{"
            await go.wait()
            yield b"}"

        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as made:

            async def ask():
                response = await made.post("/v1/predict", json={"inputs": ROWS}, timeout=30)
                statuses.append(response.status_code)

            async def ask_slowly():
                assert_problem(await made.post(path, content=slow(), timeout=30), 422)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask_slowly)
                while not read:
                    await anyio.sleep(0.01)
                for number in range(2):
                    tasks.start_soon(ask)
                    while app.state.service.pool.jobs <= number:
                        await anyio.sleep(0.01)
                refused = await made.post(path, content=slow())
                assert_problem(refused, 503)
                assert int(refused.headers["retry-after"]) >= 1
                assert len(read) == 1
                model.go.set()
                while len(statuses) < 2:
                    await anyio.sleep(0.01)
                go.set()
            await ask()
        assert statuses == [200, 200, 200]

    with_timeout(main)


def with_timeout(main):
    async def bounded():
        with anyio.fail_after(30):
            await main()

    anyio.run(bounded)


@pytest.mark.parametrize(
    "bound", ["connections", "header_seconds", "body_bytes", "body_seconds", "rows", "pixels", "workers", "queue"]
)
def test_a_limit_below_its_bound_is_refused(bound):
    with pytest.raises(MedwardError, match=f"limits.{bound} must be >= "):
        Limits(**{bound: -1})


# Failures


class Broken:
    def __init__(self, spec):
        self.spec = spec

    def predict(self, inputs):
        raise RuntimeError("secret: weights at /srv/model.onnx")


def test_a_model_that_fails_is_503_without_internals_and_is_logged(client, linear_model, caplog):
    made = client(guard_parts={"model": Broken(linear_model.spec)})
    response = made.post("/v1/predict", json={"inputs": ROWS})
    assert assert_problem(response, 503) == "the model could not answer this input"
    assert "secret" not in response.text
    assert "secret" in caplog.text
    assert response.headers["x-request-id"] in caplog.text


class Faulty:
    def append(self, record):
        raise RuntimeError("secret: a bug at line 7")


def test_a_crash_is_a_problem_without_internals_and_is_logged(client, caplog):
    response = client(guard_parts={"audit": Faulty()}).post("/v1/predict", json={"inputs": ROWS})
    assert_problem(response, 500)
    assert "secret" not in response.text
    assert "secret" in caplog.text
    assert response.headers["x-request-id"] in caplog.text


class Away:
    def append(self, record):
        raise UnavailableError("disk /var/lib/medward is full")


def test_an_audit_log_that_is_away_means_503_and_no_answer(client):
    response = client(FULL, guard_parts={"audit": Away()}).post("/v1/predict", json={"inputs": ROWS})
    assert "/var" not in assert_problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1


class ReadOnlyStore(MemoryStore):
    """One that failed over to a replica: it can be read and not written to."""

    def transact_all(self, keys, step, *, ttl=None):
        raise UnavailableError("gone")


READY = ("/readyz", "/v2/health/ready", "/v2/models/linear/ready")


@pytest.fixture
def fresh(monkeypatch):
    """Every probe asks anew."""
    monkeypatch.setattr(health, "SECONDS_KEPT", 0.0)


def test_a_flood_of_probes_asks_once(client, monkeypatch):
    class Counted(MemoryStore):
        asked = 0

        def transact_all(self, keys, step, *, ttl=None):
            self.asked += 1
            raise UnavailableError("gone")

    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr(health, "time", clock)
    made = client(guard_parts={"store": (store := Counted())})
    for route in READY * 5:
        assert_problem(made.get(route), 503)
    assert store.asked == 1
    clock.monotonic = lambda: 101.1
    assert_problem(made.get("/readyz"), 503)
    assert store.asked == 2


@pytest.mark.usefixtures("fresh")
def test_a_site_that_answers_without_a_part_is_ready_and_says_what_is_away(client, tmp_path, caplog):
    audit = AuditLog(tmp_path / "audit.jsonl")
    made = client(Policy(on_error="flag"), guard_parts={"store": ReadOnlyStore(), "audit": audit})
    made.post("/v1/predict", json={"inputs": ROWS}).raise_for_status()
    for route in READY:
        assert made.get(route).status_code == 200
    (said,) = made.get("/readyz").json()["notes"]
    assert said.startswith("the store of accounts does not answer")
    assert "gone" not in said
    assert "gone" in caplog.text
    with files_no_larger_than((tmp_path / "audit.jsonl").stat().st_size):
        made.post("/v1/predict", json={"inputs": ROWS}).raise_for_status()
        store, log = made.get("/readyz").json()["notes"]
    assert log.startswith("the audit log cannot be written")
    assert made.get("/readyz").json()["notes"] == [store]


@pytest.mark.usefixtures("fresh")
def test_a_site_that_answers_without_a_part_is_not_ready_without_its_keys(client, tmp_path):
    (tmp_path / "keys.json").write_text("{")
    made = client(Policy(on_error="flag"), keys=KeyStore(tmp_path / "keys.json"))
    assert_problem(made.get("/readyz"), 503)


def test_readiness_writes_to_the_store_and_liveness_does_not(client):
    made = client(guard_parts={"store": ReadOnlyStore()})
    assert made.get("/healthz").json() == {"status": "ok"}
    assert made.get("/v2/health/live").json() == {"live": True}
    for route in READY:
        assert_problem(made.get(route), 503)
    store = MemoryStore()
    made = client(guard_parts={"store": store})
    for route in READY:
        assert made.get(route).status_code == 200
    assert len(store._states) == 1, "what a probe leaves behind"


@pytest.mark.usefixtures("fresh")
def test_readiness_follows_the_disk_of_the_audit_log(client, tmp_path):
    made = client(guard_parts={"audit": AuditLog(tmp_path / "audit.jsonl")})
    made.post("/v1/predict", json={"inputs": ROWS}).raise_for_status()
    assert made.get("/readyz").status_code == 200
    with files_no_larger_than((tmp_path / "audit.jsonl").stat().st_size):
        assert_problem(made.get("/readyz"), 503)
        assert made.get("/healthz").status_code == 200
    assert made.get("/readyz").status_code == 200
    assert verify_log(tmp_path / "audit.jsonl").records == 1


@pytest.mark.usefixtures("fresh")
def test_readiness_follows_the_keys(client, tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    keys.add(("hospital-a",))
    made = client(keys=keys)
    assert made.get("/readyz").status_code == 200
    (tmp_path / "keys.json").write_text("{")
    assert_problem(made.get("/readyz"), 503)


@pytest.mark.parametrize("budget", [{}, {"daily_bits": 100}])
def test_a_store_that_is_away_is_to_be_asked_again_and_no_verdict(client, budget):
    """Unless the site chose to answer flagged; what left, or did not, is on record either way."""
    for on_error, status in (("withhold", 503), ("flag", 200)):
        audit, policy = List(), Policy.model_validate({"on_error": on_error, "budget": budget})
        made = client(policy, guard_parts={"audit": audit, "store": ReadOnlyStore()})
        response = made.post("/v1/predict", json={"inputs": ROWS})
        assert response.status_code == status
        assert audit[0]["levels"] == (["withheld"] if status == 503 else ["rounded"]) * 2
        if status == 503:
            assert "gone" not in assert_problem(response, 503)
            assert int(response.headers["retry-after"]) >= 1


# Metrics


def test_metrics_count_and_name_nobody(client, tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    token, watcher = keys.add(("hospital-a", "key-1")), keys.add(("operations",), scope="metrics")
    made = client(SCREENED, keys=keys)
    ask = {"X-API-Key": token}
    made.post("/v1/predict", json={"inputs": [[90.0, -90.0, 90.0], *ROWS]}, headers=ask)
    made.post("/v1/predict", json={"inputs": [[1.0]]}, headers=ask)
    made.post("/v2/models/hospital-a/infer", json={}, headers=ask)
    made.get("/nowhere/hospital-a")
    text = made.get("/metrics", headers={"X-API-Key": watcher}).text
    assert 'medward_rows_total{level="withheld"} 1.0' in text
    assert 'medward_rows_total{level="rounded"} 2.0' in text
    assert 'medward_verdicts_total{action="withhold",source="screen"} 1.0' in text
    assert 'medward_verdicts_total{action="allow",source="e-process"} 2.0' in text
    assert 'medward_request_seconds_count{route="/v1/predict",status="200"} 1.0' in text
    assert 'medward_errors_total{route="/v1/predict",status="422"} 1.0' in text
    assert 'medward_errors_total{route="/v2/models/{name}/infer",status="404"} 1.0' in text
    assert 'medward_errors_total{route="other",status="404"} 1.0' in text
    assert "hospital-a" not in text
    assert 'medward_rows_total{level="withheld"}' not in client().get("/metrics").text


def test_an_account_cannot_read_the_verdict_counts(client, tmp_path):
    """They would tell a thief whether he was noticed."""
    keys = KeyStore(tmp_path / "keys.json")
    token, watcher = keys.add(("a",)), keys.add(("b",), scope="metrics")
    made = client(keys=keys)
    assert_problem(made.get("/metrics"), 401)
    assert_problem(made.get("/metrics", headers={"X-API-Key": token}), 403)
    assert_problem(made.post("/v1/predict", json={"inputs": ROWS}, headers={"X-API-Key": watcher}), 403)


def test_readiness_says_that_a_screen_is_idle_and_nothing_where_none_is(client, linear_model):
    few = Profile.fit(linear_model, benign_rows(LinearModel)[:150], risk=0.001)
    assert client().get("/readyz").json() == {"status": "ok"}
    answer = client(guard_parts={"profile": few}).get("/readyz")
    assert answer.status_code == 200
    (note,) = answer.json()["notes"]
    assert note.startswith("the screen is idle: 150 calibration rows")


def test_what_is_not_noticed_is_counted_for_everybody_and_told_to_who_reads_the_metrics(
    client, linear_model, tmp_path, caplog
):
    """Without words nobody learns what to send unseen."""
    few = Profile.fit(linear_model, benign_rows(LinearModel)[:150], risk=0.001)
    keys = KeyStore(tmp_path / "keys.json")
    token, watcher = keys.add(("hospital-a",)), keys.add(("operations",), scope="metrics")
    with caplog.at_level(logging.WARNING, "medward"):
        made = client(keys=keys, guard_parts={"profile": few})
    assert "the screen is idle: 150 calibration rows" in caplog.text
    for headers in ({}, {"X-API-Key": token}, {"X-API-Key": watcher[:-1] + "z"}, {"Authorization": "Basic x"}):
        answer = made.get("/readyz", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "note_count": 1})
    told = made.get("/readyz", headers={"Authorization": f"Bearer {watcher}"}).json()
    assert (told["note_count"], len(told["notes"])) == (1, 1)
    assert told["notes"][0].startswith("the screen is idle")
