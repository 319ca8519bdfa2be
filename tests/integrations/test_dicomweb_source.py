"""Studies that the server fetches: from a real Orthanc, and from archives that answer with what they should not."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless
from starlette.testclient import TestClient
from support.dicom_files import dicom_file
from support.fhir import checked_bundle, resources
from support.models import MeanModel
from support.orthanc_server import AUTHORIZATION, archive

from medward.guard.audit.log import AuditLog, read_log
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.types import Query
from medward.integrations.clinical.dicomweb_source import DicomWebSource, NotInSource, StudyName
from medward.integrations.clinical.multipart_related import related_body
from medward.integrations.serving import Limits, create_app
from medward.integrations.serving.app import source_notes
from medward.integrations.serving.keys import KeyStore

STUDY, SERIES, OTHER = "1.2.840.99.7", "1.2.840.99.7.1", "1.2.840.99.8"
RNG = np.random.default_rng(3)
NOISE = [RNG.integers(0, 256, (4, 6), dtype=np.uint8) for _ in range(3)]
GUARDED = {"uploads": "label", "upload_bits": 3.0}


def made(pixels=NOISE[0], **said):
    study = said.pop("study", STUDY)
    return dicom_file(pixels, **{"study": study, "SeriesInstanceUID": f"{study}.1", "patient": "P-7", **said})


def policy_of(**source):
    return Policy(
        on_error="withhold",
        release={"level": "full"},
        screen={"action": "allow"},
        duplicates={"watch": False},
        source=source,
    )


@pytest.fixture
def asking(image_profile, tmp_path):
    """Build a client of a server whose archive is at `url`, and which tells uploads apart."""

    def build(url, *, source=GUARDED, limits=None, **settings):
        guard = Guard(
            model=MeanModel(), profile=image_profile, policy=policy_of(**source), audit=AuditLog(tmp_path / "log.jsonl")
        )
        made_of = DicomWebSource(url=url, authorization=AUTHORIZATION, **settings)
        return TestClient(
            create_app(guard, keys=None, limits=limits, source=made_of, version="abc"), raise_server_exceptions=False
        )

    return build


def ask(client, body, **headers):
    return client.post("/v1/predict/study", json=body, headers=headers)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with archive(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def test_a_study_of_the_archive_is_answered_in_full_and_an_upload_of_it_is_not(orthanc, asking, tmp_path):
    files = [made(NOISE[0]), made(NOISE[1], SeriesInstanceUID=f"{SERIES}.2")]
    orthanc.keep(*files, made(NOISE[2], study=OTHER))
    client = asking(orthanc.url)
    response = ask(client, {"study": STUDY})
    assert response.status_code == 200, response.text
    answered = response.json()
    assert sorted(each["instance"] for each in answered["instances"]) == sorted(
        pydicom.dcmread(io.BytesIO(each)).SOPInstanceUID for each in files
    )
    assert {each["level"] for each in answered["instances"]} == {"full"}
    response = ask(client, {"study": STUDY, "series": SERIES})
    assert response.status_code == 200, response.text
    one = response.json()["instances"]
    assert len(one) == 1
    again = ask(client, {"study": STUDY, "series": SERIES, "instance": one[0]["instance"]}).json()["instances"]
    assert again[0]["scores"] == one[0]["scores"]
    uploaded = client.post("/v1/predict", content=files[0], headers={"Content-Type": "application/dicom"}).json()
    assert (uploaded["levels"], uploaded["scores"]) == (["label"], [None])
    assert uploaded["labels"] == [one[0]["label"]]
    said = [[verdict["source"] for verdict in record["verdicts"]] for record in read_log(tmp_path / "log.jsonl")]
    assert ["source" in each for each in said] == [False, False, False, True]


def test_a_retrieved_study_is_answered_as_fhir_and_as_a_report(orthanc, asking):
    orthanc.keep(made(study=f"{STUDY}.5"))
    client = asking(orthanc.url)
    bundle = ask(client, {"study": f"{STUDY}.5"}, Accept="application/fhir+json").json()
    (found,) = resources(checked_bundle(bundle), "Observation")
    assert found["derivedFrom"][0]["identifier"]["value"] == f"urn:oid:{STUDY}.5"
    report = ask(client, {"study": f"{STUDY}.5"}, Accept="application/dicom")
    orthanc.keep(report.content)  # which the archive takes
    assert pydicom.dcmread(io.BytesIO(report.content)).StudyInstanceUID == f"{STUDY}.5"
    with_report = ask(client, {"study": f"{STUDY}.5"})
    assert with_report.status_code == 202
    assert [each["failure"] for each in with_report.json()["failed"]] == ["is a DICOM file without an image"]


def test_compressed_instances_come_as_they_are_kept(orthanc, asking):
    large = np.kron(NOISE[0], np.ones((8, 8), np.uint8))
    orthanc.keep(made(large, form=JPEG2000Lossless, study=f"{STUDY}.6"))
    failed = ask(asking(orthanc.url), {"study": f"{STUDY}.6"}).json()["failed"]
    assert "is 48 x 32" in failed[0]["failure"]  # it was read as far as its size


def test_what_the_archive_does_not_have_is_not_found(orthanc, asking):
    response = ask(asking(orthanc.url), {"study": "1.2.3.4"})
    assert response.status_code == 404
    assert "no such study" in response.json()["detail"]
    assert "1.2.3.4" not in response.text


def test_no_more_instances_and_bytes_than_allowed(orthanc, asking):
    orthanc.keep(*[made(each, study=f"{STUDY}.9") for each in NOISE])
    few = ask(asking(orthanc.url, limits=Limits(rows=2)), {"study": f"{STUDY}.9"})
    assert few.status_code == 422
    assert "more than 2" in few.json()["detail"]
    small = ask(asking(orthanc.url, most_bytes=500), {"study": f"{STUDY}.9"})
    assert small.status_code == 422
    assert "more than 500 bytes" in small.json()["detail"]


def test_a_wrong_password_is_an_outage_and_not_told(orthanc, asking, caplog):
    client = asking(orthanc.url)
    source = DicomWebSource(url=orthanc.url, authorization="Basic eDp5")
    with pytest.raises(UnavailableError, match="answered 401"):
        anyio.run(source.retrieve, StudyName(study=STUDY), 9, lambda _: None)
    assert AUTHORIZATION not in repr(source) + repr(client)
    assert "P-7" not in caplog.text


# Archives that are not what they should be


@contextmanager
def strange_archive(status=200, body=b"", headers=None, delay=0.0):
    """A server that answers all alike; the paths it was asked for."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, dict(self.headers)))
            time.sleep(delay)
            self.send_response(status)
            for name, value in (headers or {"Content-Type": 'multipart/related; boundary="b7"'}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def retrieved(url, name=None, most=9, **settings):
    source = DicomWebSource(url=url, **settings)
    return anyio.run(source.retrieve, name or StudyName(study=STUDY), most, lambda _: None)


def test_only_the_archive_s_own_address_is_asked():
    file = made()
    with strange_archive(body=related_body([file], "b7")) as (url, seen):
        assert retrieved(f"{url}/", authorization="Bearer t0ken") == [file]
    ((path, headers),) = seen
    assert path == f"/dicom-web/studies/{STUDY}"
    assert headers["Authorization"] == "Bearer t0ken"


def test_redirects_are_not_followed():
    with strange_archive(body=related_body([made()], "b7")) as (target, seen):
        for status in (301, 302, 307, 308):
            with (
                strange_archive(status, headers={"Location": f"{target}/studies/{STUDY}"}) as (url, _),
                pytest.raises(UnavailableError, match=f"answered {status}"),
            ):
                retrieved(url)
    assert seen == []


@pytest.mark.parametrize("wrong", [{"study": OTHER}, {"SeriesInstanceUID": OTHER}, {"SOPInstanceUID": OTHER}])
def test_what_was_not_asked_for_is_refused(wrong):
    name = StudyName(study=STUDY, series=SERIES, instance=f"{SERIES}.1")
    right = made(SOPInstanceUID=f"{SERIES}.1")
    with strange_archive(body=related_body([right], "b7")) as (url, _):
        assert retrieved(url, name) == [right]
    with (
        strange_archive(body=related_body([right, made(**{"SOPInstanceUID": f"{SERIES}.1", **wrong})], "b7")) as (
            url,
            _,
        ),
        pytest.raises(IntegrityError, match="not"),
    ):
        retrieved(url, name)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ({"headers": {"Content-Type": "text/html"}}, UnavailableError, "text/html"),
        ({"headers": {"Content-Type": "multipart/related", "Content-Encoding": "gzip"}}, UnavailableError, "200"),
        ({"status": 500}, UnavailableError, "answered 500"),
        ({"status": 404}, NotInSource, "no such study"),
        ({"body": b"nonsense"}, MedwardError, "no part"),
        ({"body": related_body([b"no dicom"], "b7")}, IntegrityError, "not of the study"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_study_is_refused(said, kind, words):
    with strange_archive(**said) as (url, _), pytest.raises(kind, match=words):
        retrieved(url)


def test_an_archive_that_hangs_is_given_up():
    with strange_archive(delay=1.0) as (url, _), pytest.raises(UnavailableError, match=r"within 0\.2 s"):
        retrieved(url, seconds=0.2)
    with pytest.raises(UnavailableError, match="ConnectError"):
        retrieved("http://127.0.0.1:9/dicom-web")


def test_an_outage_is_503_and_its_place_is_let_go(asking):
    client = asking("http://127.0.0.1:9/dicom-web", limits=Limits(workers=1, queue=0))
    for _ in range(3):
        response = ask(client, {"study": STUDY})
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "127.0.0.1" not in response.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"study": "../../instances"}, 422), ({"study": "1.2@evil.example"}, 422), ({"study": "1.2/../3"}, 422),
        ({"study": "1.2", "series": "1%2e2"}, 422), ({"study": "1.02"}, 422), ({"study": "1." + "1" * 80}, 422),
        ({"study": "1.2", "instance": "1.2.3"}, 422), ({"study": "1.2", "url": "http://evil.example"}, 422),
        ({}, 422), ([], 422), ({"study": "1.2" + " " * 2000}, 413),
    ],
)  # fmt: skip
def test_a_request_chooses_uids_and_nothing_else(asking, caplog, body, status):
    with strange_archive() as (url, seen):
        response = asking(url).post("/v1/predict/study", json=body)
    assert response.status_code == status, response.text
    assert seen == []
    assert "evil" not in response.text + caplog.text


def test_a_body_that_is_no_json_is_a_problem(asking):
    client = asking("http://127.0.0.1:9")
    assert (
        client.post("/v1/predict/study", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    )
    assert client.post("/v1/predict/study", content=b"1.2.3").status_code == 415


def test_a_key_is_needed(image_profile, tmp_path):
    guard = Guard(model=MeanModel(), profile=image_profile, policy=policy_of())
    source = DicomWebSource(url="http://127.0.0.1:9")
    client = TestClient(create_app(guard, keys=KeyStore(tmp_path / "keys.json"), source=source))
    assert ask(client, {"study": STUDY}).status_code == 401


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "a.example/dicom-web", "http:///x", "http://u:p@a/x", "http://a/x?y=1", "http://a/x#y", ""]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(MedwardError, match="source: must"):
        DicomWebSource(url=url)


def test_a_secret_with_a_line_break_is_refused():
    with pytest.raises(MedwardError, match="AUTHORIZATION: must be") as refused:
        DicomWebSource(url="http://a", authorization="Bearer a\r\nX: y")
    assert "Bearer a\r" not in str(refused.value)


# The policy


@pytest.fixture
def guard_of(image_profile):
    return lambda **source: Guard(
        model=MeanModel(), profile=image_profile, policy=policy_of(**source), clock=lambda: 0.0
    )


def levels(guard, *, retrieved, rows=1, seed=0):
    inputs = np.random.default_rng(seed).uniform(size=(rows, 1, 4, 6)).astype(np.float32)
    return [each.label for each in guard.answer(Query(principal=("a", "b"), inputs=inputs, retrieved=retrieved)).levels]


@pytest.mark.parametrize(("uploads", "level"), [("same", "full"), ("label", "label"), ("withhold", "withheld")])
def test_uploads_leave_as_the_policy_says(guard_of, uploads, level):
    guard = guard_of(uploads=uploads)
    assert levels(guard, retrieved=False) == [level]
    assert levels(guard, retrieved=True) == ["full"]


def test_uploads_have_a_budget_of_their_own(guard_of):
    guard = guard_of(**GUARDED)
    assert levels(guard, retrieved=False, rows=5) == ["label"] * 3 + ["withheld"] * 2  # a label of two is a bit
    assert levels(guard, retrieved=True, rows=5, seed=1) == ["full"] * 5
    assert levels(guard, retrieved=False, seed=2) == ["withheld"]


def test_a_server_says_where_policy_and_source_do_not_fit(image_profile, caplog):
    source = DicomWebSource(url="http://127.0.0.1:9")
    assert source_notes(policy_of(**GUARDED), source) == source_notes(policy_of(), None) == ()
    assert "uploads are told as much" in source_notes(policy_of(), source)[0]
    assert "every answer" in source_notes(policy_of(**GUARDED), None)[0]
    for url, told in (("http://archive.example/dicom-web", 1), ("https://archive.example/dicom-web", 0)):
        notes = source_notes(policy_of(**GUARDED), DicomWebSource(url=url))
        assert len(notes) == told
        assert all("in clear text" in note for note in notes)
    with caplog.at_level(logging.WARNING):
        create_app(Guard(model=MeanModel(), profile=image_profile, policy=policy_of()), keys=None, source=source)
    assert "uploads are told as much" in caplog.text


def test_the_section_is_read_back_and_unset_changes_no_fingerprint():
    policy = policy_of(**GUARDED)
    assert Policy.from_toml(policy.to_toml()) == policy
    assert policy.fingerprint != policy_of().fingerprint
    assert json.loads(policy.model_dump_json())["source"] == GUARDED
    with pytest.raises(MedwardError, match=r"source\.uploads"):
        policy_of(uploads="full")
