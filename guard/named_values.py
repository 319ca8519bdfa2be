"""Raw values of a table as people have them: a DataFrame, arrays by name or records, read alike and duck-typed.

A column of numbers is float64 with NaN for a gap, any other an object array of texts or of truth values with None for a
gap. None, NaN and the missing values of pandas are gaps; an empty text is not, and is refused, for nothing says whether
it is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError

RawValues = NDArray[Any]
_GAPS = ("NoneType", "NAType", "NaTType")
_SHOWN = 40  # letters of a value that an error shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table is named columns of raw values, all of one length; it can be taken rows of as an array can."""

    columns: Mapping[str, RawValues]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, index: Any) -> Table:
        """The rows at `index`."""
        return Table(columns={name: values[index] for name, values in self.columns.items()})

    @property
    def ndim(self) -> int:
        """Two: rows and columns."""
        return 2

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), len(self.columns)

    def select(self, names: Sequence[str]) -> Table:
        """The columns called `names`, in this order; raises `MedwardError` for one that is not there."""
        for name in names:
            if name not in self.columns:
                raise MedwardError(f"column {name!r} is absent; the table has {named_list(list(self.columns))}")
        return Table(columns={name: self.columns[name] for name in names})


def is_named(rows: object) -> bool:
    """Whether `rows` say the names of their columns: a `Table`, a DataFrame, a dict of arrays, a list of dicts."""
    if isinstance(rows, Table | Mapping):
        return True
    if isinstance(rows, list | tuple):
        return bool(rows) and isinstance(rows[0], Mapping)
    return hasattr(rows, "columns") and hasattr(rows, "to_dict") and hasattr(rows, "__getitem__")


def read_table(rows: Any) -> Table:
    """The raw `rows` (see `is_named`) as a table of checked columns. Raises `MedwardError` naming the column."""
    if isinstance(rows, Table):
        return rows
    if isinstance(rows, list | tuple):
        given: Mapping[str, Any] = _turned(rows)
    else:
        names = list(rows) if isinstance(rows, Mapping) else list(rows.columns)
        given = {str(name): rows[name] for name in names}
        if len(given) != len(names):
            raise MedwardError(f"inputs: two columns have one name among {named_list([*map(str, names)])}")
    columns = {name: read_values(name, values) for name, values in given.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise MedwardError(f"inputs: columns must have one value per row each, got lengths {said}")
    if not columns or not len(next(iter(columns.values()))):
        raise MedwardError(f"inputs: there are no rows in a table of the columns {named_list(list(columns)) or 'none'}")
    return Table(columns=columns)


def read_values(name: str, values: Any) -> RawValues:
    """The `values` of the column called `name` in their one form; see the module's docstring."""
    array = values if isinstance(values, np.ndarray) else _as_array(values)
    if array.ndim != 1:
        raise MedwardError(f"column {name!r}: one value per row is needed, got shape {array.shape}")
    if array.dtype.kind in "iuf":
        return _finite(name, array.astype(np.float64))
    if array.dtype.kind in "Mm":
        raise MedwardError(f"column {name!r}: holds dates; give numbers, days since admission say, or leave it out")
    if array.dtype.kind not in "bUO":
        raise MedwardError(f"column {name!r}: holds {array.dtype}; give numbers, texts or truth values")
    items = [None if is_gap(each) else _plain(each) for each in array.tolist()]
    kinds = {_kind(name, each) for each in items if each is not None}
    if len(kinds) > 1:
        raise MedwardError(f"column {name!r}: mixes {' and '.join(sorted(kinds))}; give values of one kind")
    if kinds == {"numbers"}:
        return _finite(name, np.array([np.nan if each is None else _double(each) for each in items], np.float64))
    if "" in items:
        raise MedwardError(f"column {name!r}: holds empty texts; give a missing value (None, NaN, null) or a word")
    found = np.empty(len(items), object)
    found[:] = items
    return found


def is_gap(value: object) -> bool:
    """Whether `value` stands for a missing one."""
    return type(value).__name__ in _GAPS or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def shown_value(value: object) -> str:
    """A value as an error shows it, never longer than a line."""
    text = repr(_plain(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def named_list(names: Sequence[str], most: int = 12) -> str:
    """Names for a sentence, the first `most` of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _turned(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Records as columns; every record has the names of the first."""
    names = [str(name) for name in rows[0]] if isinstance(rows[0], Mapping) else []
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for at, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise MedwardError(f"row {at}: a record of named values is needed, got {type(row).__name__}")
        if odd := [str(name) for name in row if str(name) not in columns]:
            raise MedwardError(
                f"row {at}: column {odd[0]!r} is unknown to the row before; the rows have {named_list(names)}"
            )
        for name in names:
            if name not in row:
                raise MedwardError(f"row {at}: column {name!r} is absent; send null where a value is missing")
            columns[name].append(row[name])
    return columns


def _as_array(values: Any) -> RawValues:
    """Any column as an array that keeps texts, numbers and gaps apart."""
    if isinstance(values, list | tuple):
        found = np.empty(len(values), object)
        found[:] = [each if np.ndim(each) == 0 else str(type(each)) for each in values]
        return found
    return np.asarray(values)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _kind(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "truth values"
    if isinstance(value, str):
        return "texts"
    if isinstance(value, Real):
        return "numbers"
    raise MedwardError(f"column {name!r}: needs numbers, texts or truth values, got {type(value).__name__}")


def _double(value: Any) -> float:
    """A number in double precision, infinite where that holds no such number."""
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _finite(name: str, values: RawValues) -> RawValues:
    if np.isinf(values).any():
        raise MedwardError(f"column {name!r}: every number must be finite, got infinity; give a missing value")
    return values
