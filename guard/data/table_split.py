"""From a table of named columns to splits: which column is label, patient and split, and which the model takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medward.guard.columns import Column, encode_rows, learn_columns
from medward.guard.data.labels import patient_numbers, read_labels, target_columns
from medward.guard.data.split import Split
from medward.guard.data.table_rows import chosen_columns
from medward.guard.errors import MedwardError
from medward.guard.named_values import Table, named_list, read_table

_log = logging.getLogger("medward.data")
SPLIT_COLUMN = "split"
SPLIT_NAMES = ("train", "selection", "calibration", "val", "test", "holdout", "data")
"""The column that says which split a row is of, and what it may say."""


def table_splits(
    rows: Any, *, target: str | None, patient: str | None, known: Sequence[Column] = (), optional: Sequence[str] = ()
) -> dict[str, Split]:
    """The splits that raw named `rows` hold, by their column "split", else one called "data".

    `target` and `patient` name columns. A table without those that are `optional` is unlabelled, and that is said;
    without others it is refused. `known` are the model's columns, of which "split" may be one.
    """
    table = read_table(rows)
    names = _split_names(table, [each.name for each in known])
    wanted = [target] if target in table.columns else target_columns(target)
    targets = [each for each in (_present(table, "target", name, optional) for name in wanted) if each is not None]
    patient = _present(table, "patient", patient, optional)
    if patient in targets:
        raise MedwardError(f"target and patient: both are the column {patient!r}; give two")
    if targets and len(targets) < len(wanted):
        raise MedwardError(f"target: of {', '.join(map(str, wanted))} the table has {', '.join(targets)} only")
    used = {*targets, patient} | ({SPLIT_COLUMN} if names is not None else set())
    inputs: Any = Table(columns={name: values for name, values in table.columns.items() if name not in used})
    if not inputs.columns:
        raise MedwardError(f"the table has no columns besides {named_list([each for each in used if each])}")
    labels = _labels(table, targets)
    whose = None if patient is None else patient_numbers(_texts(table, patient), len(table), f"column {patient!r}")
    findings = tuple(targets) if len(targets) > 1 else ()
    numbers, texts = (None, None) if labels is None else labels
    whole = Split(inputs, numbers, whose, texts, findings)
    if names is None:
        return {"data": whole}
    return {str(name): whole.take(np.flatnonzero(names == name)) for name in dict.fromkeys(names.tolist())}


def _labels(table: Table, targets: Sequence[str]) -> Any:
    """Labels and names of the rows from one column of classes or numbers, or from a column for each finding."""
    if not targets:
        return None
    if len(targets) == 1:
        return read_labels(table.columns[targets[0]], len(table), f"column {targets[0]!r}")
    columns = [table.columns[each] for each in targets]
    if odd := [name for name, each in zip(targets, columns, strict=True) if not set(each.tolist()) <= {0, 1}]:
        raise MedwardError(f"column {odd[0]!r}: several target columns are findings, each 0 or 1")
    return read_labels(np.stack(columns, axis=1).astype(np.int64), len(table), "target")


def fitted_split(
    split: Split, fitted: Sequence[str] | None, *, integer: Sequence[str] = (), immutable: Sequence[str] = ()
) -> tuple[Split, tuple[Column, ...]]:
    """A raw `split` as numbers in double precision, and its columns: those `fitted` by the model, else all of them.

    A split that is no table has no columns. Raises `MedwardError` for a column that the model was fitted on and the
    table lacks; what it has besides is left out, and that is said.
    """
    if not isinstance(split.inputs, Table):
        if integer or immutable:
            raise MedwardError("integer and immutable name columns of a table; these inputs have no names")
        return split, ()
    table = chosen_columns(split.inputs, fitted)
    columns = learn_columns(table, integer=integer, immutable=immutable)
    return replace(split, inputs=encode_rows(table, columns, np.float64)), columns


def _split_names(table: Table, taken: Sequence[str]) -> Any:
    """The split of each row; None where no column says it."""
    found = table.columns.get(SPLIT_COLUMN)
    if found is None or SPLIT_COLUMN in taken:
        return None
    if odd := [each for each in dict.fromkeys(found.tolist()) if each not in SPLIT_NAMES]:
        raise MedwardError(
            f"column {SPLIT_COLUMN!r}: says which split a row is of, {named_list(SPLIT_NAMES)}, "
            f"got {odd[0]!r}; rename it"
        )
    return found


def _present(table: Table, what: str, name: str | None, optional: Sequence[str]) -> str | None:
    if name is None or name in table.columns:
        return name
    if name not in optional:
        raise MedwardError(f"{what}: there is no column {name!r}; there are {named_list(list(table.columns))}")
    _log.info("there is no column %r: the rows are taken without a %s", name, what)
    return None


def _texts(table: Table, name: str) -> Any:
    """Patients as one kind of value: numbers as they are, texts as texts."""
    values = table.columns[name]
    if values.dtype.kind == "f":
        if np.isnan(values).any():
            raise MedwardError(f"column {name!r}: {int(np.isnan(values).sum())} rows have no patient; leave them out")
        return values
    if gaps := sum(each is None for each in values.tolist()):
        raise MedwardError(f"column {name!r}: {gaps} rows have no patient; leave them out")
    return values
