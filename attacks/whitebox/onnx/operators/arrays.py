"""Arithmetic, comparison, reduction, and everything that only moves values about (ai.onnx)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medward.attacks.whitebox.onnx.operators.base import (
    Attributes,
    Inputs,
    Op,
    UnsupportedOpError,
    as_list,
    from_function,
    optional_input,
    passing,
    round_straight_through,
)

_DTYPES = {
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
WHOLE = {number for number, dtype in _DTYPES.items() if not (dtype.is_floating_point or dtype is torch.bool)}
"""The types of whole numbers."""


def _axes(inputs: Inputs, attributes: Attributes) -> list[int] | None:
    """Axes, from the second input (opset 13/18 and later) or from the attribute (before)."""
    given = attributes.get("axes") if optional_input(inputs, 1) is None else inputs[1]
    return None if given is None else as_list(given)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Op:
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


def _order_norm(order: int) -> Op:
    return _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, order, dim=axes, keepdim=keep))


def _mean(inputs: Inputs, _: Attributes) -> Any:
    return _folded(torch.add)(inputs, {}) / len(inputs)


def _clip(inputs: Inputs, attributes: Attributes) -> Any:
    low, high = optional_input(inputs, 1), optional_input(inputs, 2)
    if attributes["opset"] < 11:
        low, high = attributes.get("min"), attributes.get("max")
    return inputs[0] if low is None and high is None else torch.clamp(inputs[0], low, high)


def _cast(inputs: Inputs, attributes: Attributes) -> Any:
    """Between kinds of floating-point numbers nothing is done: all are computed in one.

    What is `carried`, whole numbers that only arithmetic reads, stays floating-point so that the gradient passes.
    """
    if attributes["to"] not in _DTYPES:
        raise UnsupportedOpError(f"Cast: to = {attributes['to']} is not a numeric type torch has")
    dtype = _DTYPES[attributes["to"]]
    x = inputs[0]
    if x.is_floating_point() and attributes.get("carried", False):
        return passing(x, x.to(dtype).to(x.dtype))
    return x if dtype.is_floating_point and x.is_floating_point() else x.to(dtype)


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
    sizes = attributes.get("split") if optional_input(inputs, 1) is None else inputs[1]
    if sizes is not None:
        return torch.split(x, as_list(sizes), dim=axis)
    return torch.split(x, math.ceil(x.shape[axis] / attributes["outputs"]), dim=axis)


def _slice(inputs: Inputs, attributes: Attributes) -> Any:
    x, *given = inputs
    if attributes["opset"] < 10:
        given = [attributes["starts"], attributes["ends"], attributes.get("axes")]
    starts, ends = as_list(given[0]), as_list(given[1])
    axes = list(range(len(starts))) if optional_input(given, 2) is None else as_list(given[2])
    steps = [1] * len(starts) if optional_input(given, 3) is None else as_list(given[3])
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
    x, sizes = inputs[0], as_list(inputs[1])
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(sizes)))


def _pad(inputs: Inputs, attributes: Attributes) -> Any:
    x, *given = inputs
    if attributes["opset"] < 11:
        given = [attributes["pads"], attributes.get("value", 0.0)]
    pads = as_list(given[0])
    value = 0.0 if optional_input(given, 1) is None else float(given[1])
    axes = range(x.ndim) if optional_input(given, 2) is None else as_list(given[2])
    both = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        both[axis] = (pads[i], pads[len(pads) // 2 + i])
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(attributes.get("mode", "constant"))
    if mode is None:
        raise UnsupportedOpError(f"Pad: mode = {attributes['mode']} is not supported")
    while len(both) > 1 and both[0] == (0, 0):
        both.pop(0)
    flat = [end for pair in reversed(both) for end in pair]
    return F.pad(x, flat, mode=mode, value=value) if mode == "constant" else F.pad(x, flat, mode=mode)


def _places(index: Tensor, sizes: torch.Size) -> tuple[Tensor, ...]:
    """The last axis of `index` as one tensor of places for each of the first axes of `sizes`."""
    return tuple(torch.where(i < 0, i + size, i) for i, size in zip(index.long().unbind(-1), sizes, strict=False))


def _gather_nd(inputs: Inputs, attributes: Attributes) -> Any:
    x, index, shared = inputs[0], inputs[1], attributes.get("batch_dims", 0)
    rows = x.reshape(math.prod(x.shape[:shared]), *x.shape[shared:])
    places = _places(index.reshape(len(rows), *index.shape[shared:]), rows.shape[1:])
    row = torch.arange(len(rows), device=x.device).reshape(-1, *[1] * (places[0].ndim - 1)).expand(places[0].shape)
    return rows[(row, *places)].reshape(*index.shape[:-1], *x.shape[shared + index.shape[-1] :])


def _gather_elements(inputs: Inputs, attributes: Attributes) -> Any:
    x, index, axis = inputs[0], inputs[1].long(), attributes.get("axis", 0)
    return torch.gather(x, axis, torch.where(index < 0, index + x.shape[axis], index))


def _scatter_nd(inputs: Inputs, attributes: Attributes) -> Any:
    x, index, updates = inputs
    return x.index_put(_places(index, x.shape), updates, accumulate=_adds("ScatterND", attributes))


def _scatter_elements(inputs: Inputs, attributes: Attributes) -> Any:
    x, index, updates = inputs
    axis = attributes.get("axis", 0)
    places = torch.where(index < 0, index + x.shape[axis], index).long()
    adds = _adds("ScatterElements", attributes)
    return x.scatter_add(axis, places, updates) if adds else x.scatter(axis, places, updates)


def _adds(op: str, attributes: Attributes) -> bool:
    reduction = attributes.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise UnsupportedOpError(f"{op}: reduction = {reduction} is not supported, only none and add")
    return bool(reduction == "add")


def _cum_sum(inputs: Inputs, attributes: Attributes) -> Any:
    x, axis = inputs[0], int(inputs[1])
    backward = bool(attributes.get("reverse", 0))
    x = x.flip(axis) if backward else x
    total = x.cumsum(axis) - x if attributes.get("exclusive", 0) else x.cumsum(axis)
    return total.flip(axis) if backward else total


def _top_k(inputs: Inputs, attributes: Attributes) -> Any:
    count = attributes["k"] if attributes["opset"] < 10 else int(inputs[1])
    return tuple(torch.topk(inputs[0], count, attributes.get("axis", -1), bool(attributes.get("largest", 1))))


def _trilu(inputs: Inputs, attributes: Attributes) -> Any:
    shift = 0 if optional_input(inputs, 1) is None else int(inputs[1])
    return torch.triu(inputs[0], shift) if attributes.get("upper", 1) else torch.tril(inputs[0], shift)


def _mod(inputs: Inputs, attributes: Attributes) -> Any:
    return (torch.fmod if attributes.get("fmod", 0) else torch.remainder)(*inputs)


def _lp_normalization(inputs: Inputs, attributes: Attributes) -> Any:
    axis, order = attributes.get("axis", -1), attributes.get("p", 2)
    return inputs[0] / torch.linalg.vector_norm(inputs[0], order, dim=axis, keepdim=True)


def _arg_max(inputs: Inputs, attributes: Attributes) -> Any:
    return torch.argmax(inputs[0], dim=attributes.get("axis", 0), keepdim=bool(attributes.get("keepdims", 1)))


ARRAY_OPERATORS: dict[str, Op] = {
    "Abs": from_function(torch.abs),
    "Add": from_function(torch.add),
    "And": from_function(torch.logical_and),
    "ArgMax": _arg_max,
    "Cast": _cast,
    "Ceil": from_function(lambda x: passing(x, x.ceil())),
    "Clip": _clip,
    "Concat": lambda inputs, attributes: torch.cat(list(inputs), dim=attributes["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Cos": from_function(torch.cos),
    "CumSum": _cum_sum,
    "Div": from_function(_divide),
    "Einsum": lambda inputs, attributes: torch.einsum(attributes["equation"], *inputs),
    "Equal": from_function(torch.eq),
    "Erf": from_function(torch.erf),
    "Exp": from_function(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": from_function(lambda x: passing(x, x.floor())),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Greater": from_function(torch.gt),
    "GreaterOrEqual": from_function(torch.ge),
    "Identity": from_function(lambda x: x),
    "IsInf": from_function(torch.isinf),
    "IsNaN": from_function(torch.isnan),
    "Less": from_function(torch.lt),
    "LessOrEqual": from_function(torch.le),
    "Log": from_function(torch.log),
    "LpNormalization": _lp_normalization,
    "MatMul": from_function(torch.matmul),
    "Max": _folded(torch.maximum),
    "Mean": _mean,
    "Min": _folded(torch.minimum),
    "Mod": _mod,
    "Mul": from_function(torch.mul),
    "Neg": from_function(torch.neg),
    "NonZero": from_function(lambda x: torch.nonzero(x).T),
    "Not": from_function(torch.logical_not),
    "Or": from_function(torch.logical_or),
    "Pad": _pad,
    "Pow": from_function(torch.pow),
    "Range": from_function(lambda start, limit, step: torch.arange(start.item(), limit.item(), step.item())),
    "Reciprocal": from_function(torch.reciprocal),
    "ReduceL1": _order_norm(1),
    "ReduceL2": _order_norm(2),
    "ReduceLogSum": _reduce(lambda x, axes, keep: x.sum(dim=axes, keepdim=keep).log()),
    "ReduceLogSumExp": _reduce(lambda x, axes, keep: x.logsumexp(dim=axes, keepdim=keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(dim=axes, keepdim=keep)),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(dim=axes, keepdim=keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(dim=axes, keepdim=keep)),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(dim=axes, keepdim=keep)),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: x.square().sum(dim=axes, keepdim=keep)),
    "Reshape": _reshape,
    "Round": from_function(round_straight_through),
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Sign": from_function(torch.sign),
    "Sin": from_function(torch.sin),
    "Size": from_function(lambda x: torch.tensor(x.numel())),
    "Slice": _slice,
    "Split": _split,
    "Sqrt": from_function(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": from_function(torch.sub),
    "Sum": _folded(torch.add),
    "Tile": lambda inputs, _: inputs[0].tile(as_list(inputs[1])),
    "TopK": _top_k,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
    "Where": from_function(torch.where),
    "Xor": from_function(torch.logical_xor),
}
