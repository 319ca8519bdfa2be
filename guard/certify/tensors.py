"""What is known of each tensor of a file while its bounds are written: constants, boxes, affine layers, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from medward.guard.certify.affine import Affine, bounded_affine
from medward.guard.certify.graph_writer import Box, GraphWriter
from medward.guard.errors import MedwardError


@dataclass(frozen=True, slots=True)
class Softmaxed:
    """A tensor of probabilities by softmax: what compares them compares what is `beneath`."""

    beneath: Box | Affine


@dataclass(frozen=True, slots=True)
class Exact:
    """An exact tensor does not change with the input's values: sizes, and what is computed of them."""


Tensor = Box | Affine | Softmaxed | Exact


@dataclass(frozen=True, slots=True)
class BoundedNode:
    """A node of the file: its operator, the names it reads, its attributes, and the node itself."""

    operator: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: Any


class UnboundedError(MedwardError):
    """An unbounded model has a node for which no sound bound is known here."""


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of a file: `constants`, `values` of those that depend on the input, `shapes` for one row, by name."""

    writer: GraphWriter
    constants: dict[str, NDArray[Any]]
    values: dict[str, Tensor]
    shapes: dict[str, tuple[int, ...]]

    def box(self, name: str) -> Box:
        """The bounds of a tensor; an affine layer is bounded here, once."""
        value = self.values.get(name)
        if isinstance(value, Box):
            return value
        if isinstance(value, Affine):
            made = bounded_affine(self.writer, value)
            self.values[name] = made
            return made
        what = "probabilities by Softmax are" if isinstance(value, Softmaxed) else f"tensor {name!r} is"
        raise UnboundedError(f"{what} used within the file, which cannot be bounded; a Softmax must come last")

    def rank(self, name: str) -> int:
        """How many axes there are."""
        return len(self.shapes[name])

    def weight(self, node: BoundedNode, place: int) -> NDArray[Any]:
        """The constant that a node reads there."""
        found = self.constants.get(node.inputs[place])
        if found is None:
            raise UnboundedError(
                f"{node.operator} has weights that are no constants of the file; export the model with constant weights"
            )
        return found
