"""From a box of inputs to a box of outputs: a walk over the layers of a network, one rule for each kind.

The network is traced by ``torch.fx``, so residual sums and functions are seen as layers are. Batch normalisation stands
as it is in eval mode and dropout does nothing. What has no rule is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from medward.guard.errors import MedwardError
from medward.guard.harden.certified.box import (
    TensorBox,
    affine_box,
    linear_box,
    monotone_box,
    multiplied_box,
    negated_box,
    normalised_box,
    raised_box,
    softmax_box,
    sum_box,
)
from medward.guard.models.base import first_line

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_MONOTONE = (
    *(nn.ReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softsign),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Softshrink, nn.Flatten, nn.Unflatten),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ConstantPad2d),
)
"""Layers none of whose outputs decreases when an input grows."""
_MONOTONE_FUNCTIONS: frozenset[object] = frozenset(
    {
        *(F.relu, F.relu6, F.elu, F.selu, F.celu, F.softplus, F.sigmoid, F.logsigmoid, F.tanh, F.hardtanh, F.pad),
        *(torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.clamp, torch.flatten, torch.reshape, torch.mean),
        *(torch.sum, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose, torch.clone, operator.getitem),
        *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
        *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
        *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    }
)
_MONOTONE_METHODS = frozenset(
    {
        *("relu", "sigmoid", "tanh", "exp", "clamp", "flatten", "reshape", "view", "mean", "sum", "squeeze"),
        *("unsqueeze", "permute", "transpose", "contiguous", "clone", "float", "to"),
    }
)
_SIZES = frozenset({"size", "dim", "shape", "ndim", "dtype", "device"})
"""What is asked of a tensor and is the same for every tensor of a box."""
_SUMS = frozenset({operator.add, torch.add, "add"})
_DIFFERENCES = frozenset({operator.sub, torch.sub, torch.subtract, "sub"})
_PRODUCTS = frozenset({operator.mul, torch.mul, torch.multiply, "mul"})
_QUOTIENTS = frozenset({operator.truediv, torch.div, torch.divide, "div"})


def traced_network(network: nn.Module) -> fx.GraphModule:
    """The layers and functions of `network` as a graph, with its own weights in it.

    Raises `MedwardError` for a network whose way depends on values.
    """
    try:
        return fx.symbolic_trace(nn.Sequential(network))  # so that a lone layer is followed as one
    except Exception as error:  # a user's network can raise nearly anything
        raise MedwardError(
            f"certified: the layers of {type(network).__name__} cannot be followed ({first_line(error)}); give a "
            "network whose forward takes one tensor and does not branch on its values"
        ) from error


def network_box(graph: fx.GraphModule, low: Tensor, high: Tensor) -> TensorBox:
    """A box that holds what the network of `graph` gives for every input from `low` to `high` ``(n, *shape)``.

    Raises `MedwardError` that names a layer without a rule.
    """
    found = _Propagation(graph).run(TensorBox(low.clone(), high.clone()))  # a layer may work in place
    if not isinstance(found, TensorBox) or not isinstance(found.low, Tensor):
        raise MedwardError(f"certified: the network must give one tensor of scores, got {type(found).__name__}")
    return found


class _Propagation(fx.Interpreter):
    """The walk: values that depend on the input are boxes, all others are themselves."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # a refusal is one sentence

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.fetch_attr(target)
        if not _holds_box(args, kwargs):
            return super().call_module(target, args, kwargs)
        if len(args) != 1 or kwargs:
            raise _refusal(type(layer).__name__)
        return _layer_box(layer, args[0])

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _holds_box(args, kwargs):
            return super().call_function(target, args, kwargs)
        if target in (torch.zeros_like, torch.ones_like):
            return target(args[0].low, *args[1:], **kwargs)
        if target is getattr and args[1] in _SIZES:
            return getattr(args[0].low, args[1])
        return _function_box(target, target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _holds_box(args, kwargs):
            return super().call_method(target, args, kwargs)
        if target in _SIZES:
            return getattr(args[0].low, target)(*args[1:], **kwargs)
        return _function_box(target, lambda x, *rest, **named: getattr(x, target)(*rest, **named), args, kwargs)


def _layer_box(layer: nn.Module, box: TensorBox) -> TensorBox:
    """The rule of a layer."""
    if isinstance(layer, nn.Linear):
        return linear_box(box, layer.weight, layer.bias)
    if isinstance(layer, _CONVOLUTIONS) and layer.padding_mode == "zeros":
        return affine_box(box, layer.weight, layer.bias, lambda x, w: layer._conv_forward(x, w, None))
    if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None:
        return normalised_box(box, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps)
    if isinstance(layer, nn.Softmax) and layer.dim in (1, -1) and box.low.ndim == 2:
        return softmax_box(box)
    if isinstance(layer, _PASSING):
        return box
    if isinstance(layer, _MONOTONE) or (isinstance(layer, nn.LeakyReLU) and layer.negative_slope >= 0):
        return monotone_box(box, layer)
    raise _refusal(type(layer).__name__)


def _function_box(
    name: object, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> TensorBox:
    """The rule of a function or of a tensor's method."""
    first: Any = args[0] if args else None
    rest = args[1:]
    found = _arithmetic_box(name, *args) if len(args) == 2 and not kwargs else None
    if found is not None:
        return found
    if name in (torch.cat, torch.concat):
        parts = [each if isinstance(each, TensorBox) else TensorBox(each, each) for each in first]
        return TensorBox(*(function([getattr(x, end) for x in parts], *rest, **kwargs) for end in ("low", "high")))
    if isinstance(first, TensorBox) and not _holds_box(rest, kwargs):
        if name is F.linear:
            return linear_box(first, *_weights(rest, kwargs))
        if name in (F.conv1d, F.conv2d, F.conv3d) and len(rest) >= 2:
            return affine_box(first, rest[0], rest[1], lambda x, w: function(x, w, None, *rest[2:], **kwargs))
        if name in (F.dropout, F.dropout2d, F.dropout3d):
            return first
        rising = name is F.leaky_relu and _slope(rest, kwargs) >= 0
        if rising or name in _MONOTONE_FUNCTIONS or name in _MONOTONE_METHODS:
            return monotone_box(first, lambda x: function(x, *rest, **kwargs))
    raise _refusal(name if isinstance(name, str) else getattr(name, "__name__", repr(name)))


def _arithmetic_box(name: object, first: Any, second: Any) -> TensorBox | None:
    """The rule of a sum, a difference, a product with a constant or a quotient by one; None for anything else."""
    if name is operator.iadd and isinstance(first, TensorBox):
        return raised_box(first, second)
    if name in _SUMS:
        return sum_box(first, second) if isinstance(first, TensorBox) else sum_box(second, first)
    if name in _DIFFERENCES:
        negative = negated_box(second) if isinstance(second, TensorBox) else -second
        return sum_box(first, negative) if isinstance(first, TensorBox) else sum_box(negative, first)
    if name in _PRODUCTS and isinstance(first, TensorBox) != isinstance(second, TensorBox):
        return multiplied_box(first, second) if isinstance(first, TensorBox) else multiplied_box(second, first)
    if name in _QUOTIENTS and not isinstance(second, TensorBox):
        return multiplied_box(first, 1 / second)
    return None


def _weights(rest: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    given = dict(zip(("weight", "bias"), rest, strict=False)) | kwargs
    return given["weight"], given.get("bias")


def _slope(rest: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    return float(rest[0] if rest else kwargs.get("negative_slope", 0.01))


def _holds_box(*values: Any) -> bool:
    """Whether a box is among the values or inside a tuple, list or mapping of them."""
    return any(
        isinstance(each, TensorBox)
        or (isinstance(each, tuple | list) and _holds_box(*each))
        or (isinstance(each, dict) and _holds_box(*each.values()))
        for each in values
    )


def _refusal(name: str) -> MedwardError:
    return MedwardError(
        f"certified: {name} has no interval bound here; give a network of convolutions, linear layers, batch "
        "normalisation, pooling, residual sums and activations that never decrease, or ours, with --architecture small"
    )
