"""AuditEvents of records: valid, complete, and without what the log keeps from those who read it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden import make
from support.fhir import checked_event
from support.models import LinearModel

from medward.guard.audit.log import AuditLog, read_log
from medward.guard.audit.record import account_reset, model_failure
from medward.guard.policy import Policy
from medward.guard.types import Query, QueryOrigin
from medward.integrations.cli import main
from medward.integrations.clinical.fhir_audit import audit_event, audit_events

ROWS = np.float32([[0.5, -1.0, 2.0], [90.0, -90.0, 90.0]])

UID = "1.2.840.113619.2.55.3"
MORE = ("study", "request", "client", "credential")


@pytest.fixture
def log(make_guard, tmp_path):
    """A log of a query with a withheld row, a failed one and a reset."""
    audit = AuditLog(tmp_path / "audit.jsonl")
    policy = Policy(on_error="withhold", screen={"rate": 0.1, "action": "withhold"})
    guard = make_guard(policy, audit=audit, bundle="b1")
    origin = QueryOrigin(credential="key:ab", request="case.7", client="10.0.0.7")
    answer = guard.answer(Query(principal=("hospital", "key-1"), inputs=ROWS, study=UID, origin=origin))
    guard.answer(Query(principal=("hospital", "key-1"), inputs=ROWS[:1], id="case 7"))
    audit.append(model_failure("hospital/key-1", ["ab"]))
    guard.reset(("hospital",))
    return tmp_path / "audit.jsonl", answer.id


def events_of(path):
    return [checked_event(json.loads(line)) for line in audit_events(read_log(path), observer="guard-1")]


def details(event):
    return {each["type"]: each["valueString"] for each in event["entity"][0]["detail"]}


def test_each_record_is_an_event_with_who_when_and_what_left(log):
    path, answered = log
    records, events = [*read_log(path)], events_of(path)
    assert [each["recorded"] for each in events] == [each["time"] for each in records]
    first = events[0]
    client, server = first["agent"]
    assert client["who"]["identifier"]["value"] == "hospital/key-1"
    assert (client["requestor"], server["requestor"]) == (True, False)
    assert first["entity"][0]["what"]["identifier"]["value"].replace("-", "") == f"urn:uuid:{answered}"
    assert details(first)["levels"] == "rounded withheld"
    assert details(first)["record hash"] == records[0]["hash"]
    assert "screen" in details(first)["acted"]
    assert events[1]["entity"][0]["what"]["identifier"] == {"value": "case 7"}


def test_outcomes_tell_answered_withheld_and_failed_apart(log):
    path, _ = log
    withheld, answered, failed, reset = events_of(path)
    assert [each["outcome"] for each in (withheld, answered, failed, reset)] == ["4", "0", "8", "0"]
    assert withheld["outcomeDesc"] == "1 of 2 rows withheld"
    assert failed["outcomeDesc"] == "model failed"
    assert "outcomeDesc" not in answered
    assert reset["subtype"][0]["code"] == "110137"
    assert (reset["action"], answered["action"]) == ("U", "E")
    assert details(reset)["account"] == "hospital"


def test_what_a_record_may_have_more_is_told_where_it_is_there(log):
    """Names as the guard writes them: a field that it renamed would be missing in the event."""
    path, _ = log
    record = next(iter(read_log(path)))
    bare = audit_event({name: record[name] for name in record if name not in MORE}, observer="g")
    assert len(bare["entity"]) == 1
    assert "network" not in bare["agent"][0]
    full = checked_event(audit_event(record, observer="g"))
    assert full["entity"][1]["what"]["identifier"]["value"] == record["study"]
    assert full["entity"][1]["description"] == "keyed digest of the StudyInstanceUID"
    assert UID not in json.dumps(full)
    assert full["entity"][2]["type"]["code"] == "XrequestId"
    assert full["entity"][2]["what"]["identifier"]["value"] == "case.7"
    assert full["agent"][0]["network"]["address"] == "10.0.0.7"
    assert details(full)["bundle"] == "b1"
    assert details(full)["credential"] == "key:ab"
    assert details(full)["answered"] == f"{record['answered'][0]} -"


def test_a_refused_request_is_an_event_of_whoever_sent_it():
    record = {
        "event": "rejected",
        "status": 401,
        "reason": "unknown",
        "client": "10.0.0.7",
        "time": "2026-01-01T00:00:00Z",
    }
    event = checked_event(audit_event({**record, "request": "r"}, observer="g"))
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "rejected 401 unknown")
    assert event["agent"][0]["network"]["address"] == "10.0.0.7"
    known = audit_event({**record, "credential": "key:ab"}, observer="g")
    assert known["agent"][0]["who"]["identifier"]["value"] == "key:ab"


def test_who_reset_an_account_is_the_agent():
    record = {**account_reset("hospital", "looked into", "Dr Ada"), "time": "2026-01-01T00:00:00Z"}
    event = checked_event(audit_event(record, observer="g"))
    assert event["agent"][0]["who"]["identifier"]["value"] == "Dr Ada"
    suspended = {**record, "event": "account suspended"}
    event = checked_event(audit_event(suspended, observer="g"))
    assert event["agent"][0]["who"]["identifier"]["value"] == "Dr Ada"
    assert details(event)["account"] == "hospital"


def test_the_checks_refuse_what_is_no_event(log):
    event = audit_event(next(iter(read_log(log[0]))), observer="g")
    for missing in ("recorded", "agent", "source", "type"):
        with pytest.raises(ValueError, match=missing):
            checked_event({name: value for name, value in event.items() if name != missing})


def test_a_log_of_an_older_release_reads_too():
    events = events_of(make.HERE / "audit.jsonl")
    assert len(events) == 80
    assert {each["outcome"] for each in events} == {"0", "4"}


def test_the_command_writes_a_file_once_the_chain_is_whole(log, tmp_path, capsys):
    out = tmp_path / "events.ndjson"
    with pytest.raises(SystemExit) as done:
        main(["audit", "fhir", str(log[0].parent), "--out", str(out), "--observer", "guard-1"])
    assert done.value.code == 0
    lines = out.read_text().splitlines()
    assert len(lines) == 4
    assert {json.loads(each)["source"]["observer"]["display"] for each in lines} == {"guard-1"}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["audit", "fhir", str(log[0])])
    assert capsys.readouterr().out.splitlines()[0].startswith('{"action"')
    log[0].write_text(log[0].read_text().replace("hospital/key-1", "hospital/key-2", 1))
    out.unlink()
    with pytest.raises(SystemExit) as refused:
        main(["audit", "fhir", str(log[0]), "--out", str(out)])
    assert refused.value.code == 3
    assert not out.exists()
    assert LinearModel().spec.name not in capsys.readouterr().out
