"""The Open Inference Protocol, version 2 (KServe, Triton, MLServer), over HTTP: JSON, and tensors as bytes.

A tensor's values are the model's own input values, whatever its datatype: UINT8 saves bytes and scales
nothing. A body without a Content-Type is JSON, as the protocol says. What an answer holds, and what of it is null:
`output_tensors`. Reference: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md, and
Triton's extensions for binary tensors, the model configuration, statistics and the repository index.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from medward.guard.answering import RADIUS_UNITS
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.spec import ModelSpec
from medward.guard.types import Answer, Principal
from medward.integrations.serving.binary_tensors import BINARY, JSON_LENGTH, json_length, split_body
from medward.integrations.serving.body import parse_body, read_json
from medward.integrations.serving.health import Reachable, Ready
from medward.integrations.serving.model_configuration import ModelConfiguration, model_configuration
from medward.integrations.serving.model_statistics import ModelStatistics, ServedStatistics, model_statistics
from medward.integrations.serving.output_tensors import (
    OutputTensor,
    TensorMetadata,
    answer_tensors,
    encoded_outputs,
    output_metadata,
)
from medward.integrations.serving.predictions import commissioning_header
from medward.integrations.serving.problems import problem_responses
from medward.integrations.serving.service import Received, Service, Study, model_name
from medward.integrations.serving.tensors import InferRequest, tensor_form

EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics"]


class InferResponse(BaseModel):
    """`id` repeats the request's; `parameters` holds `answer`, the id in the audit log, and `score_kind`.

    Of an answer of commissioning `parameters` also holds `commissioning`: that it is for testing only, and what is
    strange. `not_honoured` names what the client asked of the queue without getting it.
    """

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, str]
    outputs: list[OutputTensor]


class ModelMetadata(BaseModel):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class IndexRequest(BaseModel):
    """Whether only models that are ready are asked for."""

    model_config = ConfigDict(extra="forbid")

    ready: bool = False


class IndexedModel(BaseModel):
    """A model of the repository, and whether it can answer now; `reason` says why not, where it cannot."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = ""


def inference_router(
    service: Service,
    caller: Callable[..., Awaitable[Principal]],
    watcher: Callable[..., Awaitable[Principal]],
    reachable: Reachable,
) -> APIRouter:
    """The routes that need a key, those of counters one of scope metrics; health is `health.health_router`.

    `reachable` tells whether the model can answer.
    """
    routes = APIRouter(prefix="/v2")
    spec, limits = service.guard.model.spec, service.limits
    path_name, asking, watching = model_name(spec), Depends(caller), Depends(watcher)
    given = output_metadata(spec, certified=service.guard.policy.certify.enabled)

    def named(name: str = path_name) -> None:
        if name != spec.name:
            raise HTTPException(404, "no model of that name is served here")

    def known_version(schema: dict[str, Any]) -> None:
        schema["enum"] = [service.version]

    path_version = Path(
        alias="version", description="The version that the metadata name.", json_schema_extra=known_version
    )

    def versioned(name: str = path_name, wanted: str = path_version) -> None:
        named(name)
        if wanted != service.version:
            raise HTTPException(404, f"{spec.name} is served in version {service.version} only")

    def probed(name: str = path_name, wanted: str = path_version) -> None:
        named(name)
        if wanted != service.version:  # which one it is only who has a key may know
            raise HTTPException(404, "no such version is served here; the model's metadata name it")

    served = (("/models/{name}", Depends(named)), ("/models/{name}/versions/{version}", Depends(versioned)))

    @routes.get("", summary="Server metadata", responses=problem_responses(401, 403, 429), dependencies=[asking])
    async def server() -> ServerMetadata:
        return ServerMetadata(name="medward", version=service.version, extensions=EXTENSIONS)

    @routes.post(
        "/repository/index",
        summary="Which models are served",
        responses=problem_responses(400, 401, 403, 408, 413, 415, 422, 429),
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": IndexRequest.model_json_schema()}}}},
        dependencies=[asking],
    )
    async def index(request: Request) -> list[IndexedModel]:
        raw = await read_json(request, spec, limits)
        asked = parse_body(raw, IndexRequest, spec, 0) if raw else IndexRequest()
        try:
            await reachable()
            state = IndexedModel(name=spec.name, version=service.version, state="READY")
        except (UnavailableError, IntegrityError, HTTPException) as error:
            reason = error.detail if isinstance(error, HTTPException) else "a part the guard depends on does not answer"
            state = IndexedModel(name=spec.name, version=service.version, state="UNAVAILABLE", reason=reason)
        return [] if asked.ready and state.state != "READY" else [state]

    async def all_statistics() -> ServedStatistics:
        return ServedStatistics(model_stats=[statistics_now()])

    async def metadata() -> ModelMetadata:
        taken = TensorMetadata(name="inputs", datatype="FP32", shape=[-1, *spec.row_shape])
        return ModelMetadata(
            name=spec.name, versions=[service.version], platform="medward", inputs=[taken], outputs=given
        )

    async def configuration() -> ModelConfiguration:
        return model_configuration(spec, given, limits.rows)

    def statistics_now() -> ModelStatistics:
        return model_statistics(service.metrics.registry, spec.name, service.version)

    async def ready() -> Ready:
        await reachable()
        return Ready()

    async def infer(request: Request, principal: Principal = asking, study: Study = "") -> Response:
        length = json_length(request)
        asked: InferRequest | None = None
        wanted: dict[str, bool] = {}

        def read() -> Received:
            nonlocal asked, wanted
            text, binary = split_body(raw, length)
            asked = parse_body(text, InferRequest, spec, limits.rows, wanted=tensor_form(spec))
            if asked.model_name not in (None, spec.name):
                raise MedwardError("model_name: is another than in the path; leave it out")
            wanted = asked.wanted([each.name for each in given])
            return Received(asked.inputs[0].array(spec, limits.rows, binary))

        async with service.admitted(request, principal):
            raw = await read_json(request, spec, limits)
            answer, received = await service.answer_received(request, principal, read, study)
        assert asked is not None
        outputs, binary = encoded_outputs(answer_tensors(answer, spec), wanted)
        unhonoured = {"not_honoured": ", ".join(asked.unhonoured)} if asked.unhonoured else {}
        said = {"answer": answer.id, "score_kind": answer.output, **_radius(answer), **_commissioned(answer)}
        told = InferResponse(
            model_name=spec.name,
            model_version=received.version,
            id=answer.id if asked.id is None else asked.id,
            parameters=said | unhonoured,
            outputs=outputs,
        )
        return _encoded(told, binary, commissioning_header(answer), split=any(wanted.values()))

    counted = problem_responses(401, 403, 404, 422, 429)
    if spec.name != "stats":  # whose metadata stand there
        routes.get(
            "/models/stats",
            summary="Counters of all models, with a key of scope metrics",
            responses=problem_responses(401, 403, 429),
            response_model_exclude_none=True,
            dependencies=[watching],
        )(all_statistics)
    for path, known in served:
        routes.get(path, summary="Model metadata", responses=counted, dependencies=[asking, known])(metadata)
        routes.get(
            f"{path}/config", summary="Triton's model configuration", responses=counted, dependencies=[asking, known]
        )(configuration)
        routes.get(
            f"{path}/stats",
            summary="Counters of the model, with a key of scope metrics",
            responses=counted,
            response_model_exclude_none=True,
            dependencies=[watching, known],
        )(all_statistics)
        routes.post(
            f"{path}/infer",
            summary="Classify one tensor",
            response_model=InferResponse,
            responses=problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503) | _BINARY_ANSWER,
            openapi_extra={"requestBody": {"required": True, "content": _content(spec)}},
            dependencies=[asking, known],
        )(infer)
    routes.get(
        "/models/{name}/versions/{version}/ready",
        summary="Model ready",
        responses=problem_responses(404, 422, 503),
        dependencies=[Depends(probed)],
    )(ready)
    return routes


_BINARY_SCHEMA = {"schema": {"type": "string", "format": "binary"}}
_BINARY_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {BINARY: _BINARY_SCHEMA}}}


def _content(spec: ModelSpec) -> dict[str, Any]:
    """What the body of a request may be, for OpenAPI."""
    example = {"name": "inputs", "shape": [1, *spec.row_shape], "datatype": "FP32"}
    example["data"] = [spec.low or 0.0] * math.prod(spec.shape)
    schema = inline_schema(InferRequest.model_json_schema())
    return {"application/json": {"schema": schema, "example": {"inputs": [example]}}, BINARY: _BINARY_SCHEMA}


def _encoded(told: InferResponse, binary: bytes, headers: dict[str, str], *, split: bool) -> Response:
    """The response: JSON alone or, where it is `split`, JSON and the bytes of its tensors behind it."""
    response = JSONResponse(told.model_dump(mode="json", exclude_unset=True), headers=headers)
    if not split:
        return response
    text = bytes(response.body)
    return Response(text + binary, media_type=BINARY, headers=headers | {JSON_LENGTH: str(len(text))})


def _radius(answer: Answer) -> dict[str, str]:
    """The radius that `certified` is about, in words."""
    found = answer.certified
    return {} if found is None else {"radius": f"{found.asked:g} {RADIUS_UNITS[answer.spec.modality]}"}


def _commissioned(answer: Answer) -> dict[str, str]:
    """The mark of an answer of commissioning, whose protocol has texts for parameters only."""
    found = answer.commissioning
    if found is None:
        return {}
    said = "; ".join(found.notes) or ("nothing is strange" if found.compared else "too few different rows so far")
    return {"commissioning": f"for testing only until {found.until}, {found.left} answers left: {said}"}


def inline_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema without ``$defs``, each reference replaced by what it names, for use inside OpenAPI."""
    definitions = schema.get("$defs", {})

    def expand(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return expand(definitions[node["$ref"].rpartition("/")[2]])
            return {key: expand(value) for key, value in node.items() if key != "$defs"}
        return [expand(each) for each in node] if isinstance(node, list) else node

    expanded: dict[str, Any] = expand(schema)
    return expanded
