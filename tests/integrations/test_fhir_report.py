"""Answers in FHIR R4: what each task says of a row, what a withheld one says, and that nothing is made up."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom.uid import generate_uid
from support.certified import greys, protected
from support.dicom_files import dicom_file
from support.fhir import checked_bundle, component, reason, resources
from support.models import MeanModel
from support.report_models import FINDINGS, report_spec

from medward.guard.errors import MedwardError
from medward.guard.intake.instance import dicom_instance, is_uid
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import Answer, CommissioningRemarks, Level
from medward.integrations.clinical.fhir_report import fhir_bundle
from medward.integrations.clinical.fhir_settings import Coding, FhirSettings
from medward.integrations.serving import load_app
from medward.integrations.serving.clinical_forms import preferred_type

NOW, ID = datetime(2026, 12, 1, 1, 2, 3, tzinfo=UTC), "0123456789abcdef0123456789abcdef"
FHIR = {"Accept": "application/fhir+json"}
STUDY = "1.2.840.99.7"
GREY = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)
NAN = np.nan


def spec_of(task, shape=(3,)):
    return ModelSpec(name="m", modality="tabular", shape=shape, task=task)


def answer_of(task, labels, scores, levels, **more):
    output = "values" if task.output == "values" else "probabilities"
    spec = report_spec() if task.kind == "report" else spec_of(task)
    scores = np.array(scores, np.float64)
    return Answer(id=ID, labels=np.array(labels), scores=scores, levels=levels, output=output, spec=spec, **more)


def bundle_of(answer, **said):
    return checked_bundle(fhir_bundle(answer, at=NOW, version="b1", **said))


def observations(answer, **said):
    return resources(bundle_of(answer, **said), "Observation")


TWO = Classification(classes=("clear", "opacity"), output="probabilities", threshold=0.3)


def test_a_class_has_its_probabilities_and_is_interpreted_by_its_threshold():
    found = observations(answer_of(TWO, [1, 0], [[0.6, 0.4], [0.9, 0.1]], (Level.ROUNDED,) * 2))
    assert [each["valueCodeableConcept"]["text"] for each in found] == ["opacity", "clear"]
    assert [each["interpretation"][0]["coding"][0]["code"] for each in found] == ["POS", "NEG"]
    likely = component(found[0], "probability of opacity")
    assert likely["valueQuantity"]["value"] == 0.4
    assert likely["referenceRange"][0]["low"]["value"] == 0.3
    assert [each["note"][0]["text"] for each in found] == ["row 1 of 2", "row 2 of 2"]
    assert {each["status"] for each in found} == {"preliminary"}


def test_the_checks_of_these_tests_refuse_what_is_no_fhir():
    for place, change in [("Observation", {"colour": "red"}), ("DiagnosticReport", {"issued": "yesterday"})]:
        bundle = bundle_of(answer_of(TWO, [1], [[0.6, 0.4]], (Level.ROUNDED,)))
        resources(bundle, place)[0].update(change)
        with pytest.raises(ValueError, match=next(iter(change))):
            checked_bundle(bundle)


def test_without_a_threshold_nothing_is_interpreted():
    task = Classification(classes=("a", "b", "c"), output="probabilities")
    (found,) = observations(answer_of(task, [2], [[0.1, 0.2, 0.7]], (Level.ROUNDED,)))
    assert "interpretation" not in found
    assert "referenceRange" not in json.dumps(found)


def test_what_does_not_leave_is_masked_and_no_normal_result():
    answer = answer_of(TWO, [1, -1, 1], [[NAN] * 2, [NAN] * 2, [NAN, 0.9]], (Level.LABEL, Level.WITHHELD, Level.TOP))
    label, withheld, top = observations(answer)
    assert label["valueCodeableConcept"]["text"] == "opacity"
    assert reason(component(label, "probability of opacity")) == "masked"
    assert reason(withheld) == "masked"
    assert not {"valueCodeableConcept", "interpretation"} & set(withheld)
    assert component(withheld, "level of release")["valueString"] == "withheld"
    assert reason(component(top, "probability of clear")) == "masked"
    assert component(top, "probability of opacity")["valueQuantity"]["value"] == 0.9


def test_each_finding_is_an_observation_of_its_own():
    task = Multilabel(findings=("effusion", "mass"), output="probabilities", thresholds=(0.5, 0.2))
    answer = answer_of(task, [0b10, -1], [[0.4, 0.3], [NAN, NAN]], (Level.ROUNDED, Level.WITHHELD))
    effusion, mass, *withheld = observations(answer)
    assert (effusion["valueBoolean"], mass["valueBoolean"]) == (False, True)
    assert component(mass, "probability of mass")["referenceRange"][0]["low"]["value"] == 0.2
    assert [reason(each) for each in withheld] == ["masked", "masked"]
    assert [each["code"]["text"] for each in withheld] == ["effusion", "mass"]


def test_a_number_has_its_unit_and_words_where_it_does_not_leave():
    task = Regression(quantity="bone age", tolerance=1.0, cut_points=(14.0,), unit="months")
    answer = answer_of(task, [1, 0, -1], [[20.5], [NAN], [NAN]], (Level.FULL, Level.LABEL, Level.WITHHELD))
    number, words, withheld = observations(answer, settings=FhirSettings(ucum="mo"))
    assert number["valueQuantity"] == {
        "value": 20.5,
        "unit": "months",
        "system": "http://unitsofmeasure.org",
        "code": "mo",
    }
    assert number["interpretation"] == [{"text": "14 months or more"}]
    assert words["valueString"] == "below 14 months"
    assert reason(withheld) == "masked"


def test_a_report_is_a_text_and_findings():
    task = report_spec().task
    first = 1 | 1 << len(FINDINGS)  # may be there
    answer = answer_of(
        task, [first, -1], np.zeros((2, len(FINDINGS))), (Level.FULL, Level.WITHHELD), texts=("Clear lungs.", None)
    )
    bundle = bundle_of(answer)
    text, *rest = resources(bundle, "Observation")
    assert text["valueString"] == "Clear lungs."
    assert rest[0]["interpretation"][0]["coding"][0]["code"] == "IND"
    assert reason(rest[len(FINDINGS)]) == "masked"
    assert "presentedForm" in resources(bundle, "DiagnosticReport")[0]


def test_outputs_that_nobody_can_read_have_no_form():
    task = Opaque()
    with pytest.raises(MedwardError, match="no form"):
        fhir_bundle(answer_of(task, [1], [[1.0]], (Level.FULL,)), at=NOW, version="b1")


def test_no_patient_study_or_code_is_made_up():
    file = dicom_file(GREY, patient="P-77", study=STUDY)
    instance, answer = dicom_instance(file), answer_of(TWO, [1], [[0.6, 0.4]], (Level.ROUNDED,))
    bare, sourced = bundle_of(answer), bundle_of(answer, instances=[instance])
    for word in ("subject", "imagingStudy", "derivedFrom", 'coding": [{"system": "http://snomed'):
        assert word not in json.dumps(bare)
    assert "P-77" not in json.dumps(sourced)
    assert "Secret" not in json.dumps(sourced)
    named = bundle_of(answer, instances=[instance], settings=FhirSettings(patient_system="urn:oid:1.2.3"))
    identifier = {"system": "urn:oid:1.2.3", "value": "P-77"}
    (report,) = resources(named, "DiagnosticReport")
    assert report["subject"] == {"type": "Patient", "identifier": identifier}
    uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}
    assert report["imagingStudy"] == [{"type": "ImagingStudy", "identifier": uid}]
    (seen,) = resources(named, "Observation")
    assert seen["derivedFrom"][1]["identifier"]["value"] == f"urn:oid:{instance.sop_instance}"


def test_files_of_two_patients_name_none():
    two = [dicom_instance(dicom_file(GREY, patient=each, study=STUDY)) for each in ("P-1", "P-2")]
    answer = answer_of(TWO, [1, 1], [[0.6, 0.4]] * 2, (Level.ROUNDED,) * 2)
    settings = FhirSettings(patient_system="urn:oid:1.2.3")
    assert "subject" not in json.dumps(bundle_of(answer, instances=two, settings=settings))
    assert "subject" not in json.dumps(bundle_of(answer, instances=[two[0], None], settings=settings))
    assert "subject" in json.dumps(bundle_of(answer, instances=[two[0]] * 2, settings=settings))


def test_the_bundle_s_identifier_is_the_answer_s_and_its_addresses_are_stable():
    answer = answer_of(TWO, [1], [[0.6, 0.4]], (Level.ROUNDED,))
    first, again = bundle_of(answer), bundle_of(answer)
    assert first == again
    assert first["identifier"]["value"] == "urn:uuid:01234567-89ab-cdef-0123-456789abcdef"
    other = answer_of(TWO, [1], [[0.6, 0.4]], (Level.ROUNDED,))
    other = Answer(**{name: getattr(other, name) for name in other.__slots__} | {"id": "case 7"})
    assert bundle_of(other)["identifier"] == {"value": "case 7"}
    assert not {each["fullUrl"] for each in bundle_of(other)["entry"]} & {each["fullUrl"] for each in first["entry"]}


def test_codes_are_the_site_s(tmp_path):
    file = tmp_path / "fhir.toml"
    file.write_text('[codes.opacity]\nsystem = "http://snomed.info/sct"\ncode = "128309002"\ndisplay = "Opacity"\n')
    settings = FhirSettings.load(file, spec_of(TWO))
    (found,) = observations(answer_of(TWO, [1], [[0.6, 0.4]], (Level.ROUNDED,)), settings=settings)
    assert found["valueCodeableConcept"]["coding"] == [
        Coding(system="http://snomed.info/sct", code="128309002", display="Opacity").content
    ]
    for text, words in [
        ('[codes.mass]\nsystem = "http://x"\ncode = "1"', "no such name, only clear, opacity, report"),
        ('patients = "x"', "patients"),
        ("[", "not TOML"),
        ('patient_system = "no uri"', "patient_system"),
    ]:
        file.write_text(text)
        with pytest.raises(MedwardError, match=words):
            FhirSettings.load(file, spec_of(TWO))
    with pytest.raises(MedwardError, match="cannot be read"):
        FhirSettings.load(tmp_path / "absent.toml", spec_of(TWO))


def test_a_test_answer_is_marked_as_one():
    remarks = CommissioningRemarks(until="2026-12-02", left=3, compared=0, notes=())
    bundle = bundle_of(answer_of(TWO, [1], [[NAN] * 2], (Level.LABEL,), commissioning=remarks))
    assert all(each["resource"]["meta"]["tag"][0]["code"] == "HTEST" for each in bundle["entry"])
    assert "testing only" in resources(bundle, "DiagnosticReport")[0]["conclusion"]
    assert "HTEST" not in json.dumps(bundle_of(answer_of(TWO, [1], [[NAN] * 2], (Level.LABEL,))))


@pytest.mark.parametrize(
    ("text", "good"),
    [("1.2", True), ("1.2.840.10008", True), ("2.25." + "9" * 59, True), ("2.25." + "9" * 60, False), ("1", False),
     ("1.02", False), ("1..2", False), ("1.2.", False), ("../1.2", False), ("1.2/..", False), ("1.2\n", False),
     ("1.２", False), ("", False), ("1.2%2e", False), ("1.2?x=1", False)],
)  # fmt: skip
def test_a_uid_is_digits_and_dots(text, good):
    assert is_uid(text) is good


@pytest.mark.parametrize(
    ("accept", "form"),
    [("", "a/json"), ("*/*", "a/json"), ("text/html", "a/json"), ("b/fhir", "b/fhir"), ("B/FHIR; x=4", "b/fhir"),
     ("a/json, b/fhir", "a/json"), ("b/fhir, */*", "b/fhir"), ("a/json;q=0.5, b/fhir", "b/fhir"),
     ("b/fhir;q=0.5, */*", "a/json"), ("b/fhir;q=0", "a/json"), ("b/fhir;q=x", "a/json")],
)  # fmt: skip
def test_a_client_gets_what_it_likes_best(accept, form):
    assert preferred_type(accept, ("a/json", "b/fhir")) == form


def test_over_http_a_dicom_file_goes_in_and_fhir_comes_out(image_client):
    series = generate_uid()
    file = dicom_file(GREY, patient="P-77", study=STUDY, SeriesInstanceUID=series)
    head = {"Content-Type": "application/dicom"}
    client = image_client(version="abc", fhir=FhirSettings(patient_system="urn:oid:1.2.3"))
    response = client.post("/v1/predict", content=file, headers=head | FHIR)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/fhir+json; fhirVersion=4.0"
    bundle = checked_bundle(response.json())
    (found,) = resources(bundle, "Observation")
    plain = client.post("/v1/predict", content=file, headers=head).json()
    assert found["valueCodeableConcept"]["text"] == plain["labels"][0]
    assert component(found, "probability of light")["valueQuantity"]["value"] == plain["scores"][0][1]
    assert resources(bundle, "DiagnosticReport")[0]["subject"]["identifier"]["value"] == "P-77"
    assert resources(bundle, "Device")[0]["version"][0]["value"] == "abc"


def test_rows_as_numbers_may_be_answered_in_fhir_too(image_client):
    rows = {"inputs": (GREY[None, None] / 255).tolist()}
    response = image_client().post("/v1/predict", json=rows, headers=FHIR | {"Medward-Study": STUDY})
    bundle = checked_bundle(response.json())
    assert resources(bundle, "DiagnosticReport")[0]["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{STUDY}"
    no_uid = image_client().post("/v1/predict", json=rows, headers=FHIR | {"Medward-Study": "case 7"})
    assert "case 7" not in no_uid.text
    assert "imagingStudy" not in no_uid.text


def test_what_is_wrong_is_a_problem_whatever_is_accepted(image_client):
    response = image_client().post("/v1/predict", json={"inputs": [[1]]}, headers=FHIR)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_a_certified_radius_is_a_component(tmp_path):
    from starlette.testclient import TestClient

    path = protected(tmp_path / "classes", "classes").path
    with TestClient(load_app(path, state=tmp_path / "state", anonymous=True)) as client:
        bundle = client.post("/v1/predict", json={"inputs": greys(200, 129).tolist()}, headers=FHIR).json()
    found = [component(each, "certified radius") for each in resources(checked_bundle(bundle), "Observation")]
    assert [each["valueQuantity"]["value"] for each in found] == [8.0, 1.0]
    assert found[0]["referenceRange"][0]["low"] == {"value": 4.0, "unit": "grey levels of 255"}


def test_a_model_of_opaque_outputs_refuses_fhir(client, image_profile):
    class OpaqueModel(MeanModel):
        def __init__(self):
            super().__init__()
            self.spec = ModelSpec(name="x", modality="image", shape=(1, 4, 6), task=Opaque(), low=0.0, high=1.0)

    full = Policy(on_error="withhold", release={"level": "full"})
    made = client(full, guard_parts={"model": OpaqueModel(), "profile": image_profile})
    response = made.post("/v1/predict", json={"inputs": [GREY[None].tolist()]}, headers=FHIR)
    assert response.status_code == 406
    assert "accept application/json" in response.json()["detail"]
