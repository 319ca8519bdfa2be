"""KServe's first protocol: rows in as ``instances``, ``predictions`` out, in the same order.

A row that is withheld is null in `predictions`, so that nothing can be read of it by mistake, and of others only what
leaves is there: at level ``label`` no ``scores``. Reference: kserve.github.io, data plane, v1 protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Discriminator, Tag, create_model

from medward.guard.spec import ModelSpec
from medward.guard.types import Answer, Principal
from medward.integrations.serving.body import media_type, parse_body, read_json
from medward.integrations.serving.health import Reachable
from medward.integrations.serving.predictions import AnsweredLevel, client_view, commissioning_header
from medward.integrations.serving.problems import problem_responses
from medward.integrations.serving.rows import (
    batch_schemas,
    either_schema,
    named_rows_type,
    nested_numbers_type,
    object_schema,
    refuse_numbers,
)
from medward.integrations.serving.service import Received, Service, Study, model_name

ROWWISE = (
    "labels", "indices", "scores", "values", "outputs", "texts", "levels",
    "certified", "certified_radius", "certified_findings", "certified_interval",
)  # fmt: skip
"""What of an answer has a value for each row."""
SINGULAR = {"labels": "label", "indices": "index", "values": "value", "outputs": "output", "texts": "text"}


class Alive(BaseModel):
    """The server runs."""

    status: Literal["alive"] = "alive"


class ServedModels(BaseModel):
    """The names of the models, of which there is one."""

    models: list[str]


class ReadyModel(BaseModel):
    """The model can answer; a server whose model cannot answers 503 instead."""

    name: str
    ready: Literal[True] = True


class InstancePredictions(BaseModel):
    """An object for each instance with what leaves of its answer, or null where it is withheld; and what all share.

    `levels` says for each how much of the model's answer left, as in ``/v1/predict``.
    """

    model_config = ConfigDict(extra="allow")

    predictions: list[dict[str, Any] | None]
    levels: list[AnsweredLevel]


def kserve_router(service: Service, caller: Callable[..., Awaitable[Principal]], reachable: Reachable) -> APIRouter:
    """The routes; `caller` says who asks, `reachable` whether the model can answer, which is open to probes."""
    routes = APIRouter()
    spec, limits = service.guard.model.spec, service.limits
    body_type, asking, path_name = instances_type(spec), Depends(caller), model_name(spec)

    def named(name: str) -> None:
        if name != spec.name:
            raise HTTPException(404, "no model of that name is served here")

    @routes.get("/", summary="Alive")
    async def alive() -> Alive:
        return Alive()

    @routes.get("/v1/models", summary="Models", responses=problem_responses(401, 403, 429), dependencies=[asking])
    async def models() -> ServedModels:
        return ServedModels(models=[spec.name])

    @routes.get("/v1/models/{name}", summary="Model ready", responses=problem_responses(404, 422, 503))
    async def ready(name: str = path_name) -> ReadyModel:
        named(name)
        await reachable()
        return ReadyModel(name=spec.name)

    @routes.post(
        "/v1/models/{name}:predict",
        summary="Classify instances",
        responses=problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503),
        openapi_extra={"requestBody": {"required": True, "content": _content(spec, limits.rows)}},
    )
    async def predict(
        request: Request,
        response: Response,
        name: str = path_name,
        principal: Principal = asking,
        study: Study = "",
    ) -> InstancePredictions:
        named(name)
        if media_type(request) not in ("", "application/json"):
            raise HTTPException(415, 'send application/json {"instances": [...]}; files go to /v1/predict')
        wanted = f'send {{"instances": [...]}}, {_form(spec)}'

        def read() -> Received:
            return Received(instance_rows(parse_body(raw, body_type, spec, limits.rows, wanted=wanted), spec))

        async with service.admitted(request, principal):
            raw = await read_json(request, spec, limits)
            answer = await service.answer(request, principal, read, study)
        response.headers.update(commissioning_header(answer))
        return instance_predictions(answer, spec)

    return routes


def instances_type(spec: ModelSpec) -> type[BaseModel]:
    """``{"instances": [...]}``: rows as numbers or, of a model with columns, as objects of them."""
    numbers: Any = nested_numbers_type(spec)
    kind: Any = numbers
    if spec.columns:
        kind = Annotated[
            Annotated[named_rows_type(), Tag("rows")] | Annotated[numbers, Tag("numbers")], Discriminator(_kind)
        ]
    return create_model("InstancesRequest", __config__=ConfigDict(extra="forbid"), instances=(kind, ...))


def instance_rows(body: Any, spec: ModelSpec) -> Any:
    """The rows in a parsed body."""
    if spec.columns and _kind(body.instances) == "numbers":
        refuse_numbers(spec)
    return body.instances


def _kind(instances: Any) -> str:
    return "rows" if isinstance(instances, list) and instances and isinstance(instances[0], dict) else "numbers"


def _form(spec: ModelSpec) -> str:
    if spec.columns:
        return f"objects with the columns {', '.join(each.name for each in spec.columns)}"
    return f"{spec.kind}s of shape {spec.row_shape}"


def instance_predictions(answer: Answer, spec: ModelSpec) -> InstancePredictions:
    """The predictions of `answer`, one for each row."""
    content = client_view(answer, spec).model_dump(mode="json", exclude_unset=True)
    levels = content["levels"]
    columns = [name for name in ROWWISE if name in content]
    shared = {name: value for name, value in content.items() if name not in ROWWISE}

    def told(row: int) -> dict[str, Any] | None:
        if levels[row] == "withheld":
            return None
        values = [(name, content[name][row]) for name in columns]
        return {_name(name, value): value for name, value in values if value is not None}

    predictions = [told(row) for row in range(len(levels))]
    return InstancePredictions(predictions=predictions, levels=levels, **shared)


def _name(name: str, value: Any) -> str:
    """What a value of one row is called: the labels of several findings stay plural."""
    if name == "labels" and not isinstance(value, str):
        return name
    return "level" if name == "levels" else SINGULAR.get(name, name)


def _content(spec: ModelSpec, rows: int) -> dict[str, Any]:
    """What the body may be, for OpenAPI."""
    forms = [object_schema("instances", schema) for schema in batch_schemas(spec, rows).values()]
    return {"application/json": {"schema": either_schema(forms)}}
