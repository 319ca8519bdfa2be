"""The columns of a clinical table: numbers with gaps, categories, and the row of numbers that defenses see.

A category is its place among its values; where it may be missing, that is one place more, behind them. A number that
may be missing has a second column behind all others, 1 where it is missing, and then stands at `fill`. So a row is
finite numbers, and what the model itself takes can be had back from it. Truth values are the category (False, True).

Under attack a category is a whole number between its first place and its last, an indicator 0 or 1; like any column
both move by no more than so many of the column's own standard deviations, so that a rare category changes last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.named_values import RawValues, Table, named_list, read_table, shown_value
from medward.guard.types import Array

TRUTH = ("False", "True")
MOST_VALUES = 1000
"""Different texts beyond which a column is free text or a list of names, and no category."""
_COMMA_NUMBER = re.compile(r"\s*[-+]?[0-9.]*,?[0-9]+\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column says how one named value of a row is written as numbers.

    `values` are those of a category, in order, empty for a number. `missing` says that it may be: for a number `fill`
    then stands for it, and an indicator column follows all the others; for a category it is the place after `values`.
    `whole` numbers stay whole and `immutable` columns unchanged under attack. `unit` is for people.
    """

    name: str
    values: tuple[str, ...] = ()
    missing: bool = False
    fill: float = 0.0
    whole: bool = False
    immutable: bool = False
    unit: str = ""

    @property
    def places(self) -> int:
        """How many places a category has, 0 for a number."""
        return len(self.values) + self.missing if self.values else 0

    @property
    def indicated(self) -> bool:
        """Whether an indicator column tells where this number is missing."""
        return self.missing and not self.values


def learn_columns(table: Table, *, integer: Sequence[str] = (), immutable: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns that the rows of `table` show; `integer` and `immutable` name those that are so whatever they show.

    Raises `MedwardError` for a column that shows nothing, holds free text, or is named and not there.
    """
    for option, names in (("integer", integer), ("immutable", immutable)):
        if unknown := [name for name in names if name not in table.columns]:
            raise MedwardError(
                f"{option}: there is no column {unknown[0]!r}; there are {named_list(list(table.columns))}"
            )
    learned = [_learned(name, values) for name, values in table.columns.items()]
    return tuple(
        replace(each, whole=each.whole or each.name in integer, immutable=each.name in immutable) for each in learned
    )


def encode_rows(rows: Any, columns: Sequence[Column], dtype: Any = np.float32) -> Array:
    """Named `rows` (`guard.named_values`) as numbers ``(n, D')``: one for each column, then one for each indicator.

    Raises `MedwardError`, in one sentence with the column, the value and what is allowed, for all else.
    """
    table = read_table(rows)
    known = [column.name for column in columns]
    if unknown := [name for name in table.columns if name not in known]:
        raise MedwardError(f"column {unknown[0]!r} is unknown; the model takes {named_list(known)}")
    if absent := [name for name in known if name not in table.columns]:
        null = "; send null where it is missing" if columns[known.index(absent[0])].missing else ""
        raise MedwardError(f"column {absent[0]!r} is absent; the model takes {named_list(known)}{null}")
    written, gaps = [], []
    for column in columns:
        values = table.columns[column.name]
        missing = _gaps(values)
        if missing.any() and not column.missing:
            raise MedwardError(
                f"column {column.name!r}: a value is missing in row {int(missing.argmax())}, and no row that the model "
                f"was protected on lacked one; {_allowed(column)}"
            )
        written.append(_places(column, values, missing) if column.values else _numbers(column, values, missing))
        gaps += [missing] if column.indicated else []
    return np.stack([*written, *gaps], axis=1).astype(dtype)


def decode_rows(matrix: NDArray[Any], columns: Sequence[Column]) -> dict[str, RawValues]:
    """What the model itself takes of encoded rows ``(n, D')``: numbers with NaN for gaps, texts, truth values.

    A category is its nearest place, whatever was done to the number; a gap of texts is NaN too, as pandas has it.
    """
    rows: dict[str, RawValues] = {}
    indicators = iter(np.asarray(matrix)[:, len(columns) :].T > 0.5)
    for column, values in zip(columns, np.asarray(matrix).T, strict=False):
        if column.values:
            place = np.clip(np.rint(values), 0, column.places - 1).astype(np.int64)
            truth = column.values == TRUTH
            named: list[object] = [False, True] if truth else [*column.values]
            if column.missing:
                named.append(float("nan"))
            rows[column.name] = np.array(named, bool if truth and not column.missing else object)[place]
        elif column.missing:
            rows[column.name] = np.where(next(indicators), np.array(np.nan, matrix.dtype), values)
        else:
            rows[column.name] = values
    return rows


def decode_matrix(matrix: NDArray[Any], columns: Sequence[Column]) -> Array:
    """Encoded rows of number columns ``(n, D')`` as the one array ``(n, D)`` that a model takes, NaN for gaps."""
    places = [place for place, column in enumerate(columns) if column.indicated]
    decoded = np.array(matrix[:, : len(columns)])
    gaps = np.asarray(matrix)[:, len(columns) :] > 0.5
    decoded[:, places] = np.where(gaps, np.array(np.nan, decoded.dtype), decoded[:, places])
    return decoded


def encoded_names(columns: Sequence[Column]) -> tuple[str, ...]:
    """What each number of an encoded row is called: "age", and further on "age is missing"."""
    return (*(each.name for each in columns), *(f"{each.name} is missing" for each in columns if each.indicated))


def encoded_bounds(columns: Sequence[Column]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the greatest that each number of an encoded row can be; numbers themselves have no bounds."""
    indicators = sum(each.indicated for each in columns)
    low = [0.0 if each.values else -np.inf for each in columns] + [0.0] * indicators
    high = [each.places - 1.0 if each.values else np.inf for each in columns] + [1.0] * indicators
    return np.array(low, np.float32), np.array(high, np.float32)


def whole_places(columns: Sequence[Column]) -> tuple[int, ...]:
    """The places of an encoded row that take whole numbers: categories and indicators too."""
    own = tuple(place for place, each in enumerate(columns) if each.whole or each.values)
    return (*own, *range(len(columns), len(encoded_names(columns))))


def immutable_places(columns: Sequence[Column]) -> tuple[int, ...]:
    """The places of an encoded row that nobody can change; whether a value is missing is then as fixed as it."""
    fixed = [each.immutable for each in columns] + [each.immutable for each in columns if each.indicated]
    return tuple(place for place, held in enumerate(fixed) if held)


def feature_places(columns: Sequence[Column], option: str, features: Sequence[str | int]) -> tuple[int, ...]:
    """The places of an encoded row that `features` are, by names or from 0, with the indicators of columns by name."""
    names, found = encoded_names(columns), list[int]()
    for each in features:
        if str(each) in names:
            found += [place for place, name in enumerate(names) if name in (str(each), f"{each} is missing")]
        elif str(each).strip().lstrip("-").isdecimal():
            found.append(int(each))
        else:
            known = f"columns {named_list(list(names))}" if names else "feature numbers such as 0,3"
            raise MedwardError(f"{option}: {known} are needed, got {each!r}")
    return tuple(found)


def is_plain(columns: Sequence[Column]) -> bool:
    """Whether encoded rows are the model's own numbers: no gaps, and no categories but truth values."""
    return not any(each.missing or (each.values and each.values != TRUTH) for each in columns)


def has_texts(columns: Sequence[Column]) -> bool:
    """Whether a column is a category that is no truth value, or one with gaps."""
    return any(each.values and (each.missing or each.values != TRUTH) for each in columns)


def _learned(name: str, values: RawValues) -> Column:
    gaps = _gaps(values)
    known = values[~gaps]
    if not len(known):
        raise MedwardError(f"column {name!r}: has no value in any row, so nothing shows what it holds; leave it out")
    if known.dtype.kind == "f":
        fill = float(np.float32(np.sort(known)[len(known) // 2]))
        return Column(name=name, missing=bool(gaps.any()), fill=fill, whole=bool((np.mod(known, 1) == 0).all()))
    if isinstance(known[0], bool):
        return Column(name=name, values=TRUTH, missing=bool(gaps.any()))
    found = sorted(set(known.tolist()))
    if set(found) <= set(TRUTH):
        raise MedwardError(f"column {name!r}: holds the texts {named_list(found)}; give truth values, or other words")
    comma = next((each for each in found if "," in each), None)
    if comma is not None and all(_COMMA_NUMBER.fullmatch(each) for each in found):
        raise MedwardError(f"column {name!r}: holds numbers with a comma, as {comma!r}; give them with a decimal point")
    if len(found) > MOST_VALUES:
        raise MedwardError(
            f"column {name!r}: holds {len(found)} different texts, at most {MOST_VALUES} make a category; leave it out "
            "or group them"
        )
    return Column(name=name, values=tuple(found), missing=bool(gaps.any()))


def _gaps(values: RawValues) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([each is None for each in values.tolist()], bool)


def _numbers(column: Column, values: RawValues, missing: NDArray[np.bool_]) -> RawValues:
    """The numbers of a column, `fill` for those missing."""
    if values.dtype.kind != "f" and not missing.all():
        raise MedwardError(f"column {column.name!r}: a number is needed, got {shown_value(values[~missing][0])}")
    found = np.array(np.where(missing, column.fill, np.where(missing, np.nan, values)), np.float64)
    if (np.abs(found) > np.finfo(np.float32).max).any():
        raise MedwardError(
            f"column {column.name!r}: a number of single precision is needed, got {np.abs(found).max():g}"
        )
    return found


def _places(column: Column, values: RawValues, missing: NDArray[np.bool_]) -> RawValues:
    """The places of a category's values, the last for those missing."""
    places = {each: place for place, each in enumerate((False, True) if column.values == TRUTH else column.values)}
    found = np.full(len(values), len(column.values), np.float64)
    kind = bool if column.values == TRUTH else str
    for row in np.flatnonzero(~missing):
        value = values[row]
        if not isinstance(value, kind) or value not in places:
            raise MedwardError(f"column {column.name!r}: {shown_value(value)} is unknown; {_allowed(column)}")
        found[row] = places[value]
    return found


def _allowed(column: Column) -> str:
    """What a value of a column may be, in words."""
    null = [" or null"] * column.missing
    if not column.values:
        return "".join(["it takes a number", *null])
    words = ("false", "true") if column.values == TRUTH else column.values
    return "".join([f"it takes {named_list(words)}", *null])
