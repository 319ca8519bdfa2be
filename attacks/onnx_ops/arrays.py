"""Arithmetic, comparison, reduction, and everything that only moves values about (ai.onnx)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.onnx_ops.base import Attributes, Inputs, Op, UnsupportedOpError, as_list, call

DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


def _axes(inputs: Inputs, attributes: Attributes) -> list[int] | None:
    """Axes, from the second input (opset 13/18 and later) or from the attribute (before)."""
    given = inputs[1] if len(inputs) > 1 and inputs[1] is not None else attributes.get("axes")
    return None if given is None else as_list(given)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> Op:
    def apply(inputs: Inputs, _: Attributes) -> Any:
        result = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return result

    return apply


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Op:
    def apply(inputs: Inputs, attributes: Attributes) -> Any:
        axes = _axes(inputs, attributes)
        if not axes:
            if attributes.get("noop_with_empty_axes", 0):
                return inputs[0]
            axes = list(range(inputs[0].ndim))
        return function(inputs[0], axes, bool(attributes.get("keepdims", 1)))

    return apply


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(dim=axis, keepdim=keep)
    return x


def _clip(inputs: Inputs, _: Attributes) -> Any:
    low, high = (inputs[i] if len(inputs) > i else None for i in (1, 2))
    return inputs[0] if low is None and high is None else torch.clamp(inputs[0], low, high)


def _cast(inputs: Inputs, attributes: Attributes) -> Any:
    if attributes["to"] not in DTYPES:
        raise UnsupportedOpError(f"Cast: to = {attributes['to']} is not a numeric type torch has")
    return inputs[0].to(DTYPES[attributes["to"]])


def _reshape(inputs: Inputs, attributes: Attributes) -> Any:
    x, wanted = inputs[0], as_list(inputs[1])
    if not attributes.get("allowzero", 0):
        wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(inputs: Inputs, attributes: Attributes) -> Any:
    axis = attributes.get("axis", 1)
    return inputs[0].reshape(math.prod(inputs[0].shape[: axis if axis >= 0 else inputs[0].ndim + axis]), -1)


def _transpose(inputs: Inputs, attributes: Attributes) -> Any:
    return inputs[0].permute(attributes.get("perm", list(range(inputs[0].ndim))[::-1]))


def _split(inputs: Inputs, attributes: Attributes) -> Any:
    axis, x = attributes.get("axis", 0), inputs[0]
    if len(inputs) > 1 and inputs[1] is not None:
        return torch.split(x, as_list(inputs[1]), dim=axis)
    return torch.split(x, math.ceil(x.shape[axis] / attributes["outputs"]), dim=axis)


def _slice(inputs: Inputs, _: Attributes) -> Any:
    x, starts, ends = inputs[0], as_list(inputs[1]), as_list(inputs[2])
    axes = as_list(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
    steps = as_list(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        rows = range(x.shape[axis])[start:end:step]
        x = torch.index_select(x, axis, torch.tensor(list(rows), dtype=torch.int64, device=x.device))
    return x


def _gather(inputs: Inputs, attributes: Attributes) -> Any:
    x, index = inputs[0], inputs[1].to(inputs[0].device).long()
    axis = attributes.get("axis", 0) % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    picked = torch.index_select(x, axis, index.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _shape(inputs: Inputs, attributes: Attributes) -> Any:
    sizes = list(inputs[0].shape)[attributes.get("start", 0) : attributes.get("end", inputs[0].ndim)]
    return torch.tensor(sizes, dtype=torch.int64)


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> Any:
    x, axes = inputs[0], _axes(inputs, attributes) or []
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(inputs: Inputs, attributes: Attributes) -> Any:
    axes = _axes(inputs, attributes)
    return inputs[0].squeeze() if axes is None else inputs[0].squeeze(tuple(axes))


def _constant(_: Inputs, attributes: Attributes) -> Any:
    if "value" in attributes:
        return attributes["value"]
    for key, dtype in (("value_float", torch.float32), ("value_int", torch.int64)):
        for name in (key, f"{key}s"):
            if name in attributes:
                return torch.tensor(attributes[name], dtype=dtype)
    raise UnsupportedOpError("Constant: only numeric constants are supported")


def _constant_of_shape(inputs: Inputs, attributes: Attributes) -> Any:
    value = attributes.get("value", torch.zeros(1))
    return value.reshape(()).expand(as_list(inputs[0])).clone()


def _expand(inputs: Inputs, _: Attributes) -> Any:
    return inputs[0] * torch.ones(as_list(inputs[1]), dtype=inputs[0].dtype, device=inputs[0].device)


def _pad(inputs: Inputs, attributes: Attributes) -> Any:
    x, pads = inputs[0], as_list(inputs[1])
    value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
    given = as_list(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else range(x.ndim)
    both = [(0, 0)] * x.ndim
    for i, axis in enumerate(given):
        both[axis] = (pads[i], pads[len(pads) // 2 + i])
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(attributes.get("mode", "constant"))
    if mode is None:
        raise UnsupportedOpError(f"Pad: mode = {attributes['mode']} is not supported")
    while len(both) > 1 and both[0] == (0, 0):
        both.pop(0)
    flat = [end for pair in reversed(both) for end in pair]
    return F.pad(x, flat, mode=mode, value=value) if mode == "constant" else F.pad(x, flat, mode=mode)


def _arg_max(inputs: Inputs, attributes: Attributes) -> Any:
    return torch.argmax(inputs[0], dim=attributes.get("axis", 0), keepdim=bool(attributes.get("keepdims", 1)))


OPS: dict[str, Op] = {
    "Abs": call(torch.abs),
    "Add": call(torch.add),
    "And": call(torch.logical_and),
    "ArgMax": _arg_max,
    "Cast": _cast,
    "Ceil": call(torch.ceil),
    "Clip": _clip,
    "Concat": lambda inputs, attributes: torch.cat(list(inputs), dim=attributes["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Cos": call(torch.cos),
    "Div": call(_divide),
    "Equal": call(torch.eq),
    "Erf": call(torch.erf),
    "Exp": call(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": call(torch.floor),
    "Gather": _gather,
    "Greater": call(torch.gt),
    "GreaterOrEqual": call(torch.ge),
    "Identity": call(lambda x: x),
    "IsNaN": call(torch.isnan),
    "Less": call(torch.lt),
    "LessOrEqual": call(torch.le),
    "Log": call(torch.log),
    "MatMul": call(torch.matmul),
    "Max": _extreme(torch.maximum),
    "Min": _extreme(torch.minimum),
    "Mul": call(torch.mul),
    "Neg": call(torch.neg),
    "Not": call(torch.logical_not),
    "Or": call(torch.logical_or),
    "Pad": _pad,
    "Pow": call(torch.pow),
    "Reciprocal": call(torch.reciprocal),
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(dim=axes, keepdim=keep)),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(dim=axes, keepdim=keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(dim=axes, keepdim=keep)),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(dim=axes, keepdim=keep)),
    "Reshape": _reshape,
    "Round": call(torch.round),
    "Shape": _shape,
    "Sign": call(torch.sign),
    "Sin": call(torch.sin),
    "Slice": _slice,
    "Split": _split,
    "Sqrt": call(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": call(torch.sub),
    "Tile": lambda inputs, _: inputs[0].tile(as_list(inputs[1])),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": call(torch.where),
}
