"""An answer as a DICOM structured report: TID 1500, one group of measurements for each instance that was read.

It is partial and preliminary, for nobody has verified it, and lies in the study of its instances, whose patient it
takes from their own headers. What the guard withholds is said in the instance's group. Names of classes and findings
are Medward's own codes (99MEDWARD) that have their text as meaning. Texts of report models are not in it, their
findings are. References: DICOM PS3.16, TID 1500 and 1501; the library highdicom.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Sequence
from copy import copy
from typing import Any

from medward.guard.answering import answer_content
from medward.guard.errors import MedwardError
from medward.guard.intake.instance import DicomInstance
from medward.guard.intake.picture import image_library
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Answer

SCHEME = "99MEDWARD"
_SERIES_NUMBER = 9900  # of the reports' series in the study
_LONGEST_MEANING = 64
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Attributes of type 2 in the modules of patient and study."""


def check_reportable(task: object, instances: Sequence[DicomInstance | None]) -> tuple[DicomInstance, ...]:
    """The `instances` that a structured report can be about, checked before anything is asked.

    Raises `MedwardError` where a row is of none, where two studies are among them, and for outputs without a form.
    """
    image_library("highdicom", "DICOM structured reports", "dicom")
    if isinstance(task, Opaque):
        raise MedwardError("outputs that only their user can read have no form in DICOM; accept application/json")
    known = tuple(each for each in instances if each is not None)
    if not known or len(known) < len(instances):
        raise MedwardError(
            "a structured report refers to DICOM instances, and a row is of none that says its study, class and "
            "instance; send DICOM files, or accept application/json or application/fhir+json"
        )
    if len({each.study for each in known}) > 1:
        raise MedwardError("a structured report is about one study; send the files of one study per request")
    return known


def dicom_report(answer: Answer, instances: Sequence[DicomInstance], *, version: str) -> bytes:
    """The report of `answer` as a DICOM file; `instances` are those of `check_reportable`, one a row.

    `version` names the bundle. Raises `MedwardError` for headers that no report can be made of.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    from medward.guard.intake.dicom import HUSH

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid(version), name=answer.spec.name[:_LONGEST_MEANING], model_name=version
    )
    observer = hd.sr.ObserverContext(codes.DCM.Device, device)
    groups = [
        _group(hd, answer, row, instance, place)
        for place, (row, instance) in enumerate(zip(answer.rows(), instances, strict=True))
    ]
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_own_code(hd, "Reading by a guarded model"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    try:
        with HUSH:
            document = hd.sr.ComprehensiveSR(
                evidence=[_evidence(each) for each in instances],
                content=report,
                series_instance_uid=derived_uid(f"{instances[0].study}/{version}"),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=derived_uid(answer.id),
                instance_number=1,
                manufacturer="Medward",
                is_complete=False,
                is_final=False,
                is_verified=False,
                series_description="Answers of a guarded model",
            )
            file = io.BytesIO()
            document.save_as(file)
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        raise MedwardError(
            f"no structured report can be made of these headers ({type(error).__name__}); accept application/json"
        ) from None
    return file.getvalue()


def derived_uid(said: str) -> str:
    """A UID made of a UUID (PS3.5, annex B.2) that is the same for the same text."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'medward/{said}').int}"


def _evidence(instance: DicomInstance) -> Any:
    """The instance's header with the attributes that may be empty but must be there."""
    header = copy(instance.header)
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")
    return header


def _group(hd: Any, answer: Answer, row: dict[str, Any], instance: DicomInstance, place: int) -> Any:
    """What was found on one instance."""
    source = hd.sr.SourceImageForMeasurementGroup(instance.sop_class, instance.sop_instance)
    identifier = hd.sr.TrackingIdentifier(derived_uid(f"{answer.id}/{place}"), f"{answer.id}/{place}")
    numbers = [] if row["level"] == "withheld" else _decided(answer, row)[1]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=identifier,
        measurements=[
            hd.sr.Measurement(name=_own_code(hd, name), value=value, unit=_unit(hd, unit))
            for name, value, unit in numbers
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(name=_own_code(hd, name), value=_own_code(hd, value))
            for name, value in row_words(answer, row)
        ],
        source_images=[source],
    )


def row_words(answer: Answer, row: dict[str, Any]) -> list[tuple[str, str]]:
    """What one of the `rows` of `answer` says in words, each with its name; of a withheld one that it is."""
    said = [("level of release", str(row["level"]))]
    if answer.commissioning is not None:
        said.append(("purpose", "for testing only, not for a patient"))
    if row["level"] == "withheld":
        return [*said, ("answer", "withheld by the guard")]
    return [*said, *_decided(answer, row)[0]]


def _decided(answer: Answer, row: dict[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, float, str]]]:
    """What a row says in words, and in numbers with their units."""
    task, shared = answer.spec.task, answer_content(answer)
    words: list[tuple[str, str]] = []
    numbers: list[tuple[str, float, str]] = []
    if isinstance(task, Multilabel):
        words += [(name, "present" if name in row["label"] else "absent") for name in task.findings]
    elif isinstance(task, WrittenReport):
        words += [(name, row["label"].get(name, "absent or not mentioned")) for name in task.findings]
    elif isinstance(task, Regression):
        words += [] if row["label"] is None else [(task.quantity, row["label"])]
        numbers += [] if row["value"] is None else [(task.quantity, row["value"], task.unit)]
    else:
        words.append(("class", row["label"]))
    kind = "probability" if shared.get("score_kind") == "probabilities" else "logit"
    for name, score in zip(task.names, row.get("scores") or (), strict=False):
        if score is not None:
            numbers.append((f"{kind} of {name}", score, ""))
    if row.get("certified_radius") is not None:
        numbers.append(("certified radius", row["certified_radius"], shared["radius_unit"]))
    return words, numbers


def _own_code(hd: Any, text: str) -> Any:
    """A code of Medward's own for `text`, the same for the same text."""
    value = hashlib.sha256(text.encode()).hexdigest()[:12].upper()
    return hd.sr.CodedConcept(value=f"M-{value}", scheme_designator=SCHEME, meaning=text[:_LONGEST_MEANING])


def _unit(hd: Any, text: str) -> Any:
    """A unit in the words that the model's specification has for it, "" for none."""
    return _own_code(hd, text) if text else hd.sr.CodedConcept("1", "UCUM", "no units")
