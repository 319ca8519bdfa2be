"""Rules for what is done to values one by one, and for what moves them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.affine import Affine
from medward.guard.certify.graph_writer import Box, GraphWriter
from medward.guard.certify.rounding import SIGMOID_ERROR, rounded_up
from medward.guard.certify.tensors import BoundedNode, Softmaxed, Tensor, Tensors, UnboundedError

_MOVES = ("Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Pad")
_KEEP_SIGNS = (*_MOVES, "MaxPool", "GlobalMaxPool", "LeakyRelu")


def bound_same(tensors: Tensors, node: BoundedNode) -> Tensor:
    """What does not change values."""
    return tensors.values[node.inputs[0]]


def bound_dropout(tensors: Tensors, node: BoundedNode) -> Tensor:
    """What drops nothing, as it does when a model answers."""
    if len(node.inputs) > 2 and node.inputs[2] and tensors.weight(node, 2).any():
        raise UnboundedError("Dropout in training mode answers by chance; export the model in evaluation mode")
    return bound_same(tensors, node)


def bound_cast(tensors: Tensors, node: BoundedNode) -> Tensor:
    """A cast to single precision, of what is that already."""
    if node.attributes["to"] != 1:  # TensorProto.FLOAT
        raise UnboundedError("Cast to other types than single precision cannot be bounded; export the model in float32")
    return bound_same(tensors, node)


def bound_softmax(tensors: Tensors, node: BoundedNode) -> Softmaxed:
    """Probabilities over the classes of a row, kept as what is beneath them."""
    axis, rank = node.attributes.get("axis", -1), tensors.rank(node.inputs[0])
    beneath = tensors.values[node.inputs[0]]
    if rank != 2 or axis not in (-1, 1) or not isinstance(beneath, Box | Affine):
        raise UnboundedError("Softmax can be bounded as the last node over the classes of a row only")
    return Softmaxed(beneath)


def bound_normaliser(tensors: Tensors, node: BoundedNode) -> Tensor:
    """Division of probabilities by their sum, which is one but for rounding."""
    found = tensors.values[node.inputs[0]]
    if not isinstance(found, Softmaxed) or node.attributes.get("norm", b"MAX") != b"L1":
        raise UnboundedError("Normalizer can be bounded behind a Softmax only, with norm = L1")
    return found


def bound_sum(tensors: Tensors, node: BoundedNode) -> Tensor:
    """Add and Sub, of two tensors or with a constant."""
    writer, minus = tensors.writer, node.operator == "Sub"
    first, second = node.inputs
    if first in tensors.constants:
        box = tensors.box(second)
        if not box.terms:
            return _rounded_once(tensors, node, second, falls=minus)
        return writer.added(writer.negated(box) if minus else box, writer.fixed(tensors.constants[first]))
    if second not in tensors.constants:
        box = tensors.box(second)
        return writer.added(tensors.box(first), writer.negated(box) if minus else box)
    shift = -tensors.constants[second] if minus else tensors.constants[second]
    found, channels = tensors.values[first], _by_channel(tensors, first, shift)
    if isinstance(found, Affine) and channels is not None:
        return found.shifted(channels)
    box = tensors.box(first)
    return writer.added(box, writer.fixed(shift)) if box.terms else _rounded_once(tensors, node, first)


def bound_product(tensors: Tensors, node: BoundedNode) -> Tensor:
    """Mul and Div by a constant."""
    first, second = node.inputs
    if node.operator == "Mul" and first in tensors.constants:
        first, second = second, first
    if second not in tensors.constants:
        raise UnboundedError(f"{node.operator} of two tensors that both change cannot be bounded")
    factor = tensors.constants[second].astype(np.float64)
    if isinstance(tensors.values[first], Softmaxed) and (factor == 1).all():
        return tensors.values[first]
    if node.operator == "Div" and (factor == 0).any():
        raise UnboundedError("Div by zero cannot be bounded")
    found, channels = tensors.values[first], _by_channel(tensors, first, factor)
    if isinstance(found, Affine) and channels is not None:
        return found.scaled(1 / channels if node.operator == "Div" else channels)
    box = tensors.box(first)
    if box.terms or ((factor < 0).any() and (factor > 0).any()):
        return scaled_box(tensors, box, node.operator, factor)
    return _rounded_once(tensors, node, first, falls=bool((factor < 0).any()))


def _rounded_once(tensors: Tensors, node: BoundedNode, name: str, *, falls: bool = False) -> Box:
    """One operation with a constant, done to both ends as the file does it: rounding is monotone.

    A runtime that leaves this rounding out, because it folds a scale into the layer behind, is paid for there.
    """
    box, writer = tensors.box(name), tensors.writer
    lower, upper = (writer.copy(node.proto, {name: end}) for end in (box.lower, box.upper))
    rises = node.operator in ("Add", "Mul", "Div") and not falls
    constants = [tensors.constants[each] for each in node.inputs if each != name]
    nonnegative = box.nonnegative and rises and all((each >= 0).all() for each in constants)
    return Box(lower=upper, upper=lower) if falls else Box(lower=lower, upper=upper, nonnegative=nonnegative)


def bound_scaler(tensors: Tensors, node: BoundedNode) -> Box:
    """(x - offset) * scale, of scikit-learn's scalers."""
    offset, scale = (np.array(node.attributes[name], np.float64) for name in ("offset", "scale"))
    moved = tensors.writer.added(tensors.box(node.inputs[0]), tensors.writer.fixed(-offset))
    return scaled_box(tensors, moved, "Mul", scale)


def scaled_box(tensors: Tensors, box: Box, operator: str, factor: NDArray[np.float64]) -> Box:
    """A box times or divided by a constant, widened for the constant's own rounding."""
    writer, name = tensors.writer, tensors.writer.constant(factor)
    ends = [writer.add(operator, end, name) for end in (box.lower, box.upper)]
    if (factor < 0).any():
        ends = [writer.add("Min", *ends), writer.add("Max", *ends)]
    product = Box(lower=ends[0], upper=ends[1], nonnegative=box.nonnegative and bool((factor >= 0).all()))
    return writer.widened(product, [writer.magnitude(product)], 0)


def _by_channel(tensors: Tensors, name: str, constant: NDArray[Any]) -> NDArray[np.float64] | None:
    """A constant as one number for each output channel of the affine layer `name`; None where it is more than that."""
    found = tensors.values[name]
    if not isinstance(found, Affine) or name not in tensors.shapes:
        return None
    rank, channels = tensors.rank(name), found.channels
    axis = 1 if found.operator == "Conv" else rank - 1
    sizes = (1,) * (rank - constant.ndim) + constant.shape
    if len(sizes) != rank or any(size != 1 for place, size in enumerate(sizes) if place != axis):
        return None
    return np.full(channels, constant.reshape(-1).astype(np.float64)) if sizes[axis] in (1, channels) else None


def bound_monotone(tensors: Tensors, node: BoundedNode) -> Box:
    """A rule for what moves values, or applies one nondecreasing function that rounds at most once, to each end."""
    box = tensors.box(node.inputs[0])
    lower, upper = (tensors.writer.copy(node.proto, {node.inputs[0]: end}) for end in (box.lower, box.upper))
    moved = node.operator in _MOVES
    return Box(
        lower=lower,
        upper=upper,
        nonnegative=node.operator == "Relu" or (box.nonnegative and node.operator in _KEEP_SIGNS),
        terms=box.terms if moved else 0,
    )


def bound_leaky_relu(tensors: Tensors, node: BoundedNode) -> Box:
    """A slope for what is negative, which must not fall."""
    slope = node.attributes.get("alpha", 0.01)
    if slope < 0:
        raise UnboundedError(f"LeakyRelu with alpha = {slope:g} falls and rises; use alpha >= 0")
    return bound_monotone(tensors, node)


def bound_clip(tensors: Tensors, node: BoundedNode) -> Box:
    """Constant limits."""
    limits = [tensors.constants.get(each) for each in node.inputs[1:] if each]
    if any(each is None for each in limits):
        raise UnboundedError("Clip has limits that are no constants; export the model with constant ones")
    box = bound_monotone(tensors, node)
    least = tensors.constants[node.inputs[1]] if len(node.inputs) > 1 and node.inputs[1] else node.attributes.get("min")
    return Box(lower=box.lower, upper=box.upper, nonnegative=least is not None and float(least) >= 0)


def bound_squashing(tensors: Tensors, node: BoundedNode) -> Box:
    """Sigmoid and Tanh."""
    return squashed_box(tensors.writer, tensors.box(node.inputs[0]), node.operator)


def squashed_box(writer: GraphWriter, box: Box, operator: str) -> Box:
    """Sigmoid and Tanh: the true function rises, the runtime's may lie `SIGMOID_ERROR` beside it at either place."""
    slack = writer.constant(rounded_up(2 * SIGMOID_ERROR))
    lower, upper = (writer.add(operator, end) for end in (box.lower, box.upper))
    return Box(lower=writer.add("Sub", lower, slack), upper=writer.add("Add", upper, slack))


def bound_pad(tensors: Tensors, node: BoundedNode) -> Box:
    """A constant, or values repeated, beside the others."""
    box = bound_monotone(tensors, node)
    value = node.attributes.get("value", 0.0)
    if len(node.inputs) > 2 and node.inputs[2]:
        value = float(tensors.weight(node, 2))
    return Box(lower=box.lower, upper=box.upper, nonnegative=box.nonnegative and value >= 0, terms=box.terms)


def bound_concat(tensors: Tensors, node: BoundedNode) -> Box:
    """Tensors side by side, constants among them."""
    writer = tensors.writer
    boxes = {
        name: writer.fixed(tensors.constants[name]) if name in tensors.constants else tensors.box(name)
        for name in node.inputs
    }
    return Box(
        lower=writer.copy(node.proto, {name: each.lower for name, each in boxes.items()}),
        upper=writer.copy(node.proto, {name: each.upper for name, each in boxes.items()}),
        nonnegative=all(each.nonnegative for each in boxes.values()),
        terms=max(each.terms for each in boxes.values()),
    )
