"""A CSV of labels beside a folder of files: a column `file`, what is right for each, and perhaps whose it is."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.data.labels import target_columns
from medward.guard.errors import MedwardError

FILE_COLUMN = "file"


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A label file gives, in the order of the files it was asked for, their labels and, where known, patients.

    Of a table of labels `findings` name the columns.
    """

    labels: NDArray[Any]
    patients: NDArray[np.str_] | None
    findings: tuple[str, ...] = ()

    def take(self, index: Sequence[int]) -> LabelFile:
        """The rows at `index`."""
        at = list(index)
        return LabelFile(self.labels[at], None if self.patients is None else self.patients[at], self.findings)


def read_label_file(path: Path, files: Sequence[str], target: str | None, patient: str | None) -> LabelFile:
    """The rows of the CSV at `path` for `files`, by their path in the folder or, where only one has it, their name.

    `target` names the column of a class or a number, or several columns of findings, comma-separated. Raises
    `MedwardError` for a file without a row and a row without a file: nothing is left out unsaid.
    """
    header, rows = _table(path)
    wanted = target_columns(target)
    others = [name for name in header if name not in (FILE_COLUMN, patient)]
    if not wanted:
        raise MedwardError(f"{path}: say with --target which column is right for a file; it has {', '.join(others)}")
    for name in (FILE_COLUMN, *wanted, *([patient] if patient else [])):
        if header.count(name) != 1:
            raise MedwardError(f"{path}: needs one column {name!r}, it has {', '.join(header)}")
    found = _matched(path, [row[header.index(FILE_COLUMN)].strip() for row in rows], files)
    columns = [[rows[at][header.index(name)].strip() for at in found] for name in wanted]
    for name, values in zip(wanted, columns, strict=True):
        if gaps := values.count(""):
            raise MedwardError(f"{path}: column {name!r} is empty for {gaps} files; fill it in or leave them out")
    labels = [_numbers_or_texts(values) for values in columns]
    if len(labels) > 1 and (
        texts := [name for name, each in zip(wanted, labels, strict=True) if each.dtype.kind == "U"]
    ):
        raise MedwardError(f"{path}: several target columns are findings of 0 and 1, {texts[0]!r} holds texts")
    whose = None if patient is None else np.array([rows[at][header.index(patient)].strip() for at in found])
    if len(labels) == 1:
        return LabelFile(labels[0], whose)
    return LabelFile(np.stack(labels, axis=1), whose, tuple(wanted))


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no CSV in UTF-8"
        raise MedwardError(f"{path}: cannot be read: {why}") from None
    if len(rows) < 2:
        raise MedwardError(f"{path}: needs a row of column names and a row for each file, has {len(rows)} rows")
    header = [name.strip() for name in rows[0]]
    if uneven := next((k for k, row in enumerate(rows[1:], 2) if len(row) != len(header)), 0):
        raise MedwardError(f"{path}: row {uneven} has {len(rows[uneven - 1])} values for {len(header)} columns")
    return header, rows[1:]


def _matched(path: Path, listed: Sequence[str], files: Sequence[str]) -> list[int]:
    """The row of each of `files`."""
    rows: dict[str, int] = {}
    for at, name in enumerate(listed):
        if name in rows:
            raise MedwardError(f"{path}: has {listed.count(name)} rows for {name!r}; leave one")
        rows[name] = at
    bare = [name.rpartition("/")[2] for name in files]
    alone = {name for name in bare if bare.count(name) == 1} if len(set(bare)) < len(bare) else set(bare)
    found = [
        rows.get(name, rows.get(short) if short in alone else None) for name, short in zip(files, bare, strict=True)
    ]
    if missing := [name for name, at in zip(files, found, strict=True) if at is None]:
        raise MedwardError(f"{path}: has no row for {len(missing)} of {len(files)} files, {missing[0]!r} for one")
    if unused := sorted(set(range(len(listed))) - set(found) - {None}):
        raise MedwardError(f"{path}: names {len(unused)} files that are not there, {listed[unused[0]]!r} for one")
    return [at for at in found if at is not None]


def _numbers_or_texts(values: Sequence[str]) -> NDArray[Any]:
    """Whole numbers, numbers, or texts: what all of `values` are."""
    for kind in (int, float):
        try:
            return np.array([kind(each) for each in values])
        except (ValueError, OverflowError):
            continue
    return np.array(values)
