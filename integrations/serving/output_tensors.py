"""What the Open Inference Protocol says of an answer: a tensor for each output, and the metadata that describe them.

Where a score does not leave, `scores` holds null in JSON and NaN in bytes; a withheld label is -1; `levels` names the
reason the client may know. Where the policy has answers certified, `certified` is false for what is not and
`certified_radius` null where it is withheld.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, JsonValue

from medward.guard.answering import RADIUS_UNITS
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import WITHHELD_DECISION
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.tasks.report_reader import Mention
from medward.guard.types import Answer
from medward.integrations.serving.binary_tensors import tensor_bytes

Parameters = dict[str, JsonValue]
TensorData = list[bool] | list[float | None] | list[int] | list[str]


class TensorMetadata(BaseModel):
    """-1 in `shape` is the batch axis."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}


class OutputTensor(BaseModel):
    """Flat, row-major; without `data` where its parameter ``binary_data_size`` says how many bytes it is instead."""

    name: str
    shape: list[int]
    datatype: str
    data: TensorData = []
    parameters: dict[str, int] = {}


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


def encoded_outputs(
    tensors: Mapping[str, OutputTensor], wanted: Mapping[str, bool]
) -> tuple[list[OutputTensor], bytes]:
    """The tensors that are `wanted`, in that order, and the bytes of those of which it says so."""
    found, binary = [], b""
    for name, as_bytes in wanted.items():
        tensor = tensors[name]
        if as_bytes:
            raw = tensor_bytes(tensor.data, tensor.datatype)
            size = {"binary_data_size": len(raw)}
            tensor = OutputTensor(name=name, shape=tensor.shape, datatype=tensor.datatype, parameters=size)
            binary += raw
        found.append(tensor)
    return found, binary
