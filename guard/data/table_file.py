"""CSV and Parquet files as tables of named columns, read by pandas as it reads them: an empty cell is a gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, require_extra

READERS = {"csv": "read_csv", "tsv": "read_csv", "parquet": "read_parquet"}
"""By `guard.data.foreign.file_kind`: the function of pandas that reads such a file."""


def read_table_file(path: Path, kind: str) -> Any:
    """The DataFrame in the file at `path`, which is of `kind`; raises `MedwardError` where it cannot be read."""
    pandas = require_extra("pandas", "tables")
    if kind == "parquet":
        require_extra("pyarrow", "tables")
    options: dict[str, Any] = {"sep": "\t"} if kind == "tsv" else {}
    if kind != "parquet":
        options["low_memory"] = False  # a column has one type then, however long it is
    try:
        frame = getattr(pandas, READERS[kind])(path, **options)
    except Exception as error:
        raise MedwardError(f"{path}: cannot be read as a {kind} table: {first_line(error)}") from None
    if len(frame.columns) == 1 and kind == "csv" and (odd := next((c for c in ";\t|" if c in frame.columns[0]), "")):
        raise MedwardError(
            f"{path}: its one column is called {str(frame.columns[0])[:60]!r}, so it seems separated by {odd!r}; save "
            "it with commas (and points in numbers), or as Parquet"
        )
    if not len(frame):
        raise MedwardError(f"{path}: there are no rows below the names of its columns")
    return frame
