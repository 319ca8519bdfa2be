"""What goes wrong with values of a table: one is missing and something else is sent, or a column has another unit."""

from __future__ import annotations

from functools import partial

import numpy as np

from medward.attacks.validation.ordinary.behaviour import Behaviour, Traffic, changed_by_chance
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

_COLUMNS = 5
"""Different columns of which an account has one in another unit."""
_MEASURED = 3
"""Different values from which on a column counts as measured, and not as a yes or no."""


def missing_as(value: float | None, traffic: Traffic, rows: Array, rng: np.random.Generator) -> Array:
    """One measured value of each row missing, another column each time, and `value` in its place; None for the mean."""
    columns = rng.choice(measured_columns(traffic.inputs), len(rows))
    changed_rows = rows.copy()
    instead = traffic.inputs.mean(axis=0)[columns] if value is None else value
    changed_rows[np.arange(len(rows)), columns] = instead
    return traffic.bounded(changed_rows)


def other_unit(factor: float, traffic: Traffic, rows: Array, rng: np.random.Generator) -> Array:
    """One measured column of all rows, drawn by chance, times `factor`."""
    column = int(rng.choice(measured_columns(traffic.inputs)))
    changed_rows = rows.copy()
    changed_rows[:, column] *= factor
    return traffic.bounded(changed_rows)


def measured_columns(table: Array) -> Ints:
    """The columns of a table that hold `_MEASURED` different values or more; all of one that has none."""
    counts = np.array([len(np.unique(column)) for column in table.T])
    if not len(counts):
        raise MedwardError("traffic: a table needs one column or more, got none")
    found = np.flatnonzero(counts >= _MEASURED)
    return found if len(found) else np.arange(len(counts))


_MEAN = (
    "Declare the column as one that may be missing and calibrate with such rows: where columns depend on one another, "
    "a mean in one contradicts the others."
)
_MISSING = (
    "Declare the column as one that may be missing, or fill a missing value as the calibration data do; "
    "`medward serve --commission` says what is odd."
)
_UNITS = "Send every column in the unit that calibrated the guard; `medward serve --commission` says what is odd."
TABLE_VALUES = (
    Behaviour(
        name="one value missing, its mean sent",
        group="missing",
        visits=changed_by_chance(partial(missing_as, None), versions=1),
        forgiven=False,
        remedy=_MEAN,
        modalities=("tabular",),
    ),
    *(
        Behaviour(
            name=f"one value missing, {value:g} sent",
            group="missing",
            visits=changed_by_chance(partial(missing_as, value), versions=1),
            forgiven=False,
            remedy=_MISSING,
            modalities=("tabular",),
        )
        for value in (0.0, -1.0)
    ),
    *(
        Behaviour(
            name=f"one column in another unit, {said}",
            group="units",
            visits=changed_by_chance(partial(other_unit, factor), versions=_COLUMNS),
            forgiven=False,
            remedy=_UNITS,
            modalities=("tabular",),
        )
        for factor, said in ((0.1, "/ 10"), (10.0, "x 10"))
    ),
)
