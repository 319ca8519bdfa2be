"""The model configuration, in Triton's words: what the model takes and gives, the batch axis left out.

Reference: github.com/triton-inference-server/server, docs/protocol/extension_model_configuration.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from medward.guard.spec import ModelSpec
from medward.integrations.serving.output_tensors import TensorMetadata


class ConfiguredTensor(BaseModel):
    """One tensor; `dims` are the shape of a row, empty where a row is a single value."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfiguration(BaseModel):
    """`max_batch_size` is the most rows that one request may hold."""

    name: str
    platform: str
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]


def model_configuration(spec: ModelSpec, given: Iterable[TensorMetadata], rows: int) -> ModelConfiguration:
    """The configuration of a model of `spec` that gives the tensors `given`, `rows` of them at most."""
    taken = TensorMetadata(name="inputs", datatype="FP32", shape=[-1, *spec.row_shape])
    return ModelConfiguration(
        name=spec.name,
        platform="medward",
        max_batch_size=rows,
        input=[_configured(taken)],
        output=[_configured(each) for each in given],
    )


def _configured(tensor: TensorMetadata) -> ConfiguredTensor:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return ConfiguredTensor(name=tensor.name, data_type=f"TYPE_{kind}", dims=tensor.shape[1:])
