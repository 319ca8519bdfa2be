"""The rows of a table as the numbers of one model: its columns by name, whatever else the table has."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from medward.guard.columns import Column, encode_rows, is_plain, learn_columns
from medward.guard.errors import MedwardError
from medward.guard.named_values import Table, named_list
from medward.guard.types import Array

_log = logging.getLogger("medward.data")


def encoded_rows(table: Table, columns: Sequence[Column]) -> Array:
    """The rows of `table` as a model of `columns` takes them; without any all are its numbers."""
    if columns:
        return encode_rows(chosen_columns(table, [each.name for each in columns]), columns)
    found = learn_columns(table)
    if not is_plain(found):
        odd = [each.name for each in found if not is_plain([each])]
        raise MedwardError(
            f"inputs: the model takes numbers without names, and the table has gaps or texts in {named_list(odd)}; say "
            "which columns are labels and patients (--target, --patient), and make numbers of others or leave them out"
        )
    return encode_rows(table, found)


def chosen_columns(table: Table, names: Sequence[str] | None) -> Table:
    """The columns called `names`, in this order; what is left out is said."""
    if names is None:
        return table
    spaced = {name.replace(" ", "_"): name for name in table.columns}  # as LightGBM writes the names of its columns
    names = [name if name in table.columns else spaced.get(name, name) for name in names]
    if absent := [name for name in names if name not in table.columns]:
        raise MedwardError(
            f"column {absent[0]!r} is absent; the model was fitted on {named_list(list(names))}, the table has "
            f"{named_list(list(table.columns))}"
        )
    if surplus := [name for name in table.columns if name not in names]:
        _log.info("left out, for the model does not take them: %s", named_list(surplus))
    return table.select(names)
