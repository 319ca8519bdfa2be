"""What operators are made of: their signature, their error, and how lists of integers are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from medward.guard.errors import MedwardError

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]
Op = Callable[[Inputs, Attributes], Any]


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a graph; an empty input name is an optional input left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class UnsupportedOpError(MedwardError):
    """The graph holds operators, or settings of operators, that torch cannot differentiate here."""


def from_function(function: Callable[..., Any]) -> Op:
    """An operator without attributes, from a function of its inputs."""
    return lambda inputs, _: function(*inputs)


def as_list(value: Any) -> list[int]:
    """Sizes, axes or pads, from an attribute or from a tensor."""
    return [int(v) for v in (value.tolist() if isinstance(value, Tensor) else value)]


def passing(x: Tensor, value: Tensor) -> Tensor:
    """`value` to the last bit; the gradient passes to `x` as if nothing had been rounded."""
    return value.detach() + (x - x.detach())


def round_straight_through(x: Tensor) -> Tensor:
    """The nearest whole numbers, halves to even, with the gradient of `x`."""
    return passing(x, x.round())


def optional_input(inputs: Inputs, which: int) -> Any:
    """The input at place `which`, None where it is left out."""
    return inputs[which] if len(inputs) > which else None
