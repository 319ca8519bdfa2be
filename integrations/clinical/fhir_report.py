"""An answer as FHIR R4: a Bundle of one preliminary DiagnosticReport, its Observations and the Device that made them.

Nothing is made up: the study is what headers or the request said, a patient is named only where the site configured
whose identifiers its headers hold, and codes are the site's own. Reference: HL7 FHIR R4, DiagnosticReport, workflow
status ``preliminary``: nobody has verified it.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from datetime import datetime

from medward.guard.errors import MedwardError
from medward.guard.intake.instance import DicomInstance, is_uid
from medward.guard.types import Answer
from medward.integrations.clinical.fhir_observations import row_observations
from medward.integrations.clinical.fhir_settings import FhirSettings
from medward.integrations.clinical.fhir_terms import URI_SYSTEM, Resource, text_concept, uid_reference

TESTING = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}


def fhir_bundle(
    answer: Answer,
    *,
    at: datetime,
    version: str,
    settings: FhirSettings | None = None,
    instances: Sequence[DicomInstance | None] = (),
    study: str = "",
) -> Resource:
    """The Bundle for `answer`, made `at` a time with a zone by the model bundle `version`.

    `instances` are those that the rows were read from, None for a row of no DICOM file; `study` is what the request
    says they belong to. The Bundle's identifier is the answer's id, which is in the audit log.
    Raises `MedwardError` for outputs that FHIR has no form for.
    """
    settings = settings or FhirSettings()
    rows = row_observations(answer, settings)
    sources = [*instances] or [None] * len(rows)
    if at.tzinfo is None or len(sources) != len(rows):
        raise MedwardError(f"FHIR: needs a time with its zone and an instance for each of {len(rows)} rows")
    issued = at.isoformat(timespec="milliseconds")
    about = {**_subject(sources, settings)}
    device = _device(answer, version)
    observations = [
        {
            "resourceType": "Observation",
            "status": "preliminary",
            **_category(answer),
            **about,
            "issued": issued,
            "device": {"reference": _url(answer, 0)},
            **_derived(source, study),
            **({"note": [{"text": f"row {row + 1} of {len(rows)}"}]} if len(rows) > 1 else {}),
            **each,
        }
        for row, (source, made) in enumerate(zip(sources, rows, strict=True))
        for each in made
    ]
    report = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "code": text_concept(f"{answer.spec.name}: answers of a guarded model", *settings.codings("report")),
        **about,
        "issued": issued,
        **_studies(sources, study),
        "result": [{"reference": _url(answer, place)} for place in range(2, len(observations) + 2)],
        **_conclusion(answer),
    }
    resources = [device, report, *observations]
    marked = {} if answer.commissioning is None else {"meta": {"tag": [TESTING]}}
    return {
        "resourceType": "Bundle",
        **marked,
        "type": "collection",
        **_identifier(answer),
        "timestamp": issued,
        "entry": [
            {"fullUrl": _url(answer, place), "resource": {**each, **marked}} for place, each in enumerate(resources)
        ],
    }


def _url(answer: Answer, place: int) -> str:
    """The address of a resource within the Bundle: of this answer alone, and the same whenever it is said."""
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, f'{answer.id}/{place}')}"


def _identifier(answer: Answer) -> Resource:
    try:
        return {"identifier": {"system": URI_SYSTEM, "value": f"urn:uuid:{uuid.UUID(answer.id)}"}}
    except ValueError:  # an id that a caller in Python chose
        return {"identifier": {"value": answer.id}}


def _device(answer: Answer, version: str) -> Resource:
    return {
        "resourceType": "Device",
        "deviceName": [{"name": answer.spec.name, "type": "model-name"}],
        "type": text_concept("guarded medical model"),
        "version": [{"type": text_concept("bundle"), "value": version}],
    }


def _category(answer: Answer) -> Resource:
    if answer.spec.modality != "image":
        return {}
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {"category": [{"coding": [{"system": system, "code": "imaging", "display": "Imaging"}]}]}


def _subject(sources: Sequence[DicomInstance | None], settings: FhirSettings) -> Resource:
    """The patient, where the site says whose identifiers its headers hold; files of two patients name none."""
    named = {each.patient for each in sources if each is not None and each.patient}
    if not settings.patient_system or len(named) != 1 or None in sources:
        return {}
    identifier = {"system": settings.patient_system, "value": named.pop()}
    return {"subject": {"type": "Patient", "identifier": identifier}}


def _studies(sources: Sequence[DicomInstance | None], study: str) -> Resource:
    said = {each.study for each in sources if each is not None} | ({study} if is_uid(study) else set())
    return {"imagingStudy": [uid_reference("ImagingStudy", each) for each in sorted(said)]} if said else {}


def _derived(source: DicomInstance | None, study: str) -> Resource:
    """What an Observation was read from: the study and, of a DICOM file, the instance itself."""
    if source is None:
        return {"derivedFrom": [uid_reference("ImagingStudy", study)]} if is_uid(study) else {}
    of = [uid_reference("ImagingStudy", source.study), uid_reference("Media", source.sop_instance)]
    return {"derivedFrom": of}


def _conclusion(answer: Answer) -> Resource:
    """What a person reads first: that it is for testing, or the text of a report model."""
    said: Resource = {}
    if answer.commissioning is not None:
        said["conclusion"] = f"For testing only until {answer.commissioning.until}; not for a patient."
    texts = [each for each in answer.texts if each is not None]
    if texts:
        forms = [base64.b64encode(each.encode()).decode() for each in texts]
        said["presentedForm"] = [{"contentType": "text/plain; charset=utf-8", "data": each} for each in forms]
    if len(answer.texts) == 1 and texts and "conclusion" not in said:
        said["conclusion"] = texts[0]
    return said
