"""Boxes of values as pairs of tensors in an ONNX graph, and the nodes that are written of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.rounding import rounded_up, rounding_factor, underflow_allowance
from medward.guard.models.base import require_extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box says by name which tensors bound a tensor of the model from below and from above, elementwise.

    `nonnegative` says that both are at least zero. `terms` are the products that one value was summed of where a
    runtime may still fold an addition into that sum, else 0.
    """

    lower: str
    upper: str
    nonnegative: bool = False
    terms: int = 0


@dataclass(slots=True)
class GraphWriter:
    """A graph writer collects nodes and constants of a new graph under names that no other has."""

    taken: set[str]
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    _count: int = 0

    def name(self) -> str:
        """A name that is not taken."""
        while (name := f"bound_{self._count}") in self.taken:
            self._count += 1
        self._count += 1
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """The name of a new constant; floating-point ones are stored in single precision."""
        name = self.name()
        array = np.asarray(value)
        self.constants[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """The name of the one output of a new node."""
        name = self.name()
        helper = require_extra("onnx", "torch").helper
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def copy(self, node: Any, renamed: dict[str, str], outputs: Sequence[str] | None = None) -> str:
        """The name of the first output of a copy of `node` that reads other inputs and writes new outputs."""
        made = type(node)()
        made.CopyFrom(node)
        made.input[:] = [renamed.get(each, each) for each in node.input]
        made.output[:] = outputs or [self.name()]
        made.name = made.output[0]
        self.nodes.append(made)
        return str(made.output[0])

    def magnitude(self, box: Box) -> str:
        """The largest absolute value in a box, elementwise."""
        if box.nonnegative:
            return box.upper
        return self.add("Max", self.add("Abs", box.lower), self.add("Abs", box.upper))

    def widened(self, box: Box, sizes: Sequence[str], terms: int, error: float = 0.0) -> Box:
        """A box widened for one rounding of each of `sizes` in a sum of so many terms, and by an absolute `error`."""
        total = sizes[0]
        for each in sizes[1:]:
            total = self.add("Add", total, each)
        slack = self.add("Mul", total, self.constant(rounded_up(rounding_factor(terms))))
        slack = self.add("Add", slack, self.constant(rounded_up(error + underflow_allowance(terms))))
        return Box(lower=self.add("Sub", box.lower, slack), upper=self.add("Add", box.upper, slack), terms=box.terms)

    def added(self, first: Box, second: Box) -> Box:
        """The sum of two boxes; a runtime may add the one into the sum that the other is."""
        total = Box(
            lower=self.add("Add", first.lower, second.lower),
            upper=self.add("Add", first.upper, second.upper),
            terms=(terms := max(first.terms, second.terms)),
        )
        return self.widened(total, [self.magnitude(first), self.magnitude(second)], terms)

    def negated(self, box: Box) -> Box:
        """Minus a box, exactly."""
        return Box(lower=self.add("Neg", box.upper), upper=self.add("Neg", box.lower), terms=box.terms)

    def fixed(self, value: NDArray[Any]) -> Box:
        """A constant as a box."""
        name = self.constant(value)
        return Box(lower=name, upper=name, nonnegative=bool((np.asarray(value) >= 0).all()))
