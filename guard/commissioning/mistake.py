"""A mistake of whoever sends inputs: its words, and what undoes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingMistake:
    """A sending mistake has a short `name`, what the inputs look like in `words`, and a function that undoes it."""

    name: str
    words: str
    undo: Callable[[Array], Array]


def linear_change(gain: float, offset: float = 0.0) -> Callable[[Array], Array]:
    """The function that multiplies values by `gain` and adds `offset`."""

    def change(values: Array) -> Array:
        return values * gain + offset

    return change
