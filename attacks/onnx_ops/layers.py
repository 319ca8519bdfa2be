"""The layers of neural networks: convolution, pooling, normalisation, activation, resizing (ai.onnx)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.onnx_ops.base import Attributes, Inputs, Op, UnsupportedOpError, as_list, call


def _gelu(inputs: Inputs, attributes: Attributes) -> Any:
    return F.gelu(inputs[0], approximate=attributes.get("approximate", "none"))


def _prelu(inputs: Inputs, _: Attributes) -> Any:
    x, slope = inputs
    return torch.where(x < 0, slope * x, x)


def _hard_sigmoid(inputs: Inputs, attributes: Attributes) -> Any:
    return torch.clamp(attributes.get("alpha", 0.2) * inputs[0] + attributes.get("beta", 0.5), 0, 1)


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
    strides = as_list(attributes.get("strides", [1] * n))
    dilations = as_list(attributes.get("dilations", [1] * n))
    mode = attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return strides, dilations, _same_padding(x.shape[-n:], kernel, strides, dilations, mode)
    return strides, dilations, as_list(attributes.get("pads", [0] * 2 * n))


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
    kernel = as_list(attributes["kernel_shape"])
    strides, dilations, pads = _window(inputs[0], kernel, attributes)
    x, padding = _pad_window(inputs[0], pads, -math.inf)
    function: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    return function(x, kernel, strides, padding, dilations, bool(attributes.get("ceil_mode", 0)))


def _average_pool(inputs: Inputs, attributes: Attributes) -> Any:
    kernel = as_list(attributes["kernel_shape"])
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
    a, b = (x.T if attributes.get(key, 0) else x for x, key in zip(inputs, ("transA", "transB"), strict=False))
    product = attributes.get("alpha", 1.0) * (a @ b)
    bias = inputs[2] if len(inputs) > 2 else None
    return product if bias is None else product + attributes.get("beta", 1.0) * bias


def _resize(inputs: Inputs, attributes: Attributes) -> Any:
    x, mode = inputs[0], attributes.get("mode", "nearest")
    if attributes.get("antialias", 0):
        raise UnsupportedOpError("Resize: antialias = 1 is not supported; export the model without it")
    place = attributes.get("coordinate_transformation_mode", "half_pixel")
    scales = inputs[2] if len(inputs) > 2 and inputs[2] is not None and inputs[2].numel() else None
    sizes = as_list(inputs[3])[2:] if scales is None else None
    factors = None if scales is None else [float(s) for s in scales.tolist()[2:]]
    if mode == "nearest" and place == "asymmetric" and attributes.get("nearest_mode") == "floor":
        return F.interpolate(x, sizes, factors, mode="nearest")
    if mode == "linear" and place in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        kind = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim]
        return F.interpolate(x, sizes, factors, mode=kind, align_corners=place == "align_corners")
    raise UnsupportedOpError(f"Resize: mode = {mode} with {place} coordinates is not supported")


OPS: dict[str, Op] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Dropout": lambda inputs, _: inputs[0],
    "Elu": lambda inputs, attributes: F.elu(inputs[0], attributes.get("alpha", 1.0)),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean(dim=tuple(range(2, inputs[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda inputs, _: inputs[0].amax(dim=tuple(range(2, inputs[0].ndim)), keepdim=True),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": call(F.hardswish),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),
    "LogSoftmax": lambda inputs, attributes: inputs[0].log_softmax(dim=attributes.get("axis", -1)),
    "MaxPool": _max_pool,
    "Mish": call(F.mish),
    "PRelu": _prelu,
    "Relu": call(torch.relu),
    "Resize": _resize,
    "Selu": call(F.selu),
    "Sigmoid": call(torch.sigmoid),
    "Softmax": lambda inputs, attributes: inputs[0].softmax(dim=attributes.get("axis", -1)),
    "Softplus": call(F.softplus),
    "Tanh": call(torch.tanh),
}
