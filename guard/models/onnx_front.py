"""An ONNX graph with what stands before its first layer as its own first nodes, and weights beside it taken in.

This is done once, when a file is wrapped, with the ``onnx`` package; what is served is one file that holds it all.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, read_model_file, require_extra
from medward.guard.models.front import FRONT_MARK, normalisation
from medward.guard.models.onnx_outputs import FLOATS
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

WHOLE_RANGES: dict[str, tuple[float, float]] = {
    "tensor(uint8)": (0, 2**8 - 1),
    "tensor(int8)": (-(2**7), 2**7 - 1),
    "tensor(uint16)": (0, 2**16 - 1),
    "tensor(int16)": (-(2**15), 2**15 - 1),
    "tensor(int32)": (-(2**31), 2**31 - 1),
    "tensor(int64)": (-(2**63), 2**63 - 1),
}
"""What onnxruntime calls inputs of whole numbers, and what they can hold."""
_FEW_BITS = 2**17  # inputs that hold less need bounds, for what lies outside would wrap around
_ROUND_SINCE = 11  # the opset that has Round


def read_graph(path: Path) -> bytes:
    """The file's bytes, with weights that lie in files beside it taken in where the ``onnx`` package is installed."""
    data = read_model_file(path)
    if b"location" not in data:  # the key of a tensor that lies elsewhere
        return data
    try:
        onnx = require_extra("onnx", "torch")
    except MedwardError:
        return data  # opening it says what to do
    try:
        model = onnx.load_from_string(data)
        outside = onnx.external_data_helper.uses_external_data
        if not any(outside(each) for each in model.graph.initializer):
            return data
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        for tensor in model.graph.initializer:
            tensor.ClearField("data_location")
            del tensor.external_data[:]
        whole: bytes = model.SerializeToString()
    except Exception as error:  # onnx and protobuf raise types of their own
        raise MedwardError(f"{path}: weights lie in other files that cannot be taken in: {first_line(error)}") from None
    return whole


def check_whole(given: Any, spec: ModelSpec, sample: Array, source: str) -> None:
    """Refuse rows or bounds that an input of whole numbers cannot take as they are."""
    kind = given.type.removeprefix("tensor(").removesuffix(")")
    if given.type in FLOATS:
        return
    least, most = WHOLE_RANGES[given.type]
    if spec.prepare.mean:
        raise MedwardError(f"{source}: mean and std: the file takes {kind}, pixels as they are; leave them out")
    if (sample != np.round(sample)).any():
        odd = float(sample[sample != np.round(sample)][0])
        raise MedwardError(
            f"{source}: the file takes {kind}, and rows hold fractions such as {odd:.4g}; give whole numbers (images "
            "with --low 0 --high 255 where it takes 8-bit pixels)"
        )
    if (spec.low is None or spec.high is None) and most < _FEW_BITS:
        raise MedwardError(
            f"{source}: the file takes {kind}, where values outside {least} to {most} would wrap around; say the range "
            "with --low and --high"
        )
    if (spec.low is not None and spec.low < least) or (spec.high is not None and spec.high > most):
        raise MedwardError(
            f"{source}: the file takes {kind}, {least} to {most}; the range said is {spec.low} to {spec.high}"
        )


def front_steps(given: Any, spec: ModelSpec) -> list[tuple[str, Any]]:
    """What must stand before the input `given` (as onnxruntime describes it): operators in order, with their values."""
    found, steps = normalisation(spec), list[tuple[str, Any]]()
    if found is not None:
        steps += [("Sub", found[0].astype(np.float32)), ("Div", found[1].astype(np.float32))]
    axes = len(given.shape) - 1
    if spec.sent is not None and axes == len(spec.sent):
        steps.append(("Reshape", np.array([-1, *spec.sent], np.int64)))
    elif steps and axes == 1 and len(spec.shape) > 1:
        steps.append(("Reshape", np.array([-1, math.prod(spec.shape)], np.int64)))
    if given.type in WHOLE_RANGES:
        steps += [("Round", None), ("Cast", given.type)]
    elif steps and given.type != FLOATS[0]:
        steps.append(("Cast", given.type))
    return steps


def graph_with_front(data: bytes, steps: list[tuple[str, Any]], spec: ModelSpec) -> bytes:
    """The graph of `data` behind `steps`: its one input is then float32 rows of the internal shape."""
    onnx = require_extra("onnx", "torch")
    helper, kinds = onnx.helper, onnx.TensorProto
    model = onnx.load_from_string(data)
    graph = model.graph
    weights = {each.name for each in graph.initializer}
    old = next(each for each in graph.input if each.name not in weights)
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | weights
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), _ROUND_SINCE)
    names = iter(name for name in (f"rows_{place}" for place in range(10**6)) if name not in taken)
    first = current = next(names)
    steps, made = _spelled(steps, opset), []
    for place, (operator, value) in enumerate(steps):
        following = old.name if place == len(steps) - 1 else next(names)
        inputs, attributes = [current], {}
        if operator == "Cast":
            attributes["to"] = getattr(kinds, value.removeprefix("tensor(").removesuffix(")").upper())
        elif value is not None:
            constant = next(names)
            made.append(helper.make_node("Constant", [], [constant], value=onnx.numpy_helper.from_array(value)))
            inputs.append(constant)
        made.append(helper.make_node(operator, inputs, [following], **attributes))
        current = following
    declared = [axis.dim_param or axis.dim_value or None for axis in old.type.tensor_type.shape.dim]
    sizes = declared if len(declared) == len(spec.shape) + 1 else [declared[0], *spec.shape]
    others = [each for each in graph.input if each.name != old.name]
    nodes = [*made, *graph.node]
    del graph.input[:], graph.node[:]
    graph.input.extend([helper.make_tensor_value_info(first, kinds.FLOAT, sizes), *others])
    graph.node.extend(nodes)
    if spec.prepare.mean:
        _set_metadata(model, {FRONT_MARK: "normalised"})
    whole: bytes = model.SerializeToString()
    return whole


def add_metadata(file: Path, said: dict[str, str]) -> None:
    """Write what is `said` by name into the ONNX `file`, beside what it says already."""
    onnx = require_extra("onnx", "torch")
    model = onnx.load(str(file))
    _set_metadata(model, said)
    file.write_bytes(model.SerializeToString())


def _set_metadata(model: Any, said: dict[str, str]) -> None:
    known = {each.key: each.value for each in model.metadata_props}
    require_extra("onnx", "torch").helper.set_model_props(model, {**known, **said})


def _spelled(steps: list[tuple[str, Any]], opset: int) -> list[tuple[str, Any]]:
    """`steps` in operators that `opset` has."""
    if opset >= _ROUND_SINCE:
        return steps
    half = [("Add", np.array(0.5, np.float32)), ("Floor", None)]
    return [each for step in steps for each in (half if step[0] == "Round" else [step])]
