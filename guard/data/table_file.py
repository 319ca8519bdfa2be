"""CSV and Parquet files as tables of named columns, read by pandas as it reads them: an empty cell is a gap.

What pandas mends without a word is refused before it reads: rows of more or fewer cells than there are names, which
would move values to other columns, and two columns of one name.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, require_extra

READERS = {"csv": "read_csv", "tsv": "read_csv", "parquet": "read_parquet"}
"""By `guard.data.foreign.file_kind`: the function of pandas that reads such a file."""


def read_table_file(path: Path, kind: str, texts: str | None = None) -> Any:
    """The DataFrame in the file at `path`, which is of `kind`; raises `MedwardError` where it cannot be read.

    The column `texts` of a CSV is not read as numbers, which would make one patient of "007" and "7".
    """
    pandas = require_extra("pandas", "tables")
    if kind == "parquet":
        require_extra("pyarrow", "tables")
    options: dict[str, Any] = {}
    if kind != "parquet":
        options = {"sep": "\t" if kind == "tsv" else ",", "dtype": {} if texts is None else {texts: str}}
        options |= {"low_memory": False, "index_col": False}  # a column has one type then, however long it is
        _check_cells(path, kind, options["sep"])
    try:
        frame = getattr(pandas, READERS[kind])(path, **options)
    except Exception as error:
        raise MedwardError(f"{path}: cannot be read as a {kind} table: {first_line(error)}") from None
    if not len(frame):
        raise MedwardError(f"{path}: there are no rows below the names of its columns")
    return frame


def _check_cells(path: Path, kind: str, separator: str) -> None:
    """Refuse two columns of one name, and a row with another number of cells than there are names."""
    names: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=separator)
            for row in rows:
                if names and row and len(row) != len(names):
                    raise MedwardError(f"{path}: line {rows.line_num} has {len(row)} cells for {len(names)} columns")
                names = names or row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MedwardError(f"{path}: cannot be read as a {kind} table: {first_line(error)}") from None
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise MedwardError(f"{path}: two columns have the name {twice[0]!r}; rename one")
    if len(names) == 1 and ";" in names[0]:
        raise MedwardError(f"{path}: its columns are separated by semicolons; write it with commas, and decimal points")
