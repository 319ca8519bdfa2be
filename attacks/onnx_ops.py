"""ONNX operators as differentiable torch functions: one table, operator name to function.

Each function takes the node's inputs (None where an optional one is left out) and its attributes, and returns
its output, or a tuple of them. Semantics are opset 13 and later, inference only. Where torch cannot express a
setting, `UnsupportedOpError` says which. Reference: https://onnx.ai/onnx/operators/ (ai.onnx and ai.onnx.ml).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from guard.errors import MedwardError

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]
Op = Callable[[Inputs, Attributes], Any]

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


class UnsupportedOpError(MedwardError):
    """The graph holds operators, or settings of operators, that torch cannot differentiate here."""


def _call(function: Callable[..., Any]) -> Op:
    return lambda inputs, _: function(*inputs)


def _list(value: Any) -> list[int]:
    return [int(v) for v in (value.tolist() if isinstance(value, Tensor) else value)]


def _axes(inputs: Inputs, attributes: Attributes) -> list[int] | None:
    """Axes, from the second input (opset 13/18 and later) or from the attribute (before)."""
    given = inputs[1] if len(inputs) > 1 and inputs[1] is not None else attributes.get("axes")
    return None if given is None else _list(given)


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


def _gelu(inputs: Inputs, attributes: Attributes) -> Any:
    return F.gelu(inputs[0], approximate=attributes.get("approximate", "none"))


def _prelu(inputs: Inputs, _: Attributes) -> Any:
    x, slope = inputs
    return torch.where(x < 0, slope * x, x)


def _hard_sigmoid(inputs: Inputs, attributes: Attributes) -> Any:
    return torch.clamp(attributes.get("alpha", 0.2) * inputs[0] + attributes.get("beta", 0.5), 0, 1)


def _cast(inputs: Inputs, attributes: Attributes) -> Any:
    if attributes["to"] not in DTYPES:
        raise UnsupportedOpError(f"Cast: to = {attributes['to']} is not a numeric type torch has")
    return inputs[0].to(DTYPES[attributes["to"]])


def _same_padding(
    size: Sequence[int], kernel: list[int], strides: list[int], spread: list[int], mode: str
) -> list[int]:
    begins, ends = [], []
    for length, k, step, gap in zip(size, kernel, strides, spread, strict=True):
        total = max((math.ceil(length / step) - 1) * step + gap * (k - 1) + 1 - length, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return begins + ends


def _window(x: Tensor, kernel: list[int], attributes: Attributes) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (all begins, then all ends) of a window sliding over the last axes."""
    n = len(kernel)
    strides = _list(attributes.get("strides", [1] * n))
    dilations = _list(attributes.get("dilations", [1] * n))
    mode = attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return strides, dilations, _same_padding(x.shape[-n:], kernel, strides, dilations, mode)
    return strides, dilations, _list(attributes.get("pads", [0] * 2 * n))


def _pad_window(x: Tensor, pads: list[int], value: float) -> tuple[Tensor, list[int]]:
    """Pad by hand where the two ends differ; else leave it to the operator. Returns its padding."""
    n = len(pads) // 2
    if pads[:n] == pads[n:]:
        return x, pads[:n]
    flat = [end for i in reversed(range(n)) for end in (pads[i], pads[n + i])]
    return F.pad(x, flat, value=value), [0] * n


def _conv(inputs: Inputs, attributes: Attributes) -> Any:
    x, weight = inputs[0], inputs[1]
    strides, dilations, pads = _window(x, list(weight.shape[2:]), attributes)
    x, padding = _pad_window(x, pads, 0.0)
    function: Any = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weight.ndim]
    bias = inputs[2] if len(inputs) > 2 else None
    return function(x, weight, bias, strides, padding, dilations, attributes.get("group", 1))


def _max_pool(inputs: Inputs, attributes: Attributes) -> Any:
    kernel = _list(attributes["kernel_shape"])
    strides, dilations, pads = _window(inputs[0], kernel, attributes)
    x, padding = _pad_window(inputs[0], pads, -math.inf)
    function: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    return function(x, kernel, strides, padding, dilations, bool(attributes.get("ceil_mode", 0)))


def _average_pool(inputs: Inputs, attributes: Attributes) -> Any:
    kernel = _list(attributes["kernel_shape"])
    strides, dilations, pads = _window(inputs[0], kernel, attributes)
    if set(dilations) != {1}:
        raise UnsupportedOpError(f"AveragePool: dilations = {dilations} is not supported, only 1")
    function: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    ceil, with_pad = bool(attributes.get("ceil_mode", 0)), bool(attributes.get("count_include_pad", 0))
    x, padding = _pad_window(inputs[0], pads, 0.0)
    pooled = function(x, kernel, strides, padding, ceil, with_pad)
    if x is inputs[0] or with_pad:
        return pooled
    inside, _ = _pad_window(torch.ones_like(inputs[0]), pads, 0.0)
    return pooled / function(inside, kernel, strides, padding, ceil)


def _batch_norm(inputs: Inputs, attributes: Attributes) -> Any:
    if attributes.get("training_mode", 0):
        raise UnsupportedOpError("BatchNormalization: training_mode = 1; export the model in eval mode")
    x, scale, bias, mean, var = inputs
    return F.batch_norm(x, mean, var, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _layer_norm(inputs: Inputs, attributes: Attributes) -> Any:
    x, axis = inputs[0], attributes.get("axis", -1)
    bias = inputs[2] if len(inputs) > 2 else None
    return F.layer_norm(x, x.shape[axis % x.ndim :], inputs[1], bias, attributes.get("epsilon", 1e-5))


def _instance_norm(inputs: Inputs, attributes: Attributes) -> Any:
    return F.instance_norm(inputs[0], weight=inputs[1], bias=inputs[2], eps=attributes.get("epsilon", 1e-5))


def _group_norm(inputs: Inputs, attributes: Attributes) -> Any:
    x, groups = inputs[0], attributes["num_groups"]
    # Opset 18 scales per group, opset 21 per channel.
    scale, bias = (w.repeat_interleave(x.shape[1] // len(w)) for w in inputs[1:3])
    return F.group_norm(x, groups, scale, bias, attributes.get("epsilon", 1e-5))


def _gemm(inputs: Inputs, attributes: Attributes) -> Any:
    a, b = (
        x.T if attributes.get(key, 0) else x for x, key in zip(inputs, ("transA", "transB"), strict=False)
    )
    product = attributes.get("alpha", 1.0) * (a @ b)
    bias = inputs[2] if len(inputs) > 2 else None
    return product if bias is None else product + attributes.get("beta", 1.0) * bias


def _reshape(inputs: Inputs, attributes: Attributes) -> Any:
    x, wanted = inputs[0], _list(inputs[1])
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
        return torch.split(x, _list(inputs[1]), dim=axis)
    return torch.split(x, math.ceil(x.shape[axis] / attributes["outputs"]), dim=axis)


def _slice(inputs: Inputs, _: Attributes) -> Any:
    x, starts, ends = inputs[0], _list(inputs[1]), _list(inputs[2])
    axes = _list(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
    steps = _list(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
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
    return value.reshape(()).expand(_list(inputs[0])).clone()


def _expand(inputs: Inputs, _: Attributes) -> Any:
    return inputs[0] * torch.ones(_list(inputs[1]), dtype=inputs[0].dtype, device=inputs[0].device)


def _pad(inputs: Inputs, attributes: Attributes) -> Any:
    x, pads = inputs[0], _list(inputs[1])
    value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
    given = _list(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else range(x.ndim)
    both = [(0, 0)] * x.ndim
    for i, axis in enumerate(given):
        both[axis] = (pads[i], pads[len(pads) // 2 + i])
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(
        attributes.get("mode", "constant")
    )
    if mode is None:
        raise UnsupportedOpError(f"Pad: mode = {attributes['mode']} is not supported")
    while len(both) > 1 and both[0] == (0, 0):
        both.pop(0)
    flat = [end for pair in reversed(both) for end in pair]
    return F.pad(x, flat, mode=mode, value=value) if mode == "constant" else F.pad(x, flat, mode=mode)


def _resize(inputs: Inputs, attributes: Attributes) -> Any:
    x, mode = inputs[0], attributes.get("mode", "nearest")
    place = attributes.get("coordinate_transformation_mode", "half_pixel")
    scales = inputs[2] if len(inputs) > 2 and inputs[2] is not None and inputs[2].numel() else None
    sizes = _list(inputs[3])[2:] if scales is None else None
    factors = None if scales is None else [float(s) for s in scales.tolist()[2:]]
    if mode == "nearest" and place == "asymmetric" and attributes.get("nearest_mode") == "floor":
        return F.interpolate(x, sizes, factors, mode="nearest")
    if mode == "linear" and place in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        kind = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim]
        return F.interpolate(x, sizes, factors, mode=kind, align_corners=place == "align_corners")
    raise UnsupportedOpError(f"Resize: mode = {mode} with {place} coordinates is not supported")


def _arg_max(inputs: Inputs, attributes: Attributes) -> Any:
    return torch.argmax(inputs[0], dim=attributes.get("axis", 0), keepdim=bool(attributes.get("keepdims", 1)))


def _scaler(inputs: Inputs, attributes: Attributes) -> Any:
    like = {"dtype": torch.float32, "device": inputs[0].device}
    return (inputs[0] - torch.tensor(attributes["offset"], **like)) * torch.tensor(
        attributes["scale"], **like
    )


def _normalizer(inputs: Inputs, attributes: Attributes) -> Any:
    x, norm = inputs[0], attributes.get("norm", "MAX")
    order = {"MAX": math.inf, "L1": 1.0, "L2": 2.0}[norm]
    size = (
        x.amax(dim=-1, keepdim=True)
        if norm == "MAX"
        else torch.linalg.vector_norm(x, order, -1, keepdim=True)
    )
    return x / torch.where(size == 0, torch.ones_like(size), size)


def _feature_extractor(inputs: Inputs, _: Attributes) -> Any:
    return inputs[0][..., inputs[1].reshape(-1).long()]


def linear_scores(inputs: Inputs, attributes: Attributes) -> Tensor:
    """The raw scores ``(n, K)`` of a LinearClassifier, before its post-transform."""
    like: dict[str, Any] = {"dtype": torch.float32, "device": inputs[0].device}
    labels = attributes.get("classlabels_ints") or attributes.get("classlabels_strings")
    weights = torch.tensor(attributes["coefficients"], **like).reshape(-1, inputs[0].shape[1])
    scores: Tensor = inputs[0].float() @ weights.T
    if "intercepts" in attributes:
        scores = scores + torch.tensor(attributes["intercepts"], **like)
    if labels is not None and len(labels) == 2 and len(weights) == 1:
        scores = torch.cat([-scores, scores], dim=1)
    return scores


def _linear_classifier(inputs: Inputs, attributes: Attributes) -> Any:
    scores = linear_scores(inputs, attributes)
    transform = attributes.get("post_transform", "NONE")
    if transform not in TRANSFORMS:
        raise UnsupportedOpError(f"LinearClassifier: post_transform = {transform} is not supported")
    return scores.argmax(dim=1), TRANSFORMS[transform](scores)


TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "NONE": lambda s: s,
    "LOGISTIC": torch.sigmoid,
    "SOFTMAX": lambda s: s.softmax(dim=1),
}

OPS: dict[str, Op] = {
    "Abs": _call(torch.abs),
    "Add": _call(torch.add),
    "And": _call(torch.logical_and),
    "ArgMax": _arg_max,
    "ArrayFeatureExtractor": _feature_extractor,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Ceil": _call(torch.ceil),
    "Clip": _clip,
    "Concat": lambda inputs, attributes: torch.cat(list(inputs), dim=attributes["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Cos": _call(torch.cos),
    "Div": _call(_divide),
    "Dropout": lambda inputs, _: inputs[0],
    "Elu": lambda inputs, attributes: F.elu(inputs[0], attributes.get("alpha", 1.0)),
    "Equal": _call(torch.eq),
    "Erf": _call(torch.erf),
    "Exp": _call(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _call(torch.floor),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean(dim=tuple(range(2, inputs[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda inputs, _: inputs[0].amax(dim=tuple(range(2, inputs[0].ndim)), keepdim=True),
    "Greater": _call(torch.gt),
    "GreaterOrEqual": _call(torch.ge),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _call(F.hardswish),
    "Identity": _call(lambda x: x),
    "InstanceNormalization": _instance_norm,
    "IsNaN": _call(torch.isnan),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),
    "Less": _call(torch.lt),
    "LessOrEqual": _call(torch.le),
    "LinearClassifier": _linear_classifier,
    "Log": _call(torch.log),
    "LogSoftmax": lambda inputs, attributes: inputs[0].log_softmax(dim=attributes.get("axis", -1)),
    "MatMul": _call(torch.matmul),
    "Max": _extreme(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _extreme(torch.minimum),
    "Mish": _call(F.mish),
    "Mul": _call(torch.mul),
    "Neg": _call(torch.neg),
    "Normalizer": _normalizer,
    "Not": _call(torch.logical_not),
    "Or": _call(torch.logical_or),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _call(torch.pow),
    "Reciprocal": _call(torch.reciprocal),
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(dim=axes, keepdim=keep)),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(dim=axes, keepdim=keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(dim=axes, keepdim=keep)),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(dim=axes, keepdim=keep)),
    "Relu": _call(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": _call(torch.round),
    "Scaler": _scaler,
    "Selu": _call(F.selu),
    "Shape": _shape,
    "Sigmoid": _call(torch.sigmoid),
    "Sign": _call(torch.sign),
    "Sin": _call(torch.sin),
    "Slice": _slice,
    "Softmax": lambda inputs, attributes: inputs[0].softmax(dim=attributes.get("axis", -1)),
    "Softplus": _call(F.softplus),
    "Split": _split,
    "Sqrt": _call(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _call(torch.sub),
    "Tanh": _call(torch.tanh),
    "Tile": lambda inputs, _: inputs[0].tile(_list(inputs[1])),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _call(torch.where),
}
