"""Affine layers before they are bounded: what follows them and is affine too is taken into their weights.

Runtimes do the same (batch normalisation, scales and constants go into a convolution), so magnitudes of what was added
are kept beside the sums: rounding is bounded by those, whichever way it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.graph_writer import Box, GraphWriter
from medward.guard.certify.rounding import rounded_down, rounded_up, rounding_factor, underflow_allowance

_Weights = NDArray[np.float64]
_FEW_TERMS = 64  # up to which four passes cost less than two, and what is done to their values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """An affine layer maps the values in `source` to weight x + bias, by `operator`: Conv, Gemm (of rows) or MatMul.

    `weight` has output channels first for Conv ``(M, C/group, ...)`` and last for the others ``(D, M)``; `bias (M,)`.
    `magnitude` and `bias_magnitude` bound what any order of computation adds up: at least the absolute values. `terms`
    are the products in one output; `attributes` those of the operator.
    """

    operator: str
    source: Box
    weight: _Weights
    bias: _Weights
    magnitude: _Weights
    bias_magnitude: _Weights
    terms: int
    attributes: dict[str, object]

    @property
    def channels(self) -> int:
        """How many output channels there are."""
        return len(self.bias)

    @property
    def cancels(self) -> bool:
        """Whether weights are differences, smaller than what was added up to make them."""
        return bool((self.magnitude > np.abs(self.weight)).any())

    def scaled(self, scale: _Weights) -> Affine:
        """The layer followed by a multiplication of each output channel with `scale (M,)`."""
        shape = (-1, *[1] * (self.weight.ndim - 1)) if self.operator == "Conv" else (1, -1)
        along = scale.reshape(shape)
        return replace(
            self,
            weight=self.weight * along,
            bias=self.bias * scale,
            magnitude=self.magnitude * np.abs(along),
            bias_magnitude=self.bias_magnitude * np.abs(scale),
        )

    def shifted(self, shift: _Weights) -> Affine:
        """The layer followed by an addition of `shift (M,)`."""
        return replace(self, bias=self.bias + shift, bias_magnitude=self.bias_magnitude + np.abs(shift))

    def differences(self) -> Affine:
        """The outputs j - i for i < j of a Gemm, in the order of `class_pairs`: as tight as a box can say."""
        first, second = class_pairs(self.channels)
        return replace(
            self,
            weight=self.weight[:, second] - self.weight[:, first],
            bias=self.bias[second] - self.bias[first],
            magnitude=self.magnitude[:, second] + self.magnitude[:, first],
            bias_magnitude=self.bias_magnitude[second] + self.bias_magnitude[first],
        )


def affine_layer(
    operator: str, source: Box, weight: NDArray[np.floating], bias: NDArray[np.floating], **attributes: object
) -> Affine:
    """The layer of a file's own weights."""
    wide, offset = weight.astype(np.float64), bias.astype(np.float64)
    terms = int(np.prod(wide.shape[1:])) if operator == "Conv" else len(wide)
    return Affine(
        operator=operator,
        source=source,
        weight=wide,
        bias=offset,
        magnitude=np.abs(wide),
        bias_magnitude=np.abs(offset),
        terms=terms,
        attributes=attributes,
    )


def bounded_affine(writer: GraphWriter, layer: Affine) -> Box:
    """The box of an affine layer's outputs, sound for any order of summation (`rounding`)."""
    if layer.cancels or (layer.source.nonnegative and layer.terms <= _FEW_TERMS):
        return _by_signs(writer, layer)
    return _by_centre(writer, layer)


def _by_centre(writer: GraphWriter, layer: Affine) -> Box:
    """Two passes: the centre with the weights, the radius with their magnitudes."""
    box, factor = layer.source, rounding_factor(layer.terms)
    centre, magnitude = writer.add("Add", box.lower, box.upper), layer.magnitude
    if box.nonnegative:  # (1 + f) (u - l) / 2 + f (u + l) / 2 is (1/2 + f) (u - l / (1 + 2 f))
        least = writer.add("Mul", box.lower, writer.constant(rounded_down(1 / (1 + 2 * factor))))
        radius, magnitude = writer.add("Sub", box.upper, least), magnitude * (0.5 + factor)
    else:
        width, size = writer.add("Sub", box.upper, box.lower), writer.add("Abs", centre)
        spread = writer.add("Mul", width, writer.constant(rounded_up((1 + factor) / 2)))
        radius = writer.add("Add", spread, writer.add("Mul", size, writer.constant(rounded_up(factor / 2))))
    middle = _passed(writer, layer, centre, layer.weight / 2, layer.bias)
    spread = _passed(writer, layer, radius, rounded_up(magnitude), _slack(layer))
    return Box(lower=writer.add("Sub", middle, spread), upper=writer.add("Add", middle, spread), terms=layer.terms)


def _by_signs(writer: GraphWriter, layer: Affine) -> Box:
    """Four passes: weights of either sign with either end, so that nothing is done to the values between layers."""
    box, factor = layer.source, rounding_factor(layer.terms)
    rising, falling = np.maximum(layer.weight, 0), np.minimum(layer.weight, 0)
    rounding, slack = factor * layer.magnitude, _slack(layer)
    if box.nonnegative:
        first = _passed(writer, layer, box.lower, rising, rounded_down(layer.bias - slack))
        lower = _passed(writer, layer, box.upper, rounded_down(falling - rounding), None, first)
        first = _passed(writer, layer, box.lower, falling, rounded_up(layer.bias + slack))
        upper = _passed(writer, layer, box.upper, rounded_up(rising + rounding), None, first)
        return Box(lower=lower, upper=upper, terms=layer.terms)
    error = _passed(writer, layer, writer.magnitude(box), rounded_up(rounding), slack)
    first = _passed(writer, layer, box.lower, rising, layer.bias)
    lower = _passed(writer, layer, box.upper, falling, None, first)
    first = _passed(writer, layer, box.lower, falling, layer.bias)
    upper = _passed(writer, layer, box.upper, rising, None, first)
    return Box(lower=writer.add("Sub", lower, error), upper=writer.add("Add", upper, error), terms=layer.terms)


def _slack(layer: Affine) -> NDArray[np.float32]:
    return rounded_up(rounding_factor(layer.terms) * layer.bias_magnitude + underflow_allowance(layer.terms))


def _passed(
    writer: GraphWriter,
    layer: Affine,
    inputs: str,
    weight: NDArray[np.floating],
    bias: NDArray[np.floating] | None,
    also: str | None = None,
) -> str:
    """One pass of the layer with other weights, to which the tensor `also` is added."""
    constants = [writer.constant(each) for each in (weight, bias) if each is not None]
    if layer.operator == "Conv":
        product = writer.add("Conv", inputs, *constants, **layer.attributes)
        return product if also is None else writer.add("Add", product, also)
    if layer.operator == "Gemm":
        return writer.add("Gemm", inputs, *constants, *([] if also is None else [also]))
    product = writer.add("MatMul", inputs, constants[0])
    for term in (*constants[1:], *([] if also is None else [also])):
        product = writer.add("Add", product, term)
    return product


@cache
def class_pairs(classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs i < j of classes, as their first and their second."""
    pairs = np.array(list(combinations(range(classes), 2)), np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
