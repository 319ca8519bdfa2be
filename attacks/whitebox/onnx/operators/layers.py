"""The layers of neural networks: convolution, pooling, normalisation, activation, resizing (ai.onnx)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

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
)


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
    bias = optional_input(inputs, 2)
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
    bias = optional_input(inputs, 2)
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
    bias = optional_input(inputs, 2)
    return product if bias is None else product + attributes.get("beta", 1.0) * bias


def _conv_transpose(inputs: Inputs, attributes: Attributes) -> Any:
    x, weight = inputs[0], inputs[1]
    strides, dilations, pads = _window(x, list(weight.shape[2:]), attributes)
    n = len(strides)
    if pads[:n] != pads[n:] or attributes.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in attributes:
        raise UnsupportedOpError("ConvTranspose: only padding that is said and the same at both ends is supported")
    function: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[n]
    more = as_list(attributes.get("output_padding", [0] * n))
    return function(
        x, weight, optional_input(inputs, 2), strides, pads[:n], more, attributes.get("group", 1), dilations
    )


def _soft(function: Callable[..., Tensor]) -> Op:
    """Softmax or its logarithm; before opset 13 all axes from `axis` on are one."""

    def apply(inputs: Inputs, attributes: Attributes) -> Any:
        x = inputs[0]
        if attributes["opset"] >= 13:
            return function(x, dim=attributes.get("axis", -1))
        return function(x.flatten(attributes.get("axis", 1) % x.ndim), dim=-1).reshape(x.shape)

    return apply


def _depth_to_space(inputs: Inputs, attributes: Attributes) -> Any:
    x, size = inputs[0], attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    n, depth, height, width = x.shape
    x = x.reshape(n, size, size, depth // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, -1, height * size, width * size)


def _space_to_depth(inputs: Inputs, attributes: Attributes) -> Any:
    x, size = inputs[0], attributes["blocksize"]
    n, depth, height, width = x.shape
    x = x.reshape(n, depth, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, -1, height // size, width // size)


def _thresholded_relu(inputs: Inputs, attributes: Attributes) -> Any:
    return torch.where(inputs[0] > attributes.get("alpha", 1.0), inputs[0], torch.zeros_like(inputs[0]))


def _local_response(inputs: Inputs, attributes: Attributes) -> Any:
    given = (attributes.get(key, usual) for key, usual in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return F.local_response_norm(inputs[0], attributes["size"], *given)


def _upsample(inputs: Inputs, attributes: Attributes) -> Any:
    scales = attributes["scales"] if attributes["opset"] < 9 else inputs[1].tolist()
    return _resampled(inputs[0], attributes.get("mode", "nearest"), OLD_RESIZE, scales=scales)


def _resize(inputs: Inputs, attributes: Attributes) -> Any:
    x, mode = inputs[0], attributes.get("mode", "nearest")
    if attributes["opset"] < 11:
        return _resampled(x, mode, OLD_RESIZE, scales=inputs[1].tolist())
    if attributes.get("antialias", 0):
        raise UnsupportedOpError("Resize: antialias = 1 is not supported; export the model without it")
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedOpError("Resize: only keep_aspect_ratio_policy = stretch is supported")
    given = inputs[2] if optional_input(inputs, 2) is not None and inputs[2].numel() else None
    axes = [axis % x.ndim for axis in attributes.get("axes", range(x.ndim))]
    if given is not None:
        said = dict(zip(axes, given.tolist(), strict=True))
        return _resampled(x, mode, attributes, scales=[said.get(axis, 1.0) for axis in range(x.ndim)])
    wanted = dict(zip(axes, as_list(inputs[3]), strict=True))
    return _resampled(x, mode, attributes, sizes=[wanted.get(axis, x.shape[axis]) for axis in range(x.ndim)])


OLD_RESIZE = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "ceil": torch.ceil,
    "floor": torch.floor,
    "round_prefer_ceil": lambda at: torch.floor(at + 0.5),
    "round_prefer_floor": lambda at: torch.ceil(at - 0.5),
}


def _resampled(
    x: Tensor,
    mode: str,
    attributes: Attributes,
    *,
    scales: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
) -> Tensor:
    """Axis by axis, to the nearest value or linearly between the two neighbours."""
    place = attributes.get("coordinate_transformation_mode", "half_pixel")
    round_to = _NEAREST.get(attributes.get("nearest_mode", "round_prefer_floor"))
    if mode not in ("nearest", "linear") or round_to is None:
        raise UnsupportedOpError(f"Resize: mode = {mode} is not supported, only nearest and linear")
    for axis, size in enumerate(x.shape):
        scale = scales[axis] if scales is not None else sizes[axis] / size if sizes is not None else 1.0
        length = int(size * scale + 1e-6) if sizes is None else sizes[axis]
        if length == size and scale == 1:
            continue
        at = _coordinates(length, size, scale, place).to(x.device)
        if mode == "nearest":
            x = x.index_select(axis, round_to(at).clamp(0, size - 1).long())
            continue
        at = at.clamp(0, size - 1)
        before = at.floor().long()
        share = (at - before).to(x.dtype).reshape([-1 if each == axis else 1 for each in range(x.ndim)])
        after = (before + 1).clamp_max(size - 1)
        x = x.index_select(axis, before) * (1 - share) + x.index_select(axis, after) * share
    return x


def _coordinates(length: int, size: int, scale: float, place: str) -> Tensor:
    """Where each of `length` values lies on the axis of `size` that it is taken from."""
    at = torch.arange(length, dtype=torch.float32)
    if place == "asymmetric":
        return at / scale
    if place == "align_corners":
        return at * (size - 1) / max(length - 1, 1)
    if place == "pytorch_half_pixel" and length == 1:
        return torch.zeros(1)
    if place in ("half_pixel", "pytorch_half_pixel"):
        return (at + 0.5) / scale - 0.5
    raise UnsupportedOpError(f"Resize: {place} coordinates are not supported")


LAYER_OPERATORS: dict[str, Op] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Celu": lambda inputs, attributes: F.celu(inputs[0], attributes.get("alpha", 1.0)),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Dropout": lambda inputs, _: inputs[0],
    "Elu": lambda inputs, attributes: F.elu(inputs[0], attributes.get("alpha", 1.0)),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean(dim=tuple(range(2, inputs[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda inputs, _: inputs[0].amax(dim=tuple(range(2, inputs[0].ndim)), keepdim=True),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": from_function(F.hardswish),
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),
    "LogSoftmax": _soft(torch.log_softmax),
    "MaxPool": _max_pool,
    "Mish": from_function(F.mish),
    "PRelu": _prelu,
    "Relu": from_function(torch.relu),
    "Resize": _resize,
    "Selu": from_function(F.selu),
    "Sigmoid": from_function(torch.sigmoid),
    "Softmax": _soft(torch.softmax),
    "Softplus": from_function(F.softplus),
    "Softsign": from_function(F.softsign),
    "SpaceToDepth": _space_to_depth,
    "Tanh": from_function(torch.tanh),
    "ThresholdedRelu": _thresholded_relu,
    "Upsample": _upsample,
}
