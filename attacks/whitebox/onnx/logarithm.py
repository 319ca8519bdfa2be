"""Scores of an ONNX graph that keep their gradient when the model is sure of itself.

A file that ends in probabilities gives an attacker nothing once softmax rounds to 0 and 1, and a Clip behind it cuts
the gradient by design. Here the end of the graph is evaluated again in the log domain, from the steps that made it:
log-softmax for softmax, a sum of logarithms for a product, log-sum-exp for a mean over members. What keeps the order of
the classes or makes two equal (a Clip, a rounding, a number added to all) is left out. Cross-entropy and margins of
log-probabilities are those of the logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from medward.attacks.whitebox.onnx.operators import OPERATORS, Node, linear_scores

_TINY = 1e-30
_LEAST = -1e6  # a logarithm of zero, finite

MOVES = {"ArrayFeatureExtractor", "Cast", "Concat", "Dropout", "Expand", "Flatten", "Gather", "GatherElements"}
MOVES |= {"GatherND", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"}
"""Operators that only move values about, so that any function of the values may be taken before them."""
ORDERED = {"GlobalMaxPool", "Max", "MaxPool", "Min", "ReduceMax", "ReduceMin"}
"""Operators that pick values by order, so that an increasing function may be taken before them."""
AVERAGES = {"GlobalAveragePool", "Mean", "ReduceMean"}
AFFINE = {"Add", "Div", "Mul", "Sub"}


@dataclass(frozen=True, slots=True)
class Unsaturated:
    """Values of one run of a graph, evaluated again from what they were made of.

    With `exact` nothing is left out, and all values are the graph's own.
    """

    values: Mapping[str, Any]
    producers: Mapping[str, Node]
    exact: bool = False

    def score(self, name: str) -> Tensor:
        """The value itself, where it is a shifted or scaled logarithm of probabilities or a clipped score."""
        node = None if self.exact else self.producers.get(name)
        if node is not None:
            if node.op == "Log":
                return self.log(node.inputs[0])
            if (inner := self._beneath(node)) is not None:
                return self.score(inner)
            if self._moves(node) or node.op in AFFINE:
                return self._again(node, name, {each: self.score(each) for each in self._moved(node)})
        value: Tensor = self.values[name]
        return value

    def log(self, name: str) -> Tensor:
        """The logarithm of a value that is not negative."""
        node = self.producers.get(name)
        found = None if node is None or not node.inputs else self._log(node, name)
        return floored_log(self.values[name]) if found is None else found

    def _log(self, node: Node, name: str) -> Tensor | None:
        first = node.inputs[0]
        if (inner := self._beneath(node)) is not None:
            return self.log(inner)
        if self._moves(node) or node.op in ORDERED:
            return self._again(node, name, {each: self.log(each) for each in self._moved(node)})
        match node.op:
            case "Exp":
                found: Tensor = self.values[first]
                return found
            case "Softmax":
                softmax: Tensor = OPERATORS["LogSoftmax"]([self.values[first]], node.attributes)
                return softmax
            case "Sigmoid":
                return F.logsigmoid(self.values[first])
            case "Sub" if self._is_one(first):
                return self.log_complement(node.inputs[1])
            case "Sqrt":
                return 0.5 * self.log(first)
            case "Normalizer" if node.attributes.get("norm") == "L1":
                return F.log_softmax(self.log(first), dim=-1)
            case "LpNormalization" if node.attributes.get("p", 2) == 1:
                return F.log_softmax(self.log(first), dim=node.attributes.get("axis", -1))
            case "LinearClassifier" if name == node.outputs[1]:
                raw = linear_scores([self.values[first]], node.attributes)
                transforms = {"SOFTMAX": lambda s: F.log_softmax(s, dim=1), "LOGISTIC": F.logsigmoid}
                transform = transforms.get(node.attributes.get("post_transform", "NONE"))
                return None if transform is None else transform(raw)
        positive = all(bool((self.values[each] >= 0).all()) for each in node.inputs[:2] if self._is_float(each))
        if not positive:
            return None
        match node.op:
            case "Mul":
                return self.log(first) + self.log(node.inputs[1])
            case "Div":
                return self.log(first) - self.log(node.inputs[1])
            case "Pow":
                powered: Tensor = self.log(first) * self.values[node.inputs[1]]
                return powered
            case "Add" | "ReduceSum" | "Sum" | "ReduceMean" | "Mean" | "GlobalAveragePool":
                return self._sum(node, [self.log(each) for each in self._moved(node)])
        return None

    def log_complement(self, name: str) -> Tensor:
        """The logarithm of 1 less a value in [0, 1]."""
        node = self.producers.get(name)
        if node is not None and node.inputs:
            if (inner := self._beneath(node)) is not None:
                return self.log_complement(inner)
            if self._moves(node):
                return self._again(node, name, {each: self.log_complement(each) for each in self._moved(node)})
            if node.op in AVERAGES:
                return self._sum(node, [self.log_complement(each) for each in self._moved(node)])
            if node.op == "Sigmoid":
                return F.logsigmoid(-self.values[node.inputs[0]])
            if node.op == "Sub" and self._is_one(node.inputs[0]):
                return self.log(node.inputs[1])
        return floored_log(1 - self.values[name])

    def _beneath(self, node: Node) -> str | None:
        """What a step was given that only clips, rounds or adds one number to all; None for other steps."""
        if self.exact:
            return None
        if node.op in ("Ceil", "Clip", "Floor", "Round") or node.attributes.get("carried", False):
            return node.inputs[0]
        if node.op == "DequantizeLinear":
            maker = self.producers.get(node.inputs[0])
            return maker.inputs[0] if maker is not None and maker.op == "QuantizeLinear" else None
        if node.op in ("Add", "Max", "Min") and len(node.inputs) == 2:
            moving = [each for each in node.inputs if not self._is_number(each)]
            return moving[0] if len(moving) == 1 else None
        return None

    def _is_number(self, name: str) -> bool:
        """Whether a value is one number, the same for every input."""
        maker = self.producers.get(name)
        return self.values[name].numel() == 1 and (maker is None or maker.op == "Constant")

    def _moves(self, node: Node) -> bool:
        rounds = node.attributes.get("carried", False)
        return node.op in MOVES and not rounds and self._is_float(self._moved(node)[0])

    def _moved(self, node: Node) -> tuple[str, ...]:
        """The inputs that hold values, not sizes or places."""
        if node.op == "Where":
            return node.inputs[1:]
        return node.inputs if node.op in ("Concat", "Max", "Min", "Mean", "Sum", *AFFINE) else node.inputs[:1]

    def _again(self, node: Node, name: str, changed: Mapping[str, Tensor]) -> Tensor:
        """The output `name` of a step that is given other values."""
        inputs = [changed[each] if each in changed else self.values[each] if each else None for each in node.inputs]
        result = OPERATORS[node.op](inputs, node.attributes)
        found: Tensor = result[node.outputs.index(name)] if isinstance(result, tuple) else result
        return found

    def _sum(self, node: Node, logs: list[Tensor]) -> Tensor:
        """The logarithm of a sum or mean of values whose logarithms are `logs`.

        Where every member is sure of itself, for whichever class, that has no gradient; so the gradient of the mean of
        the logarithms is added, which any member gives.
        """
        floored = [each.clamp_min(_LEAST) for each in logs]
        if node.op in ("Add", "Sum", "Mean"):
            total, middle, count = reduce(torch.logaddexp, logs), reduce(torch.add, floored) / len(logs), len(logs)
        else:
            rest = [self.values[each] if each else None for each in node.inputs[1:]]
            axes = {"axes": range(2, logs[0].ndim)} if node.op == "GlobalAveragePool" else node.attributes
            total = OPERATORS["ReduceLogSumExp"]([logs[0], *rest], axes)
            middle = OPERATORS["ReduceMean"]([floored[0], *rest], axes)
            count = logs[0].numel() // total.numel()
        total = total - math.log(count) if node.op in AVERAGES else total
        found: Tensor = total + (middle - middle.detach())
        return found

    def _is_one(self, name: str) -> bool:
        return bool((self.values[name] == 1).all())

    def _is_float(self, name: str) -> bool:
        value = self.values.get(name)
        return isinstance(value, Tensor) and value.is_floating_point()


def floored_log(value: Tensor) -> Tensor:
    """The logarithm of a value that is not negative, that of `_TINY` for zero."""
    return value.clamp_min(_TINY).log()
