"""Rules for layers: what is a sum of products, or a mean, of its inputs."""

from __future__ import annotations

import math

import numpy as np

from medward.guard.certify.affine import Affine, affine_layer, bounded_affine
from medward.guard.certify.elementwise_rules import scaled_box, squashed_box
from medward.guard.certify.graph_writer import Box
from medward.guard.certify.tensors import BoundedNode, Softmaxed, Tensor, Tensors, UnboundedError


def bound_convolution(tensors: Tensors, node: BoundedNode) -> Affine:
    """A convolution with constant weights."""
    weight, bias = tensors.weight(node, 1), tensors.weight(node, 2) if len(node.inputs) > 2 else None
    known = {name: each for name, each in node.attributes.items() if name != "kernel_shape"}
    none = np.zeros(len(weight))
    return affine_layer("Conv", tensors.box(node.inputs[0]), weight, none if bias is None else bias, **known)


def bound_gemm(tensors: Tensors, node: BoundedNode) -> Affine:
    """A product of rows with a constant matrix, and a constant."""
    if node.attributes.get("transA", 0):
        raise UnboundedError("Gemm with transA turns rows into columns and cannot be bounded; export it without")
    weight = tensors.weight(node, 1)
    weight = weight.T if node.attributes.get("transB", 0) else weight
    layer = affine_layer("Gemm", tensors.box(node.inputs[0]), weight, np.zeros(weight.shape[1]))
    layer = layer.scaled(np.full(layer.channels, node.attributes.get("alpha", 1.0)))
    if len(node.inputs) < 3 or not node.inputs[2]:
        return layer
    offset = tensors.weight(node, 2)
    if offset.size not in (1, layer.channels):
        raise UnboundedError(f"Gemm adds a constant of shape {offset.shape}; give one number for each output")
    return layer.shifted(np.full(layer.channels, offset.reshape(-1) * node.attributes.get("beta", 1.0)))


def bound_mat_mul(tensors: Tensors, node: BoundedNode) -> Affine:
    """A product with a constant matrix."""
    weight = tensors.weight(node, 1)
    if weight.ndim != 2:
        raise UnboundedError(f"MatMul by a constant of shape {weight.shape} cannot be bounded; use a matrix")
    operator = "Gemm" if tensors.rank(node.inputs[0]) == 2 else "MatMul"
    return affine_layer(operator, tensors.box(node.inputs[0]), weight, np.zeros(weight.shape[1]))


def bound_batch_norm(tensors: Tensors, node: BoundedNode) -> Tensor:
    """Batch normalisation in evaluation mode: a scale and a shift of each channel."""
    if node.attributes.get("training_mode", 0):
        raise UnboundedError("BatchNormalization in training mode looks at other rows; export it in evaluation mode")
    gain, offset, mean, variance = (tensors.weight(node, place).astype(np.float64) for place in range(1, 5))
    scale = gain / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    found = tensors.values[node.inputs[0]]
    if isinstance(found, Affine) and found.channels == len(scale):
        return found.scaled(scale).shifted(-mean * scale).shifted(offset)
    along = (-1, *[1] * (tensors.rank(node.inputs[0]) - 2))
    box = scaled_box(tensors, tensors.box(node.inputs[0]), "Mul", scale.reshape(along))
    for shift in (-mean * scale, offset):
        box = tensors.writer.added(box, tensors.writer.fixed(shift.reshape(along)))
    return box


def bound_linear_regressor(tensors: Tensors, node: BoundedNode) -> Affine:
    """The numbers of a linear regressor."""
    targets = node.attributes.get("targets", 1)
    if node.attributes.get("post_transform", b"NONE") != b"NONE":
        raise UnboundedError("LinearRegressor with a post_transform cannot be bounded; use NONE")
    weight = np.array(node.attributes["coefficients"]).reshape(targets, -1).T
    bias = np.array(node.attributes.get("intercepts", [0.0] * targets))
    return affine_layer("Gemm", tensors.box(node.inputs[0]), weight, bias)


def bound_linear_classifier(tensors: Tensors, node: BoundedNode) -> Tensor:
    """The scores of a linear classifier, as many as there are intercepts."""
    bias = np.array(node.attributes["intercepts"])
    after = node.attributes.get("post_transform", b"NONE")
    if len(bias) < 2 or after not in (b"NONE", b"LOGISTIC", b"SOFTMAX"):
        raise UnboundedError(f"LinearClassifier of {len(bias)} scores with post_transform {after!r} cannot be bounded")
    weight = np.array(node.attributes["coefficients"]).reshape(len(bias), -1).T
    layer = affine_layer("Gemm", tensors.box(node.inputs[0]), weight, bias)
    if after == b"SOFTMAX":
        return Softmaxed(layer)
    if after == b"NONE":
        return layer
    return squashed_box(tensors.writer, bounded_affine(tensors.writer, layer), "Sigmoid")


def bound_average_pool(tensors: Tensors, node: BoundedNode) -> Box:
    """Means of windows."""
    return _averaged(tensors, node, math.prod(node.attributes["kernel_shape"]))


def bound_global_average_pool(tensors: Tensors, node: BoundedNode) -> Box:
    """Means of channels."""
    return _averaged(tensors, node, math.prod(tensors.shapes[node.inputs[0]][2:]))


def bound_reduce_mean(tensors: Tensors, node: BoundedNode) -> Box:
    """Means along axes, of which the first is none."""
    axes = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = tensors.weight(node, 1).tolist()
    shape = tensors.shapes[node.inputs[0]]
    axes = list(range(len(shape))) if not axes else [axis % len(shape) for axis in axes]
    if 0 in axes:
        raise UnboundedError("ReduceMean over the rows of a batch cannot be bounded")
    return _averaged(tensors, node, math.prod(shape[axis] for axis in axes))


def _averaged(tensors: Tensors, node: BoundedNode, terms: int) -> Box:
    """A mean of so many values rises with each of them."""
    box, writer, given = tensors.box(node.inputs[0]), tensors.writer, node.inputs[0]
    lower, upper = (writer.copy(node.proto, {given: end}) for end in (box.lower, box.upper))
    size = writer.copy(node.proto, {given: writer.magnitude(box)})
    return writer.widened(Box(lower=lower, upper=upper), [size], terms)
