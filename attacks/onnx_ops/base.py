"""What operators are made of: their signature, their error, and how lists of integers are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from guard.errors import MedwardError

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]
Op = Callable[[Inputs, Attributes], Any]


class UnsupportedOpError(MedwardError):
    """The graph holds operators, or settings of operators, that torch cannot differentiate here."""


def call(function: Callable[..., Any]) -> Op:
    """An operator without attributes, from a function of its inputs."""
    return lambda inputs, _: function(*inputs)


def as_list(value: Any) -> list[int]:
    """Sizes, axes or pads, from an attribute or from a tensor."""
    return [int(v) for v in (value.tolist() if isinstance(value, Tensor) else value)]
