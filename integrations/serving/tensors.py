"""Tensors of the Open Inference Protocol as clients send them: which are asked, and the rows that their JSON holds."""

from __future__ import annotations

import math
from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array
from medward.integrations.serving.binary_tensors import TENSOR_TYPES, binary_array, refuse_leftover
from medward.integrations.serving.rows import refuse_numbers

Datatype = Literal[
    "FP32", "FP64", "FP16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL"
]
HINTS = ("timeout", "priority")
"""What a client may ask of the queue: the answer is the same without, so it says that they were not honoured."""


class _Strict(BaseModel):
    """Nothing is ignored: what is not honoured is refused, since the answer would not be the one that was asked for."""

    model_config = ConfigDict(extra="forbid")


class InputParameters(_Strict):
    """`binary_data_size` bytes after the JSON are the tensor; `content_type` is MLServer's word for plain numbers."""

    binary_data_size: Annotated[int, Field(ge=0, strict=True)] | None = None
    content_type: Literal["np"] | None = None


class InputTensor(_Strict):
    """Values in row-major order: in `data`, flat or nested as `shape` says, or as bytes after the JSON."""

    name: Literal["inputs"]
    shape: Annotated[list[Annotated[int, Field(ge=1, strict=True)]], Field(min_length=1, max_length=8, fail_fast=True)]
    datatype: Datatype
    data: Annotated[list[JsonValue], Field(fail_fast=True)] | None = None
    parameters: InputParameters = InputParameters()

    def array(self, spec: ModelSpec, rows: int, binary: bytes = b"") -> Array:
        """The tensor, of its declared type and shape, or what is wrong with it; `binary` is what follows the JSON.

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
        size = self.parameters.binary_data_size
        if (self.data is None) == (size is None):
            raise MedwardError('inputs: send "data" or the parameter "binary_data_size", and not both')
        if size is not None:
            return binary_array(binary, size, self.shape, self.datatype)
        refuse_leftover(binary, 0)
        return self._numbers()

    def _numbers(self) -> Array:
        """`data` as an array."""
        values, dtype = self._flat(), TENSOR_TYPES[self.datatype]
        kinds: set[type] = {int, float} if dtype.kind == "f" else {bool} if dtype.kind == "b" else {int}
        if foreign := {*map(type, values)} - kinds:
            names = ", ".join(sorted(kind.__name__ for kind in foreign))
            raise MedwardError(f"inputs: datatype {self.datatype} cannot hold data of type {names}")
        outside = MedwardError(f"inputs: data has values outside the range of {self.datatype}")
        if dtype.kind in "iu":
            bounds = np.iinfo(dtype)
            if not bounds.min <= min(values) <= max(values) <= bounds.max:
                raise outside
        try:
            array: Array = np.array(values, dtype=np.float64 if dtype.kind == "f" else dtype)
        except OverflowError:
            raise outside from None
        if self.datatype == "FP16" and (np.abs(array) > np.finfo(dtype).max).any():
            raise outside
        return array.reshape(self.shape)

    def _flat(self) -> list[Any]:
        """`data` without its nesting, which must be none or that of `shape`."""
        values: list[Any] = self.data or []
        sizes = self.shape if list in map(type, values) else [math.prod(self.shape)]
        for depth, size in enumerate(sizes):
            lists = [values] if depth == 0 else values
            if any(type(each) is not list or len(each) != size for each in lists):
                raise MedwardError(f"inputs: data does not fit shape {self.shape}")
            values = list(chain.from_iterable(lists))
        return values


class OutputParameters(_Strict):
    """Whether the output leaves as bytes after the JSON; absent, as the request says of all."""

    binary_data: bool | None = None


class RequestedOutput(_Strict):
    """The name of an output the client wants."""

    name: Literal["scores", "labels", "texts", "levels", "certified", "certified_radius"]
    parameters: OutputParameters = OutputParameters()


class InferParameters(_Strict):
    """`binary_data_output` says how outputs leave that do not say so themselves; the two hints are not honoured."""

    binary_data_output: bool = False
    content_type: Literal["np"] | None = None
    timeout: float | None = None
    priority: int | None = None


class InferRequest(_Strict):
    """One tensor in; `outputs` narrows what comes back, absent means all. `model_name` is as in the path, if sent."""

    id: Annotated[str, Field(max_length=128)] | None = None
    model_name: str | None = None
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1, fail_fast=True)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=6, fail_fast=True)] | None = None

    def wanted(self, given: list[str]) -> dict[str, bool]:
        """Which of the outputs that are `given` the client wants, and whether as bytes.

        Raises `MedwardError` for one that the model does not give, or that is asked for twice.
        """
        everywhere = self.parameters.binary_data_output
        if not self.outputs:
            return dict.fromkeys(given, everywhere)
        found: dict[str, bool] = {}
        for output in self.outputs:
            if output.name not in given:
                raise MedwardError(f"outputs: this model gives {', '.join(given)}, and no {output.name}")
            if output.name in found:
                raise MedwardError(f"outputs: {output.name} is asked for twice; leave one")
            binary = output.parameters.binary_data
            found[output.name] = everywhere if binary is None else binary
        return found

    @property
    def unhonoured(self) -> list[str]:
        """The hints that the client gave and nobody honours."""
        return [name for name in HINTS if getattr(self.parameters, name) is not None]


def tensor_form(spec: ModelSpec) -> str:
    """What to send to the model of `spec`, in words."""
    shape = ", ".join(["n", *map(str, spec.row_shape)])
    return (
        f'send {{"inputs": [{{"name": "inputs", "shape": [{shape}], "datatype": "FP32", "data": [...]}}]}}; parameters '
        "that are honoured: binary_data_size of the input, binary_data of an output, binary_data_output of the request"
    )
