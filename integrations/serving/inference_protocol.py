"""The Open Inference Protocol, version 2 (KServe, Triton, MLServer), over HTTP and JSON.

A tensor's values are the model's own input values, whatever its datatype: UINT8 saves bytes and scales
nothing. Where a score does not leave, `scores` holds null, which clients that read into NumPy see as NaN; a
withheld label is -1; `levels` names the reason the client may know. Where the policy has answers certified, `certified`
is false for what is not and `certified_radius` null where it is withheld. Reference:
github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field, JsonValue

from medward.guard.answering import RADIUS_UNITS
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import WITHHELD_DECISION
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.tasks.report_reader import Mention
from medward.guard.types import Answer, Array, Principal
from medward.integrations.serving.body import media_type, parse_body, read_json
from medward.integrations.serving.predictions import commissioning_header
from medward.integrations.serving.problems import problem_responses
from medward.integrations.serving.rows import refuse_numbers
from medward.integrations.serving.service import Received, Service, Study, model_name

_DTYPES = {
    "FP32": np.float32, "FP64": np.float64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8,
}  # fmt: skip
Datatype = Literal["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8"]
Parameters = dict[str, JsonValue]


class InputTensor(BaseModel):
    """Values in row-major order, flat or nested as `shape` says."""

    name: Literal["inputs"]
    shape: Annotated[list[Annotated[int, Field(ge=1, strict=True)]], Field(min_length=1, max_length=8, fail_fast=True)]
    datatype: Datatype
    data: Annotated[list[JsonValue], Field(fail_fast=True)]
    parameters: Parameters = {}

    def array(self, spec: ModelSpec, rows: int) -> Array:
        """The tensor, of its declared type and shape, or what is wrong with it.

        Nothing is built before sizes and types are known to be right: NumPy would make room for the longest
        of many strings, once for each.
        """
        refuse_numbers(spec)
        if self.shape[1:] != [*spec.row_shape]:
            raise MedwardError(
                f"inputs: expected shape (n >= 1, {', '.join(map(str, spec.row_shape))}), got {self.shape}"
            )
        if self.shape[0] > rows:
            raise MedwardError(f"inputs: at most {rows} rows per request, got {self.shape[0]}")
        values = self._flat()
        dtype = np.dtype(_DTYPES[self.datatype])
        kinds = {int, float} if dtype.kind == "f" else {int}
        if foreign := {*map(type, values)} - kinds:
            names = ", ".join(sorted(kind.__name__ for kind in foreign))
            raise MedwardError(f"inputs: datatype {self.datatype} cannot hold data of type {names}")
        outside = MedwardError(f"inputs: data has values outside the range of {self.datatype}")
        try:
            array: NDArray[Any] = np.array(values, dtype=np.float64 if dtype.kind == "f" else np.int64)
        except OverflowError:
            raise outside from None
        if dtype.kind != "f" and (array.astype(dtype) != array).any():
            raise outside
        return array.reshape(self.shape)

    def _flat(self) -> list[Any]:
        """`data` without its nesting, which must be none or that of `shape`."""
        values: list[Any] = self.data
        sizes = self.shape if list in map(type, values) else [math.prod(self.shape)]
        for depth, size in enumerate(sizes):
            lists = [values] if depth == 0 else values
            if any(type(each) is not list or len(each) != size for each in lists):
                raise MedwardError(f"inputs: data does not fit shape {self.shape}")
            values = list(chain.from_iterable(lists))
        return values


class RequestedOutput(BaseModel):
    """The name of an output the client wants."""

    name: Literal["scores", "labels", "texts", "levels", "certified", "certified_radius"]
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """One tensor in; `outputs` narrows what comes back, absent means all."""

    id: Annotated[str, Field(max_length=128)] | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1, fail_fast=True)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=5, fail_fast=True)] | None = None


class OutputTensor(BaseModel):
    """Flat, row-major."""

    name: str
    shape: list[int]
    datatype: str
    data: list[bool] | list[float | None] | list[int] | list[str]


class InferResponse(BaseModel):
    """`id` repeats the request's; `parameters` holds `answer`, the id in the audit log, and `score_kind`.

    Of an answer of commissioning `parameters` also holds `commissioning`: that it is for testing only, and what is
    strange.
    """

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, str]
    outputs: list[OutputTensor]


class TensorMetadata(BaseModel):
    """-1 in `shape` is the batch axis."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}


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


def inference_router(service: Service, caller: Callable[..., Awaitable[Principal]]) -> APIRouter:
    """The routes that need a key; health is `health.router`."""
    routes = APIRouter(prefix="/v2")
    spec, limits = service.guard.model.spec, service.limits
    asking = Depends(caller)
    path_name = model_name(spec)
    example = {"name": "inputs", "shape": [1, *spec.row_shape], "datatype": "FP32"}
    example["data"] = [spec.low or 0.0] * math.prod(spec.shape)
    body = {"schema": inline_schema(InferRequest.model_json_schema()), "example": {"inputs": [example]}}

    def named(name: str) -> None:
        if name != spec.name:
            raise HTTPException(404, "no model of that name is served here")

    @routes.get("", summary="Server metadata", responses=problem_responses(401, 403), dependencies=[asking])
    async def server() -> ServerMetadata:
        return ServerMetadata(name="medward", version=service.version, extensions=[])

    @routes.get(
        "/models/{name}",
        summary="Model metadata",
        responses=problem_responses(401, 403, 404, 422),
        dependencies=[asking],
    )
    async def metadata(name: str = path_name) -> ModelMetadata:
        named(name)
        return ModelMetadata(
            name=spec.name,
            versions=[service.version],
            platform="medward",
            inputs=[TensorMetadata(name="inputs", datatype="FP32", shape=[-1, *spec.row_shape])],
            outputs=output_metadata(spec, certified=service.guard.policy.certify.enabled),
        )

    @routes.post(
        "/models/{name}/infer",
        summary="Classify one tensor",
        responses=problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503),
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": body}}},
    )
    async def infer(
        request: Request,
        response: Response,
        name: str = path_name,
        principal: Principal = asking,
        study: Study = "",
    ) -> InferResponse:
        named(name)
        if media_type(request) != "application/json":
            raise HTTPException(415, "send application/json; the binary tensor extension is not offered")
        asked: InferRequest | None = None

        def read() -> Received:
            nonlocal asked
            asked = parse_body(raw, InferRequest, spec, limits.rows)
            return Received(asked.inputs[0].array(spec, limits.rows))

        async with service.admitted(request, principal):
            raw = await read_json(request, spec, limits)
            answer = await service.answer(request, principal, read, study)
        response.headers.update(commissioning_header(answer))
        assert asked is not None
        tensors = answer_tensors(answer, spec)
        wanted = [output.name for output in asked.outputs] if asked.outputs else list(tensors)
        if missing := [each for each in wanted if each not in tensors]:
            raise MedwardError(f"outputs: this model gives {', '.join(tensors)}, and no {missing[0]}")
        return InferResponse(
            model_name=spec.name,
            model_version=service.version,
            id=answer.id if asked.id is None else asked.id,
            parameters={"answer": answer.id, "score_kind": answer.output, **_radius(answer), **_commissioned(answer)},
            outputs=[tensors[each] for each in wanted],
        )

    return routes


def output_metadata(spec: ModelSpec, *, certified: bool = False) -> list[TensorMetadata]:
    """What each output tensor holds; clients who apply a threshold to the scores themselves decide as the labels do."""
    task, levels = spec.task, TensorMetadata(name="levels", datatype="BYTES", shape=[-1])
    if isinstance(task, Opaque):
        return [TensorMetadata(name="scores", datatype="FP64", shape=[-1]), levels]
    if isinstance(task, WrittenReport):
        said: Parameters = {"findings": [*task.findings], "values": {str(each.value): each.name for each in Mention}}
        labels_of = TensorMetadata(name="labels", datatype="INT64", shape=[-1, len(task.findings)], parameters=said)
        return [TensorMetadata(name="texts", datatype="BYTES", shape=[-1]), labels_of, levels]
    proven = []
    if certified:
        radii = [-1, len(task.findings)] if isinstance(task, Multilabel) else [-1]
        unit: Parameters = {"radius_unit": RADIUS_UNITS[spec.modality]}
        proven = [
            TensorMetadata(name="certified", datatype="BOOL", shape=[-1]),
            TensorMetadata(name="certified_radius", datatype="FP64", shape=radii, parameters=unit),
        ]
    scores = TensorMetadata(name="scores", datatype="FP64", shape=[-1, len(task.names)])
    labels, parameters = [-1], dict[str, JsonValue]()
    if isinstance(task, Multilabel):
        labels = [-1, len(task.findings)]
        parameters = {"findings": [*task.findings], "thresholds": [*task.thresholds]}
    elif isinstance(task, Regression):
        parameters = {"quantity": task.quantity, "unit": task.unit, "tolerance": task.tolerance}
        parameters["cut_points"] = [*task.cut_points]
    elif isinstance(task, Classification):
        operated: Parameters = (
            {} if task.threshold is None else {"threshold": task.threshold, "positive": task.names[1]}
        )
        parameters = {"classes": [*task.classes], **operated}
    decided = TensorMetadata(name="labels", datatype="INT64", shape=labels, parameters=parameters)
    return [scores, decided, *proven, levels]


def answer_tensors(answer: Answer, spec: ModelSpec) -> dict[str, OutputTensor]:
    """Every output tensor of `answer`, by name; opaque outputs have no labels, and findings a label each, 0 or 1."""
    task, decided = spec.task, answer.labels
    scores = [None if math.isnan(score) else score for score in answer.scores.ravel().tolist()]
    levels = [each.label for each in answer.levels]
    told = OutputTensor(name="levels", shape=[len(levels)], datatype="BYTES", data=levels)
    if isinstance(task, WrittenReport):  # whose scores are what its texts say
        texts = [each or "" for each in answer.texts]  # which of them left the levels say
        states = [WITHHELD_DECISION if each is None else int(each) for each in scores]
        return {
            "texts": OutputTensor(name="texts", shape=[len(levels)], datatype="BYTES", data=texts),
            "labels": OutputTensor(name="labels", shape=[*answer.scores.shape], datatype="INT64", data=states),
            "levels": told,
        }
    found = {"scores": OutputTensor(name="scores", shape=[*answer.scores.shape], datatype="FP64", data=scores)}
    if isinstance(task, Multilabel):
        table = unpacked_findings(decided, len(task.findings)).astype(np.int64)
        decided = np.where(decided[:, None] < 0, WITHHELD_DECISION, table)
    if not isinstance(task, Opaque):
        labels = decided.ravel().tolist()
        found["labels"] = OutputTensor(name="labels", shape=[*decided.shape], datatype="INT64", data=labels)
    if (proven := answer.certified) is not None:
        radii = proven.radius if proven.findings is None else proven.findings
        proved = [None if math.isnan(radius) else radius for radius in radii.ravel().tolist()]
        holds = proven.holds.tolist()
        found["certified"] = OutputTensor(name="certified", shape=[len(holds)], datatype="BOOL", data=holds)
        found["certified_radius"] = OutputTensor(
            name="certified_radius", shape=[*radii.shape], datatype="FP64", data=proved
        )
    return found | {"levels": told}


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
