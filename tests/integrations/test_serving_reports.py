"""Reports over HTTP: whole, as server-sent events, and what is left of one whose reader leaves or whose server dies."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient
from support.dicom_files import dicom_file
from support.processes import serving
from support.report_models import FINDINGS, CornerWriter, report_images, report_model, report_policy, report_spec
from support.report_networks import VOCABULARY, encoder_decoder, llava_writer

from medward.guard import models
from medward.guard.audit.log import read_log, verify_log
from medward.guard.audit.record import AuditRecord
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.pipeline import Guard
from medward.guard.profile import Profile
from medward.integrations.serving import Limits, create_app
from medward.integrations.serving.report_events import event_bytes

EVENTS = {"Accept": "text/event-stream"}
ROW = report_images(1, 5)
CALM = report_policy(screen={"action": "allow"})
NAMED = " Read by Dr. John Smith, MRN 4471923. " + "The trachea is midline. " * 60
LENGTH = 4096  # bytes, of a task that says nothing else
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def made():
    model = report_model(NAMED, length=2000)
    return model, Profile.fit(model, report_images(400, 1), risk=0.001)


@pytest.fixture
def reports(made):
    """A client of a report model behind its guard; `model` takes its place, `app` goes to `create_app`."""

    def build(policy=CALM, model=None, audit=None, **app):
        guard = Guard(model=model or made[0], profile=made[1], policy=policy, audit=audit, salt=b"s")
        return TestClient(create_app(guard, keys=None, **app), raise_server_exceptions=False)

    return build


def ask(client, rows=ROW, **headers):
    return client.post("/v1/predict", json={"inputs": rows.tolist()}, headers=headers)


def events_of(text):
    """Each event's name and data."""
    lines = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


def jobs(client):
    (line,) = [each for each in client.get("/metrics").text.splitlines() if each.startswith("medward_jobs ")]
    return float(line.split()[1])


def test_a_whole_report_has_its_findings_and_no_identifier(reports, made):
    client, rows = reports(), report_images(3, 5)
    body = ask(client, rows).json()
    task = made[0].spec.task
    assert set(body) == {"id", "model", "labels", "texts", "findings", "levels"}
    assert body["levels"] == ["full"] * 3
    assert body["findings"] == list(FINDINGS)
    for text, said, row in zip(body["texts"], body["labels"], rows, strict=True):
        own = "".join(made[0].function(row[None])[0])
        assert "Smith" in own
        assert "Smith" not in text
        assert "4471923" not in text
        assert said == task.word(int(task.decide(task.read([own], "m"))[0]))
    assert 'medward_redactions_total{kind="name"}' in client.get("/metrics").text


@pytest.mark.parametrize(("level", "texts"), [("label", [None]), ("withheld", [None])])
def test_a_level_without_a_text_streams_none(reports, level, texts):
    screen = {"action": "allow"} if level == "label" else {"action": "withhold", "rate": 0.2}
    policy = report_policy(release={"level": "label" if level == "label" else "full"}, screen=screen)
    client, row = reports(policy), ROW if level == "label" else np.zeros_like(ROW)
    body, events = ask(client, row).json(), events_of(ask(client, row, **EVENTS).text)
    assert (body["levels"], body["texts"]) == ([level], texts)
    assert [name for name, _ in events] == ["admitted", "end"]
    assert events[0][1]["level"] == level
    assert events[1][1] == {**body, "id": events[0][1]["id"]}


def test_the_events_are_the_whole_answer_in_pieces(reports):
    client = reports()
    body, response = ask(client).json(), ask(client, **EVENTS)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    events = events_of(response.text)
    (first, admitted), *texts, (last, end) = events
    assert (first, last) == ("admitted", "end")
    assert admitted == {"id": end["id"], "model": "reporter", "level": "full"}
    assert {name for name, _ in texts} == {"text"}
    assert len(texts) > 2
    assert "".join(data["text"] for _, data in texts) == end["texts"][0] == body["texts"][0]
    assert end == {**body, "id": end["id"]}
    assert jobs(client) == 0


@pytest.mark.parametrize("maker", [encoder_decoder, llava_writer])
def test_a_network_writes_the_same_piece_by_piece_from_whichever_thread(maker):
    spec = report_spec(length=16, vocabulary=VOCABULARY)
    model = models.wrap(maker(), spec=spec, sample=report_images(16))
    guard = Guard(model=model, profile=Profile.fit(model, report_images(300, 1), risk=0.01), policy=CALM, salt=b"s")
    client = TestClient(create_app(guard, keys=None))
    texts = []
    for seed in range(4):
        row = report_images(1, seed)
        end = events_of(ask(client, row, **EVENTS).text)[-1]
        assert end[0] == "end"
        assert end[1]["texts"] == ask(client, row).json()["texts"]
        texts.append(end[1]["texts"][0])
    assert len(set(texts)) > 1


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; q=1, application/json", True),
        ("text/event-stream, */*", True),
        ("application/json, text/event-stream", False),
        ("*/*", False),
        ("text/plain", False),
    ],
)
def test_who_accepts_events_and_not_json_first_gets_them(reports, accept, streamed):
    kind = ask(reports(), Accept=accept).headers["content-type"]
    assert kind.startswith("text/event-stream" if streamed else "application/json")


def test_a_model_that_writes_nothing_answers_as_ever(client):
    response = client().post("/v1/predict", json={"inputs": [[0.5, -1.0, 2.0]]}, headers=EVENTS)
    assert response.headers["content-type"] == "application/json"


def test_what_cannot_be_streamed_is_a_problem_and_holds_no_slot(reports):
    client = reports()
    refused = ask(client, report_images(2, 5), **EVENTS)
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert "one row is written at a time, got 2" in refused.json()["detail"]
    assert ask(client, ROW[:, :, :3], **EVENTS).status_code == 422
    assert jobs(client) == 0


class Breaking(CornerWriter):
    def sentences(self, image):
        yield "Pleural effusion is seen. " + "The trachea is midline. " * 40
        raise RuntimeError("patient Jane Roe")


def test_a_report_that_breaks_off_ends_in_a_problem_that_tells_no_reason(reports):
    model = report_model(length=2000)
    broken = type(model)(spec=model.spec, function=Breaking(), features="corners")
    records = []
    client = reports(model=broken, audit=type("Log", (), {"append": lambda _, record: records.append(record)})())
    response = ask(client, **EVENTS)
    events = events_of(response.text)
    assert [name for name, _ in events] == ["admitted", "text", "error"]
    assert events[-1][1]["detail"] == "the model could not answer this input"
    assert events[-1][1]["status"] == 503
    assert "Roe" not in response.text
    assert records[-1]["ended"] == "failed"
    assert jobs(client) == 0


def test_the_patient_in_a_file_s_header_leaves_in_no_report(made):
    """A name that no reader of text would know for one."""
    model = report_model(" Compared with the film of Xyqra Vlorp, midline trachea.", length=2000)
    guard = Guard(model=model, profile=made[1], policy=CALM, salt=b"s")
    client = TestClient(create_app(guard, keys=None))
    pixels = np.random.default_rng(3).integers(0, 256, (16, 16)).astype(np.uint8)

    def text(name):
        file = dicom_file(pixels, PatientName=name)
        reply = client.post("/v1/predict", content=file, headers={"Content-Type": "application/dicom"})
        assert reply.status_code == 200, reply.text
        return reply.json()["texts"][0]

    assert "Xyqra Vlorp" in text("Roe^Jane")  # the control
    assert "Xyqra" not in text("Vlorp^Xyqra")
    assert "midline trachea" in text("Vlorp^Xyqra")


def test_the_inference_protocol_has_texts_and_a_state_for_each_finding(reports, made):
    client, rows = reports(), report_images(2, 5)
    tensor = {"name": "inputs", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    reply = client.post("/v2/models/reporter/infer", json={"inputs": [tensor]}).json()
    found = {each["name"]: each for each in reply["outputs"]}
    assert set(found) == {"texts", "labels", "levels"}
    assert found["texts"]["data"] == ask(client, rows).json()["texts"]
    assert found["labels"]["shape"] == [2, len(FINDINGS)]
    assert found["labels"]["data"] == made[0].predict(rows).scores.ravel().astype(int).tolist()
    told = {each["name"]: each for each in client.get("/v2/models/reporter").json()["outputs"]}
    assert told["labels"]["parameters"]["findings"] == list(FINDINGS)
    assert told["labels"]["parameters"]["values"] == {"0": "ABSENT", "1": "UNCERTAIN", "2": "PRESENT"}


def test_the_schema_tells_of_events_where_reports_are_written(reports, client):
    def answers(made):
        return made.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]

    clinical = {"application/fhir+json", "application/dicom"}
    assert set(answers(reports())) == {"application/json", "text/event-stream"} | clinical
    assert set(answers(client())) == {"application/json", "application/fhir+json"}, (
        "of a table nothing refers to an image"
    )


def test_data_of_an_event_is_one_line():
    assert event_bytes("text", {"text": "a\nb\r\u2028c"}).count(b"\n") == 3


# A real server


@pytest.fixture(scope="module")
def paced(tmp_path_factory):
    task = {"task": "report", "classes": FINDINGS, "features": "corners"}
    said = {"low": 0.0, "high": 1.0, "layout": "NCHW", "allow_code": True}
    folder = tmp_path_factory.mktemp("paced") / "bundle"
    policy = report_policy(screen={"action": "allow"}, budget={"total_bits": 200_000, "parents": 0})
    return protect("support.report_models:paced_writer", Split(report_images(300, 1)), policy, folder, **said, **task)


def serving_reports(bundle, folder, pause=0.05):
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {"PYTHONPATH": path, "REPORT_PAUSE": str(pause)}
    return serving(bundle.path, folder, "--allow-code", "--no-keys", environment=environment)


@contextmanager
def first_text(server):
    """The lines of a stream that was read up to its first words, and is open."""
    asked = {"json": {"inputs": ROW.tolist()}, "headers": EVENTS, "timeout": 30}
    with httpx.stream("POST", f"{server.url}/v1/predict", **asked) as response:
        lines = response.iter_lines()
        assert "event: text" in lines
        yield lines


def ends(state):
    return [each["ended"] for each in read_log(state / "audit.jsonl") if "ended" in each]


def test_a_reader_who_leaves_stops_the_report_and_frees_the_server(paced, tmp_path):
    with serving_reports(paced, tmp_path) as server:
        with first_text(server):
            pass
        deadline = time.monotonic() + 20
        while not ends(server.state) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ends(server.state) == ["stopped"]
        told = httpx.get(f"{server.url}/metrics").text
        assert "medward_jobs 0.0" in told
        assert 'medward_streamed_reports_total{ended="stopped"} 1.0' in told
    records = list(read_log(server.state / "audit.jsonl"))
    assert records[-1]["left"] < records[-1]["written"] + 1 < 2000, "what was not asked for was not written"


def test_a_server_that_is_killed_leaves_an_admitted_charged_and_unfinished_report(paced, tmp_path):
    with serving_reports(paced, tmp_path) as server, first_text(server) as lines:
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        with pytest.raises(httpx.TransportError):
            list(lines)
    log = tmp_path / "state/audit.jsonl"
    verify_log(log)
    (record,) = read_log(log)
    assert record["levels"] == ["full"]
    assert record["stream"]
    (paid,) = [each for each in AuditRecord.recorded(record).verdicts if each.part == "leakage"]
    assert paid.evidence["bits_total"] == pytest.approx(LENGTH * 8, abs=0.1)
    with serving_reports(paced, tmp_path, pause=0) as server:
        done = httpx.post(f"{server.url}/v1/predict", json={"inputs": ROW.tolist()}, headers=EVENTS, timeout=30)
        assert events_of(done.text)[-1][0] == "end"
    assert ends(tmp_path / "state") == ["finished"]


def test_a_report_that_is_not_taken_in_time_is_stopped(made):
    """At the limit the text ends without its end; what was charged stays charged."""
    records = []
    log = type("Log", (), {"append": lambda _, record: records.append(record)})()
    model = report_model("The trachea is midline. " * 50, length=2000)

    class Slow(CornerWriter):
        def sentences(self, image):
            for piece in super().sentences(image):
                time.sleep(0.1)
                yield piece

    slow = type(model)(spec=model.spec, function=Slow("The trachea is midline. " * 50), features="corners")
    guard = Guard(model=slow, profile=made[1], policy=CALM, audit=log, salt=b"s")
    client = TestClient(create_app(guard, keys=None, limits=Limits(stream_seconds=1.0)), raise_server_exceptions=False)
    response = ask(client, **EVENTS)
    assert "event: end" not in response.text
    assert records[-1]["ended"] == "stopped"
    assert jobs(client) == 0
    with pytest.raises(MedwardError, match=r"limits\.stream_seconds must be >= "):
        Limits(stream_seconds=0)
