"""The columns of a clinical table: numbers with gaps, categories, and the row of numbers that defenses see.

A category is its place among its values. A number that may be missing has a second column, 1 where it is missing, and
then stands at `fill`. So a row is finite numbers, and what the model itself takes can be had back from it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column says how one named value of a row is written as numbers.

    `values` are those of a category, in order, empty for a number. `missing` says that it may be: then `fill` stands
    for it, and an indicator column follows all the others. `whole` numbers stay whole and `immutable` columns unchanged
    under attack. `unit` is for people.
    """

    name: str
    values: tuple[str, ...] = ()
    missing: bool = False
    fill: float = 0.0
    whole: bool = False
    immutable: bool = False
    unit: str = ""
