"""The forms of an answer that hospitals read, by the header ``Accept``: FHIR R4 and DICOM structured reports.

One route has all forms, for that is what ``Accept`` is for: whoever can ask can ask for another form. JSON is what is
answered to whoever names neither, or something else. Reference: RFC 9110, sec. 12.5.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import model_intake
from medward.guard.intake.instance import DicomInstance, dicom_instance
from medward.guard.spec import ModelSpec
from medward.guard.tasks.opaque import Opaque
from medward.guard.types import Answer
from medward.integrations.clinical.dicom_report import check_reportable, dicom_report
from medward.integrations.clinical.fhir_report import fhir_bundle
from medward.integrations.clinical.fhir_settings import FhirSettings
from medward.integrations.clinical.fhir_terms import FHIR_JSON
from medward.integrations.serving.predictions import commissioning_header
from medward.integrations.serving.service import Received

PLAIN_JSON, DICOM_SR = "application/json", "application/dicom"
FHIR_VERSION = "4.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalForms:
    """The forms in which answers of the model of `spec` may leave besides JSON."""

    spec: ModelSpec
    settings: FhirSettings

    @property
    def types(self) -> tuple[str, ...]:
        """The media types that may be accepted, that of JSON first."""
        if isinstance(self.spec.task, Opaque):
            return (PLAIN_JSON,)
        try:
            model_intake(self.spec)
        except MedwardError:
            return (PLAIN_JSON, FHIR_JSON)
        return (PLAIN_JSON, FHIR_JSON, DICOM_SR)

    @property
    def schemas(self) -> dict[str, Any]:
        """The forms besides JSON, for OpenAPI."""
        whole = {FHIR_JSON: {"type": "object"}, DICOM_SR: {"type": "string", "format": "binary"}}
        return {kind: {"schema": whole[kind]} for kind in self.types[1:]}

    def wanted(self, request: Request, *more: str) -> str:
        """The form that `request` accepts, the first of `more` where it says none; 406 for one there is not."""
        known = dict.fromkeys((*more, PLAIN_JSON, FHIR_JSON, DICOM_SR))
        form = preferred_type(request.headers.get("accept", ""), [*known])
        if form not in (*self.types, *more):
            raise HTTPException(406, f"answers of {self.spec.name} have no such form; accept {', '.join(self.types)}")
        return form

    def reading(self, form: str, read: Callable[[], Received]) -> Callable[[], Received]:
        """`read`, but what no `form` can be made of is refused before anything is asked."""
        if form != DICOM_SR:
            return read

        def checked() -> Received:
            received = read()
            check_reportable(self.spec.task, received.instances)
            return received

        return checked

    async def response(self, form: str, answer: Answer, received: Received, study: str = "") -> Response:
        """`answer` in `form`; `study` is what the request says that its rows belong to."""
        headers = commissioning_header(answer)
        if form == DICOM_SR:
            instances = check_reportable(self.spec.task, received.instances)
            file = await anyio.to_thread.run_sync(lambda: dicom_report(answer, instances, version=received.version))
            return Response(file, media_type=DICOM_SR, headers=headers)
        bundle = fhir_bundle(
            answer,
            at=datetime.now(UTC),
            version=received.version,
            settings=self.settings,
            instances=received.instances,
            study=study or next(iter(received.studies), ""),
        )
        media = f"{FHIR_JSON}; fhirVersion={FHIR_VERSION}"
        return JSONResponse(bundle, media_type=media, headers=headers)


def preferred_type(accept: str, offered: Sequence[str]) -> str:
    """Which of the types `offered` the header `accept` likes best; the first of them where it says none."""
    liked: list[tuple[float, str]] = []
    for each in accept.lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        weights = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
        try:
            weight = float(weights[0]) if weights else 1.0
        except ValueError:
            weight = 0.0
        name = offered[0] if name in ("*/*", "application/*") else name
        if name in offered and weight > 0:
            liked.append((weight, name))
    return max(liked, key=lambda pair: pair[0], default=(0.0, offered[0]))[1]


def file_instances(files: Sequence[bytes]) -> tuple[DicomInstance | None, ...]:
    """The DICOM instance that each of `files` is, None for other images; a file that cannot be read is named."""
    found = []
    for index, file in enumerate(files):
        try:
            found.append(dicom_instance(file))
        except MedwardError as error:
            raise MedwardError(f"image {index}: {error}") from None
    return tuple(found)
