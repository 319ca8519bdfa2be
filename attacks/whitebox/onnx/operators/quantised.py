"""Numbers kept in few bits (QDQ and operator form), with a straight-through gradient (ai.onnx).

A quantised value is carried as a floating-point tensor of whole numbers, so that the gradient passes; rounding is
taken for the identity on the way back (Bengio, Leonard and Courville 2013), the ends of the range cut it as they cut
the value.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medward.attacks.whitebox.onnx.operators.base import (
    Attributes,
    Inputs,
    Op,
    UnsupportedOpError,
    optional_input,
    round_straight_through,
)
from medward.attacks.whitebox.onnx.operators.layers import LAYER_OPERATORS as LAYERS


def _along(value: Tensor, x: Tensor, axis: int) -> Tensor:
    """One number for all of `x`, or one per slice of `axis`, in a shape that multiplies `x`."""
    if value.numel() == 1 or x.ndim < 2:
        return value.reshape(()) if value.numel() == 1 else value
    return value.reshape([-1 if each == axis % x.ndim else 1 for each in range(x.ndim)])


def _quantise(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1) -> Tensor:
    kind = torch.uint8 if zero is None else zero.dtype
    if kind.is_floating_point:
        raise UnsupportedOpError(f"QuantizeLinear: {kind} is not supported, only whole numbers")
    lowest, highest = torch.iinfo(kind).min, torch.iinfo(kind).max
    shift = 0 if zero is None else _along(zero, x, axis).to(scale.dtype)
    return torch.clamp(round_straight_through(x / _along(scale, x, axis)) + shift, lowest, highest)


def _dequantise(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1) -> Tensor:
    shift = 0 if zero is None else _along(zero, x, axis).to(scale.dtype)
    return (x.to(scale.dtype) - shift) * _along(scale, x, axis)


def _unblocked(attributes: Attributes) -> int:
    if attributes.get("block_size", 0):
        raise UnsupportedOpError(f"QuantizeLinear: block_size = {attributes['block_size']} is not supported, only 0")
    axis: int = attributes.get("axis", 1)
    return axis


def _quantise_linear(inputs: Inputs, attributes: Attributes) -> Any:
    return _quantise(inputs[0], inputs[1], optional_input(inputs, 2), _unblocked(attributes))


def _dequantise_linear(inputs: Inputs, attributes: Attributes) -> Any:
    return _dequantise(inputs[0], inputs[1], optional_input(inputs, 2), _unblocked(attributes))


def _dynamic_quantise_linear(inputs: Inputs, _: Attributes) -> Any:
    x = inputs[0]
    low, high = x.detach().min().clamp_max(0), x.detach().max().clamp_min(0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / scale), 0, 255).to(torch.uint8)
    return _quantise(x, scale, zero), scale, zero


def _shifted(inputs: Inputs, which: int, like: torch.dtype, axis: int) -> Tensor:
    """The operand `which` of two less its zero point, the operand `which` + 2."""
    x: Tensor = inputs[which].to(like)
    zero = optional_input(inputs, which + 2)
    return x if zero is None else x - _along(zero, x, axis).to(like)


def _mat_mul_integer(inputs: Inputs, _: Attributes) -> Any:
    like = inputs[0].dtype if inputs[0].is_floating_point() else torch.float32
    return _shifted(inputs, 0, like, -2) @ _shifted(inputs, 1, like, -1)


def _conv_integer(inputs: Inputs, attributes: Attributes) -> Any:
    like = inputs[0].dtype if inputs[0].is_floating_point() else torch.float32
    return LAYERS["Conv"]([_shifted(inputs, 0, like, 1), _shifted(inputs, 1, like, 0)], attributes)


def _q_linear_mat_mul(inputs: Inputs, _: Attributes) -> Any:
    a, b = _dequantise(inputs[0], inputs[1], inputs[2], -2), _dequantise(inputs[3], inputs[4], inputs[5], -1)
    return _quantise(a @ b, inputs[6], inputs[7])


def _q_linear_conv(inputs: Inputs, attributes: Attributes) -> Any:
    x, weight = _dequantise(inputs[0], inputs[1], inputs[2]), _dequantise(inputs[3], inputs[4], inputs[5], 0)
    bias = optional_input(inputs, 8)
    wide = None if bias is None else bias.to(x.dtype) * (inputs[1] * inputs[4]).reshape(-1)
    return _quantise(LAYERS["Conv"]([x, weight, wide], attributes), inputs[6], inputs[7])


QUANTISED_OPERATORS: dict[str, Op] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantise_linear,
    "DynamicQuantizeLinear": _dynamic_quantise_linear,
    "MatMulInteger": _mat_mul_integer,
    "QLinearConv": _q_linear_conv,
    "QLinearMatMul": _q_linear_mat_mul,
    "QuantizeLinear": _quantise_linear,
}
