"""DICOM studies: stored over to the guard (STOW-RS), or named and fetched from the site's own archive.

Both answer instance by instance. Unique identifiers stand in bodies and never in addresses, which logs keep.
Reference: DICOM PS3.18, sec. 10.5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medward.guard.intake.instance import LONGEST_UID
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Answer, Principal
from medward.integrations.clinical.dicomweb_source import DicomWebSource, NotInSource, StudyName
from medward.integrations.clinical.multipart_related import DICOM_PART, RELATED, related_boundary, related_files
from medward.integrations.serving.body import CLOSE, media_type
from medward.integrations.serving.clinical_forms import PLAIN_JSON, ClinicalForms
from medward.integrations.serving.kserve_v1 import ROWWISE
from medward.integrations.serving.predictions import client_view, commissioning_header
from medward.integrations.serving.problems import mistake_sentence, problem_responses
from medward.integrations.serving.service import Service
from medward.integrations.serving.store_response import DICOM_JSON, store_content
from medward.integrations.serving.study_instances import FailedInstance, InstanceReader, NothingRead, StudyRead

STORE_PATH, SOURCE_PATH = "/dicom-web/studies", "/v1/predict/study"
Uid = Annotated[str, Field(max_length=LONGEST_UID, pattern=r"^[0-9]+(\.[0-9]+)+$")]
LONGEST_NAME = 1024  # bytes of a body that names a study
NOT_ALL, NONE_READ = 202, 409
"""Statuses of STOW-RS where some instances failed, and where all did."""


class StudyPredictions(BaseModel):
    """An answer for each instance that was read, by its SOP instance UID, and why the `failed` ones have none.

    What a row holds is what ``/v1/predict`` says of it, and so is what all share.
    """

    model_config = ConfigDict(extra="allow")

    study: str
    instances: list[dict[str, Any]]
    failed: list[dict[str, Any]]


def store_router(
    service: Service, caller: Callable[..., Awaitable[Principal]], forms: ClinicalForms, *, resize: bool
) -> APIRouter:
    """The route of STOW-RS; `caller` says who asks. Nothing that comes is kept."""
    routes, limits, reader = APIRouter(), service.limits, instance_reader(service, resize=resize)
    asking = Depends(caller)

    @routes.post(
        STORE_PATH,
        summary="Classify DICOM instances (STOW-RS)",
        response_class=Response,
        responses={
            **problem_responses(400, 401, 403, 406, 408, 413, 415, 422, 429, 500, 503),
            **{status: {"content": study_schemas(forms, DICOM_JSON)} for status in (200, NOT_ALL, NONE_READ)},
        },
        openapi_extra={"requestBody": {"required": True, "content": {RELATED: {"schema": {"type": "string"}}}}},
    )
    async def store(request: Request, principal: Principal = asking) -> Response:
        form = forms.wanted(request, DICOM_JSON)
        if media_type(request) != RELATED:
            raise HTTPException(415, f'send {RELATED}; type="{DICOM_PART}"')
        content_type = request.headers["content-type"]
        related_boundary(content_type)
        async with service.admitted(request, principal):
            body = await request.body()
            files = related_files(content_type, body, limits.rows)
            del body
            return await answered_study(request, principal, files, service, reader, forms, form)

    return routes


class NamedStudy(BaseModel):
    """What is to be fetched from the archive: a study, a series of it, or one instance of that."""

    model_config = ConfigDict(extra="forbid")

    study: Uid
    series: Uid | None = None
    instance: Uid | None = None


def source_router(
    service: Service,
    caller: Callable[..., Awaitable[Principal]],
    forms: ClinicalForms,
    source: DicomWebSource,
    *,
    resize: bool,
) -> APIRouter:
    """The route for studies of `source`; `caller` says who asks."""
    routes, limits, reader = APIRouter(), service.limits, instance_reader(service, resize=resize)
    asking = Depends(caller)

    @routes.post(
        SOURCE_PATH,
        summary="Classify a study of the archive",
        response_class=Response,
        responses={
            **problem_responses(400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 500, 503),
            **{status: {"content": study_schemas(forms)} for status in (200, NOT_ALL, NONE_READ)},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {PLAIN_JSON: {"schema": NamedStudy.model_json_schema()}},
            }
        },
    )
    async def predict_study(request: Request, principal: Principal = asking) -> Response:
        form = forms.wanted(request)
        async with service.admitted(request, principal):
            name = await _study_name(request)
            try:
                files = await source.retrieve(name, limits.rows, request.state.arrival.add)
            except NotInSource as absent:
                raise HTTPException(404, str(absent)) from None
            return await answered_study(request, principal, files, service, reader, forms, form, retrieved=True)

    return routes


async def _study_name(request: Request) -> StudyName:
    """What the body of `request` names, which is short."""
    if media_type(request) != PLAIN_JSON:
        raise HTTPException(415, f'send {PLAIN_JSON} {{"study": UID}}')
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_NAME:
            raise HTTPException(413, f"the body names a study in at most {LONGEST_NAME} bytes", CLOSE)
    try:
        named = NamedStudy.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise HTTPException(400 if first["type"] == "json_invalid" else 422, mistake_sentence(first)) from None
    return StudyName(study=named.study, series=named.series or "", instance=named.instance or "")


def instance_reader(service: Service, *, resize: bool) -> InstanceReader:
    """What reads files for the model of `service`."""
    spec, policy = service.guard.model.spec, service.guard.policy
    known = isinstance(spec.task, WrittenReport) and bool(policy.privacy.identifiers)
    return InstanceReader(spec=spec, limits=service.limits, resize=resize, known=known)


async def answered_study(
    request: Request,
    principal: Principal,
    files: list[bytes],
    service: Service,
    reader: InstanceReader,
    forms: ClinicalForms,
    form: str,
    *,
    retrieved: bool = False,
) -> Response:
    """Ask about `files`, instances of one study, and answer in `form`."""
    kept: list[StudyRead] = []
    reading = forms.reading(form, reader.reading(files, kept.append, retrieved=retrieved))
    try:
        answer, received = await service.answer_received(request, principal, reading)
    except NothingRead as nothing:
        return _response(form, None, None, nothing.failed)
    (read,) = kept
    if form in (PLAIN_JSON, DICOM_JSON):
        return _response(form, answer, read, read.failed)
    response = await forms.response(form, answer, received)
    response.status_code = NOT_ALL if read.failed else 200
    return response


def study_schemas(forms: ClinicalForms, *more: str) -> dict[str, Any]:
    """The forms of an answer about a study, for OpenAPI."""
    plain = {PLAIN_JSON: {"schema": StudyPredictions.model_json_schema()}}
    return plain | {kind: {"schema": {"type": "object"}} for kind in more} | forms.schemas


def _response(
    form: str, answer: Answer | None, read: StudyRead | None, failed: tuple[FailedInstance, ...]
) -> JSONResponse:
    """What was answered and what failed, in DICOM's JSON or, for all other forms, in plain JSON."""
    status = 200 if not failed else NONE_READ if answer is None else NOT_ALL
    headers = {} if answer is None else commissioning_header(answer)
    if form == DICOM_JSON:
        return JSONResponse(store_content(answer, read, failed), status, headers, DICOM_JSON)
    content = study_predictions(answer, read, failed).model_dump(mode="json")
    return JSONResponse(content, status, headers)


def study_predictions(
    answer: Answer | None, read: StudyRead | None, failed: tuple[FailedInstance, ...]
) -> StudyPredictions:
    """The answer by instance."""
    told = [{"place": each.place, "instance": each.sop_instance, "failure": each.failure} for each in failed]
    if answer is None or read is None:
        return StudyPredictions(study="", instances=[], failed=told)
    shared = client_view(answer, answer.spec).model_dump(mode="json", exclude_unset=True)
    rows = [
        {"instance": instance.sop_instance, **row} for instance, row in zip(read.instances, answer.rows(), strict=True)
    ]
    return StudyPredictions(
        study=read.received.study,
        instances=rows,
        failed=told,
        **{name: value for name, value in shared.items() if name not in ROWWISE},
    )
