"""How well a regression model does on labelled rows: its error, beside that of answering the mean to everybody."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from medward.guard.tasks.regression import Regression
from medward.guard.types import Array


class NumberQuality(BaseModel):
    """Number quality holds how far numbers were from the truth on `rows` labelled rows.

    `error` is the mean absolute one, `explained` is R^2 (1 less the squared error over that of the mean; None where the
    truth is one number), `within` the share of rows that are off by no more than the tolerance and on the right side of
    the cut points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rows: int
    error: float
    explained: float | None
    within: float

    def __str__(self) -> str:
        share = "" if self.explained is None else f", R2 {self.explained:.3f}"
        return (
            f"on {self.rows} labelled calibration rows: mean absolute error {self.error:.4g}{share}, "
            f"{self.within:.1%} within the tolerance"
        )

    @property
    def doubt(self) -> str:
        """What a person should look into, or nothing."""
        if self.explained is None or self.explained > 0:
            return ""
        return (
            f"the numbers are no better than the mean of the labels (R2 {self.explained:.3f}); check the unit, the "
            "range and layout of the data, and whether the labels are the model's"
        )


def measure_numbers(values: Array, labels: Array, task: Regression) -> NumberQuality:
    """The quality of numbers `values (n, 1)` on rows whose true numbers are `labels (n,)`."""
    own, truth = np.asarray(values, np.float64)[:, 0], np.asarray(labels, np.float64)
    spread = float(((truth - truth.mean()) ** 2).sum())
    return NumberQuality(
        rows=len(truth),
        error=float(np.abs(own - truth).mean()),
        explained=None if spread == 0 else 1 - float(((own - truth) ** 2).sum()) / spread,
        within=float(task.unchanged(truth[:, None], own[:, None]).mean()),
    )
