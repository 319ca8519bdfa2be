"""Rows that a hardening is given: of the internal shape, labelled, and with labels that are decisions of the task."""

from __future__ import annotations

from dataclasses import replace

from medward.guard.data.pixels import batch_of, sent_shape
from medward.guard.data.resized import resized_inputs
from medward.guard.data.split import Split, check_split, label_split
from medward.guard.data.table_rows import encoded_rows
from medward.guard.errors import MedwardError
from medward.guard.named_values import Table
from medward.guard.preparation import Preparation
from medward.guard.spec import AnyTask
from medward.guard.types import Layout


def rows_with_labels(
    name: str,
    split: object,
    *,
    low: float | None,
    high: float | None,
    layout: Layout | None,
    bits: int | None,
    prepare: Preparation,
) -> tuple[Split, tuple[int, ...] | None]:
    """`split` as rows of the internal shape with labels as they came, refused without any, and the shape if another.

    That is the shape of signals and volumes as the network itself takes them.
    """
    try:
        if isinstance(split, Split) and isinstance(split.inputs, Table):
            split = replace(split, inputs=encoded_rows(split.inputs, ()))
        rows = check_split(split)
        if rows.labels is None and rows.names is None:
            raise MedwardError(
                f"hardening needs labels; add {name}_labels to the data, or of a table say --target COLUMN"
            )
    except MedwardError as error:
        raise MedwardError(f"{name}: {error}") from None
    pixels = resized_inputs(rows.inputs, prepare, layout)
    inputs, layout, _ = batch_of(pixels, low=low, high=high, layout=layout, bits=bits)
    return replace(rows, inputs=inputs), sent_shape(pixels.shape[1:], layout)


def decided_rows(name: str, split: Split, task: AnyTask) -> Split:
    """`split` with labels that are decisions of `task`, or its numbers."""
    try:
        return label_split(split, task)
    except MedwardError as error:
        raise MedwardError(f"{name}: {error}") from None
