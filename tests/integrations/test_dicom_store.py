"""STOW-RS: instances in, an answer for each; and structured reports that refer to what was read."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from support.dicom_files import dicom_bytes, dicom_file, dicom_header
from support.fhir import checked_bundle, resources
from support.models import MeanModel

from medward.guard.errors import MedwardError
from medward.guard.intake.instance import dicom_instance
from medward.guard.policy import Policy
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import Answer, CommissioningRemarks, Level
from medward.integrations.clinical.dicom_report import check_reportable, derived_uid, dicom_report
from medward.integrations.clinical.multipart_related import related_body, related_files
from medward.integrations.serving import Limits

STUDY, SERIES = "1.2.840.99.7", "1.2.840.99.7.1"
DARK, LIGHT = np.full((4, 6), 40, np.uint8), np.full((4, 6), 220, np.uint8)
DARK[0, 0] = LIGHT[0, 0] = 128
RELATED = 'multipart/related; type="application/dicom"; boundary=b7'


def made(pixels, **said):
    return dicom_file(pixels, **{"study": STUDY, "SeriesInstanceUID": SERIES, "patient": "P-7", **said})


def store(client, *files, accept="*/*", kind=RELATED):
    headers = {"Content-Type": kind, "Accept": accept}
    return client.post("/dicom-web/studies", content=related_body(list(files), "b7"), headers=headers)


def uid(file):
    return dicom_instance(file).sop_instance


def test_each_instance_is_answered_as_it_is_alone(image_client):
    client, files = image_client(), [made(DARK), made(LIGHT)]
    response = store(client, *files, accept="application/json")
    assert response.status_code == 200, response.text
    body = response.json()
    assert [each["instance"] for each in body["instances"]] == [uid(each) for each in files]
    assert [each["label"] for each in body["instances"]] == ["dark", "light"]
    assert (body["study"], body["failed"]) == (STUDY, [])
    alone = client.post("/v1/predict", content=files[1], headers={"Content-Type": "application/dicom"}).json()
    assert body["instances"][1]["scores"] == alone["scores"][0]


def test_a_client_of_dicomweb_reads_a_store_response(image_client):
    files = [made(DARK), b"no dicom", made(LIGHT[:2])]
    response = store(image_client(), *files)
    assert response.status_code == 202
    assert response.headers["content-type"] == "application/dicom+json"
    said = Dataset.from_json(json.dumps(response.json()))
    (answered,), failed = said.ReferencedSOPSequence, said.FailedSOPSequence
    assert answered.ReferencedSOPInstanceUID == uid(files[0])
    assert [each.TextValue for each in answered.ContentSequence] == ["level of release: full", "class: dark"]
    assert [each.FailureReason for each in failed] == [0xC000, 0xC000]
    assert failed[1].ReferencedSOPInstanceUID == uid(files[2])


def test_where_nothing_can_be_read_nothing_is_asked(image_client):
    client = image_client()
    response = store(client, made(LIGHT[:2]), accept="application/json")
    assert response.status_code == 409
    assert response.json()["instances"] == []
    assert "the model takes 6 x 4" in response.json()["failed"][0]["failure"]
    assert "medward_rows_total{" not in client.get("/metrics").text


def test_instances_of_two_studies_are_refused(image_client):
    response = store(image_client(), made(DARK), made(LIGHT, study="1.2.9"))
    assert response.status_code == 422
    assert "2 studies" in response.json()["detail"]


def test_a_withheld_instance_is_said_to_be(client, image_profile):
    policy = Policy(on_error="withhold", screen={"rate": 0.4, "action": "withhold"})
    strange = np.zeros((4, 6), np.uint8)
    strange[::2] = 255
    served = client(policy, guard_parts={"model": MeanModel(), "profile": image_profile})
    said = Dataset.from_json(json.dumps(store(served, made(strange)).json()))
    texts = [each.TextValue for each in said.ReferencedSOPSequence[0].ContentSequence]
    assert texts == ["level of release: withheld", "answer: withheld by the guard"]
    report = pydicom.dcmread(io.BytesIO(store(served, made(strange), accept="application/dicom").content))
    assert "withheld by the guard" in str(report)
    assert "probability" not in str(report)


def test_all_forms_are_there(image_client):
    client = image_client(version="abc")
    bundle = checked_bundle(store(client, made(DARK), made(LIGHT), accept="application/fhir+json").json())
    assert len(resources(bundle, "Observation")) == 2
    partly = store(client, made(DARK), b"x", accept="application/fhir+json")
    assert partly.status_code == 202
    assert len(resources(partly.json(), "Observation")) == 1


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/dicom", b"x", 415),
        ("multipart/related; type=text/plain; boundary=b7", b"x", 422),
        ("multipart/related", b"x", 422),
        (f"multipart/related; boundary={'b' * 71}", b"x", 422),
        (RELATED, b"", 422),
        (RELATED, b"--b7\r\n\r\nabc", 422),
        (RELATED, b"--b7--\r\n", 422),
        (RELATED, b"--b7 x\r\n\r\nabc\r\n--b7--", 422),
        (RELATED, b"--b7\r\nContent-Type: text/html\r\n\r\nabc\r\n--b7--", 422),
        (RELATED, b"--b7\r\nX: " + b"y" * 5000 + b"\r\n\r\nabc\r\n--b7--", 422),
    ],
)
def test_a_body_of_another_form_is_a_problem(image_client, kind, body, status):
    response = image_client().post("/dicom-web/studies", content=body, headers={"Content-Type": kind})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_no_more_instances_than_rows(image_client):
    client = image_client(limits=Limits(rows=2))
    assert store(client, made(DARK), made(LIGHT)).status_code == 200
    response = store(client, *[made(DARK)] * 3)
    assert response.status_code == 422
    assert "more than 2 DICOM files" in response.json()["detail"]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
def test_files_come_out_as_they_went_in(files):
    kind = 'multipart/related; boundary="gY3"'
    if any(b"--gY3" in each for each in files):
        return
    assert related_files(kind, related_body(files, "gY3"), len(files)) == files


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body):
    try:
        related_files(RELATED, body, 3)
    except MedwardError:
        return


def test_a_report_refers_to_what_was_read_and_is_preliminary(image_client):
    files = [made(DARK), made(LIGHT)]
    response = store(image_client(version="abc"), *files, accept="application/dicom")
    assert response.headers["content-type"] == "application/dicom"
    report = pydicom.dcmread(io.BytesIO(response.content))
    assert report.SOPClassUID.name == "Comprehensive SR Storage"
    assert (report.StudyInstanceUID, report.PatientID, str(report.PatientName)) == (STUDY, "P-7", "Secret^Person")
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "PARTIAL",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    (series,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {each.ReferencedSOPInstanceUID for each in series.ReferencedSOPSequence} == set(map(uid, files))
    (measured,) = [
        each
        for each in report.ContentSequence
        if each.get("ConceptNameCodeSequence")[0].CodeMeaning == "Imaging Measurements"
    ]
    for group, file, word in zip(measured.ContentSequence, files, ["dark", "light"], strict=True):
        referred = [each for each in group.ContentSequence if each.ValueType == "IMAGE"]
        assert referred[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid(file)
        said = {
            each.ConceptNameCodeSequence[0].CodeMeaning: each.ConceptCodeSequence[0].CodeMeaning
            for each in group.ContentSequence
            if each.ValueType == "CODE"
        }
        assert said == {"level of release": "full", "class": word}
        assert [each.ValueType for each in group.ContentSequence].count("NUM") == 2


def report_of(task, labels, scores, levels, **more):
    """The report of an answer about as many instances, as text."""
    spec = replace(MeanModel().spec, task=task)
    output = "values" if task.output == "values" else "probabilities"
    answer = Answer(
        id="a1",
        labels=np.array(labels),
        scores=np.array(scores, float),
        levels=levels,
        output=output,
        spec=spec,
        **more,
    )
    instances = [dicom_instance(made(DARK)) for _ in labels]
    return str(pydicom.dcmread(io.BytesIO(dicom_report(answer, instances, version="abc"))))


def test_findings_and_numbers_are_in_reports():
    task = Multilabel(findings=("effusion", "mass"), output="probabilities", thresholds=(0.5, 0.5))
    found = report_of(task, [2], [[0.125, 0.75]], (Level.ROUNDED,))
    assert all(word in found for word in ("probability of mass", "0.75", "present", "absent"))
    label = report_of(task, [2], [[np.nan] * 2], (Level.LABEL,))
    assert "present" in label
    assert "probability" not in label
    number = report_of(Regression(quantity="age", tolerance=1, unit="months"), [6], [[3.5]], (Level.FULL,))
    assert all(word in number for word in ("'age'", "'months'", "3.5"))


def test_a_report_for_testing_says_so():
    remarks = CommissioningRemarks(until="2026-12-02", left=3, compared=0, notes=())
    task = MeanModel().spec.task
    assert "for testing only" in report_of(task, [1], [[np.nan] * 2], (Level.LABEL,), commissioning=remarks)
    assert "for testing only" not in report_of(task, [1], [[np.nan] * 2], (Level.LABEL,))


def test_a_report_needs_instances_and_is_refused_before_anything_is_asked(image_client, png):
    client = image_client()
    accept = {"Accept": "application/dicom"}
    for asked in ({"json": {"inputs": (DARK[None, None] / 255).tolist()}}, {"files": [("image", ("x", png(DARK)))]}):
        response = client.post("/v1/predict", headers=accept, **asked)
        assert response.status_code == 422
        assert "refers to DICOM instances" in response.json()["detail"]
    assert "medward_rows_total{" not in client.get("/metrics").text
    with pytest.raises(MedwardError, match="one study"):
        check_reportable(None, [dicom_instance(made(DARK)), dicom_instance(made(DARK, study="1.2.9"))])
    with pytest.raises(MedwardError, match="no form"):
        check_reportable(Opaque(), [dicom_instance(made(DARK))])


def test_a_patient_s_name_in_another_alphabet_stays_what_it_is(image_client):
    header = dicom_header(DARK, study=STUDY, SeriesInstanceUID=SERIES)
    header.SpecificCharacterSet, header.PatientName = "ISO_IR 192", "Müller^Jürgen"
    response = store(image_client(), dicom_bytes(header), accept="application/dicom")
    assert response.status_code == 200, response.text
    assert str(pydicom.dcmread(io.BytesIO(response.content)).PatientName) == "Müller^Jürgen"


def test_uids_are_made_of_what_they_name():
    assert derived_uid("a") == derived_uid("a") != derived_uid("b")
    assert pydicom.uid.UID(derived_uid("a")).is_valid


def test_an_instance_that_names_no_study_is_no_instance():
    assert dicom_instance(b"x") is None
    assert dicom_instance(made(DARK, study="1.2.303").replace(b"1.2.303", b"1.2..03")) is None
    assert dicom_instance(made(DARK, SeriesInstanceUID="1.2.404").replace(b"1.2.404", b"../../4")).series == ""
    assert "PixelData" not in dicom_instance(made(DARK)).header
    assert generate_uid() != uid(made(DARK))
