"""Requests that are refused are on record: who, why and how many, without content and within bounds."""

from __future__ import annotations

import threading

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from medward.guard.audit.log import AuditLog, read_log, verify_log
from medward.guard.errors import UnavailableError
from medward.guard.policy import Policy
from medward.integrations.serving import Limits, create_app
from medward.integrations.serving.identity.failed_authentication import FailedAuthentication
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.rejections import RECORDED_STATUSES, WINDOW, RejectionRecords

BODY = {"inputs": [[0.5, -1.0, 2.0]]}
NOBODY = "mw_" + "0" * 8 + "_" + "0" * 64


class Records(list):
    """A sink that fails while `away`."""

    away = None

    def append(self, record):
        if self.away is not None:
            raise self.away
        super().append(record)


@pytest.fixture
def asked(make_guard, tmp_path):
    """What is on record once a server that was asked has stopped."""

    def ask(use, limits=None, failed=None):
        log, keys = tmp_path / "audit.jsonl", KeyStore(tmp_path / "keys.json")
        guard = make_guard(Policy(on_error="withhold"), audit=AuditLog(log))
        told = {} if failed is None else {"on_failed_authentication": failed.append}
        app = create_app(guard, keys=keys, limits=limits or Limits(), **told)
        with TestClient(app, raise_server_exceptions=False, client=("192.0.2.1", 5000)) as client:
            use(client, keys)
        verify_log(log)
        return list(read_log(log))

    return ask


def post(client, token=None, body=BODY, **headers):
    named = {"X-API-Key": token} if token else {}
    return client.post("/v1/predict", json=body, headers={**named, **headers})


def request(status_route="/v1/predict"):
    """A request as the edge has it once it was answered."""
    made = Request({"type": "http", "headers": [], "client": ("192.0.2.1", 1), "path": status_route, "state": {}})
    made.state.request_id = "r"
    return made


def test_each_refusal_is_on_record_once_with_who_and_why(asked):
    failed, ids = [], {}

    def use(client, keys):
        good, watcher = keys.add(("clinic", "key")), keys.add(("ops",), scope="metrics")
        ids.update(good=f"key:{good.split('_')[1]}", watcher=f"key:{watcher.split('_')[1]}")
        assert post(client).status_code == 401
        assert post(client, NOBODY).status_code == 401
        assert post(client, watcher).status_code == 403
        assert post(client, good, {"inputs": [[1.0]]}).status_code == 422
        assert post(client, good, **{"Content-Length": "99999999999"}).status_code == 413
        assert post(client, good, **{"X-Request-ID": "case.7"}).status_code == 200

    records = asked(use, failed=failed)
    rejected = [each for each in records if each.get("event") == "rejected"]
    names = ("status", "reason", "credential", "principal")
    assert {tuple(each.get(name) for name in names) for each in rejected} == {
        (401, "missing", None, None),
        (401, "unknown", None, None),
        (403, "scope", ids["watcher"], None),
        (422, None, ids["good"], "clinic/key"),
        (413, None, None, None),
    }
    assert len(rejected) == 5
    assert {each["client"] for each in rejected} == {"192.0.2.1"}
    assert [each.reason for each in failed] == ["missing", "unknown", "scope"], "the caller's own hook is told too"
    (query,) = [each for each in records if "verdicts" in each]
    assert (query["credential"], query["request"], query["client"]) == (ids["good"], "case.7", "192.0.2.1")


def test_a_key_that_is_guessed_where_nobody_is_refused_is_on_record(asked):
    """``/readyz`` answers whoever asks, and tells more to whom it knows: a place to try keys at."""
    records = asked(lambda client, _: client.get("/readyz", headers={"X-API-Key": NOBODY}))
    assert [each["reason"] for each in records] == ["unknown"]


def test_nothing_that_a_client_wrote_is_in_a_record_but_an_id_of_few_characters(asked):
    hostile = ["a b", "x" * 65, "\xe9".encode("latin-1"), 'q"}\\n{"event":"reset"', "<script>", "a/b"]

    def use(client, keys):
        for text in hostile:
            sent = {"X-Request-ID": text, "X-Forwarded-For": "203.0.113.9", "User-Agent": "secret-agent"}
            assert post(client, "mw_secret", **sent).status_code == 401
        assert post(client, keys.add(("clinic",)), {"secret-member": 1}).status_code == 422

    records = asked(use)
    assert len(records) == len(hostile) + 1
    for record in records:
        assert len(record["request"]) == 32
        assert record["request"].isalnum()
    for part in ("secret", "203.0.113.9", "script"):
        assert part not in repr(records)


def test_a_flood_of_refusals_writes_a_few_records_and_counts_the_others(asked):
    def use(client, keys):
        for _ in range(12):
            post(client, NOBODY)
        assert post(client, keys.add(("clinic",))).status_code == 200
        for _ in range(4):
            post(client, keys.add(("clinic",)), {})

    records = asked(use, Limits(rejections=3, failures=""))
    rejected = [each for each in records if each.get("event") == "rejected"]
    written = [each["status"] for each in rejected if "status" in each]
    assert (written.count(401), written.count(422)) == (3, 3), "guesses at keys do not hide other refusals"
    left = {}
    for each in rejected:
        for status, count in each.get("left_out", {}).items():
            left[status] = left.get(status, 0) + count
    assert left == {"401": 9, "422": 1}
    assert sum("verdicts" in each for each in records) == 1, "an answer is on record, whatever is left out"


def test_with_none_a_minute_only_the_count_is_on_record(asked):
    records = asked(lambda client, _: [post(client) for _ in range(5)], Limits(rejections=0))
    assert [{"event": each["event"], "left_out": each["left_out"]} for each in records] == [
        {"event": "rejected", "left_out": {"401": 5}}
    ]


def test_after_a_window_refusals_are_on_record_again():
    now, sink = [0.0], Records()
    records = RejectionRecords(sink, 2, clock=lambda: now[0])
    for _ in range(2):
        for _ in range(5):
            records.rejected(request(), 429)
        now[0] += WINDOW
    records.close()
    assert [each.get("status") for each in sink].count(429) == 4
    assert sum(each.get("left_out", {}).get("429", 0) for each in sink) == 6


def test_nobody_waits_for_a_slow_disk():
    held, sink = threading.Event(), Records()

    class Slow:
        def append(self, record):
            held.wait(30)
            sink.append(record)

    records = RejectionRecords(Slow(), 5)
    for _ in range(5):
        records.rejected(request(), 422)
    assert not sink
    held.set()
    records.close()
    assert len(sink) == 5


@pytest.mark.parametrize("error", [UnavailableError("the disk is full"), RuntimeError("a bug")])
def test_records_that_could_not_be_written_are_counted_in_the_next(error):
    sink = Records()
    sink.away = error
    records = RejectionRecords(sink, 5)
    for _ in range(3):
        records.failed(FailedAuthentication("unknown", "", "192.0.2.1", "r", ""))
    records.close()
    assert not sink
    sink.away = None
    records.rejected(request(), 429)
    records.close()
    assert sink[0]["left_out"] == {"401": 3}


def test_an_address_that_cannot_be_printed_is_on_record_and_breaks_nothing():
    sink, strange = Records(), request()
    strange.scope["client"] = ("\x1b[31m\u00e9" + "x" * 200, 1)
    records = RejectionRecords(sink, 5)
    records.rejected(strange, 422)
    records.failed(FailedAuthentication("unknown", "", "a\nb", "r", ""))
    records.close()
    assert [each["client"] for each in sink] == ["?[31m?" + "x" * 122, "a?b"]


@pytest.mark.parametrize("status", [200, 304, 404, 405])
def test_what_is_no_refusal_of_a_question_is_not_on_record(status):
    assert status not in RECORDED_STATUSES
    sink = Records()
    records = RejectionRecords(sink, 5)
    records.rejected(request(), status)
    records.close()
    assert not sink
