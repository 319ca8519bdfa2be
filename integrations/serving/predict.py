"""Medward's own route: ``POST /v1/predict`` takes rows as JSON or as arrays, and image files, one or several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, create_model

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import decode_batch, file_pictures, model_intake
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Principal
from medward.integrations.serving.array_bodies import array_rows, array_types, read_array_body
from medward.integrations.serving.body import media_type, parse_body, read_json
from medward.integrations.serving.clinical_forms import PLAIN_JSON, ClinicalForms, file_instances
from medward.integrations.serving.forms import FIELDS, STUDY_FIELD, one_study, read_form
from medward.integrations.serving.predictions import (
    AnyPrediction,
    client_view,
    commissioning_header,
    prediction_type,
)
from medward.integrations.serving.problems import problem_responses
from medward.integrations.serving.report_events import EVENT_STREAM, ReportEvents, wants_events
from medward.integrations.serving.rows import (
    batch_schemas,
    either_schema,
    named_inputs,
    nested_numbers_type,
    object_schema,
    rows_type,
)
from medward.integrations.serving.service import LONGEST_STUDY, Received, Service, Study

RASTER_TYPES, DICOM_TYPE = ("image/png", "image/jpeg", "image/tiff"), "application/dicom"
FILE_TYPES = (*RASTER_TYPES, DICOM_TYPE)


def predict_router(
    service: Service, caller: Callable[..., Awaitable[Principal]], forms: ClinicalForms, *, resize: bool
) -> APIRouter:
    """The route, for the model and limits of `service`; `caller` says who asks, `forms` what else may be accepted."""
    routes = APIRouter()
    spec, limits = service.guard.model.spec, service.limits
    body_type, wanted, arrays = request_type(spec), wanted_form(spec), array_types(spec)
    report = isinstance(spec.task, WrittenReport)
    if report:  # needs the extra `text`, as its filter does
        from medward.guard.intake.known_patients import known_patients
    asking = Depends(caller)

    @routes.post(
        "/v1/predict",
        summary="Classify rows or images",
        response_model=prediction_type(spec, certified=service.guard.policy.certify.enabled),
        response_model_exclude_unset=True,
        responses=_responses(report, forms.schemas),
        openapi_extra={"requestBody": {"required": True, "content": _content(spec, limits.rows)}},
    )
    async def predict(
        request: Request, response: Response, principal: Principal = asking, study: Study = ""
    ) -> AnyPrediction | Response:
        form = forms.wanted(request)
        async with service.admitted(request, principal):
            read = forms.reading(form, await received(request, study, form))
            if report and wants_events(request):
                account = "/".join(principal)
                with ExitStack() as held:
                    held.enter_context(service.pool.place(account))
                    stream = await service.stream(request, principal, read, study)
                    return ReportEvents(stream, service, request, account, held.pop_all())
            answer, found = await service.answer_received(request, principal, read, study)
        if form != PLAIN_JSON:
            return await forms.response(form, answer, found, study)
        response.headers.update(commissioning_header(answer))
        return client_view(answer, spec)

    async def received(request: Request, study: str, form: str) -> Callable[[], Received]:
        """Take in the body, to be answered in `form`; what is returned decodes it."""
        kind = media_type(request)
        if kind == "application/json":
            body = await read_json(request, spec, limits)
            return lambda: Received(_inputs(parse_body(body, body_type, spec, limits.rows, wanted=wanted), spec))
        if kind in arrays:
            body = await read_array_body(request, kind, spec, limits)
            return lambda: Received(array_rows(body, kind, spec, limits.rows))
        if kind != "multipart/form-data" and kind not in FILE_TYPES:
            said = ", ".join(("application/json", *arrays, *FILE_TYPES))
            raise HTTPException(415, f"send {said}, or multipart/form-data with such files")
        _files_or_415(spec)
        if kind != "multipart/form-data":
            files = [await request.body()]
            return lambda: decoded(files, form)
        sent = await read_form(request, limits.rows, limits.body_bytes)
        said = one_study(study, sent.study)
        return lambda: decoded(sent.files, form, said)

    def decoded(files: Sequence[bytes], form: str, said: str = "") -> Received:
        """The rows that `files` show, the studies that they name, and what makes their own images."""
        rows, studies = decode_batch(files, spec, pixels=limits.pixels, resize=resize)
        known = known_patients(files) if report and service.guard.policy.privacy.identifiers else ()
        studies = frozenset({said}) if said else studies
        instances = file_instances(files) if form != PLAIN_JSON else ()
        pictures = file_pictures(files, spec, pixels=limits.pixels, resize=resize)
        return Received(rows, studies, pictures, known, instances)

    return routes


def _responses(report: bool, others: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What the route may answer besides a prediction, for OpenAPI: `others` by type, and of reports their events."""
    found = problem_responses(400, 401, 403, 406, 408, 413, 415, 422, 429, 500, 503)
    events = {EVENT_STREAM: {"schema": {"type": "string"}}} if report else {}
    return {**found, 200: {"content": {**others, **events}}}


def request_type(spec: ModelSpec) -> type[BaseModel]:
    """``{"inputs": [...]}`` nested as a batch of `spec`, or named rows; sizes and range are left to `spec.check`."""
    kind = nested_numbers_type(spec)
    if spec.columns:
        return rows_type(kind)
    return create_model("PredictRequest", __config__=ConfigDict(extra="forbid"), inputs=(kind, ...))


def wanted_form(spec: ModelSpec) -> str:
    """What to send to the model of `spec`, in words."""
    if spec.columns:
        return f'send {{"rows": [...]}}, objects with the columns {", ".join(each.name for each in spec.columns)}'
    said = f'send {{"inputs": [...]}}, {spec.kind}s of shape {spec.row_shape}'
    try:
        model_intake(spec)
    except MedwardError:
        return said
    return f"{said}, or an image file"


def _inputs(body: Any, spec: ModelSpec) -> Any:
    """The rows in a parsed body."""
    return named_inputs(body, spec) if spec.columns else body.inputs


def _files_or_415(spec: ModelSpec) -> None:
    try:
        model_intake(spec)
    except MedwardError as error:
        raise HTTPException(415, str(error)) from None


def _content(spec: ModelSpec, rows: int) -> dict[str, Any]:
    """What the body may be, for OpenAPI."""
    body = either_schema([object_schema(key, schema) for key, schema in batch_schemas(spec, rows).items()])
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = {"application/json": {"schema": body}} | dict.fromkeys(array_types(spec), binary)
    try:
        model_intake(spec)
    except MedwardError:
        return content
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": rows,
    }
    form: dict[str, Any] = {"type": "object", "additionalProperties": False}
    form["anyOf"] = [{"required": [name]} for name in FIELDS]
    study = {"type": "string", "maxLength": LONGEST_STUDY}
    form["properties"] = {**dict.fromkeys(FIELDS, files), STUDY_FIELD: study}
    types = dict.fromkeys(FIELDS, ", ".join(RASTER_TYPES)) | {"dicom": DICOM_TYPE}
    kinds = {name: {"contentType": types[name]} for name in FIELDS}
    content["multipart/form-data"] = {"schema": form, "encoding": kinds}
    return content | dict.fromkeys(FILE_TYPES, binary)
