"""Whose presence is hidden: which unit each row belongs to, canaries as units of their own included."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from medward.guard.certificate import PrivacyUnit
from medward.guard.data.canaries import CanarySet
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Ints


def unit_numbers(units: Tensor | Ints | None, rows: int) -> Ints:
    """The units of ``(n,)`` rows numbered from 0 without a gap; each row its own where `units` is None."""
    if units is None:
        return np.arange(rows)
    given = units.cpu().numpy() if isinstance(units, Tensor) else np.asarray(units)
    if given.shape != (rows,):
        raise MedwardError(f"units: must be one for each of {rows} rows, got the shape {given.shape}")
    return np.asarray(np.unique(given, return_inverse=True)[1], np.int64)


def checked_unit(unit: PrivacyUnit | None, train: Split, selection: Split) -> PrivacyUnit:
    """The unit that is hidden. Raises `MedwardError` for patients that are unknown, or on both sides."""
    if unit not in (None, "patient", "row"):
        raise MedwardError(f'unit: must be "patient" or "row", got {unit!r}')
    if unit != "row" and train.patients is None:
        raise MedwardError(
            "unit: the data does not say whose rows are whose; add train_patients (or --patient COLUMN), or say unit "
            '"row" if every row is another patient'
        )
    if train.patients is not None and selection.patients is not None and unit != "row":
        shared = np.intersect1d(train.patients, selection.patients)
        if len(shared):
            raise MedwardError(
                f"selection: {len(shared)} patients are in train too, and what is measured on them is not private; "
                "keep each patient on one side"
            )
    return "row" if unit == "row" else "patient"


def plant_units(train: Split, canaries: CanarySet | None, unit: PrivacyUnit) -> tuple[Split, Ints]:
    """`train` with the canaries whose coin says in, each a unit of its own, and the unit ``(n,)`` of every row."""
    owners = unit_numbers(train.patients if unit == "patient" else None, len(train))
    if canaries is None:
        return train, owners
    if canaries.inputs.shape[1:] != train.inputs.shape[1:] or train.labels is None:
        raise MedwardError(
            f"canaries: of shape {canaries.inputs.shape[1:]} are no rows like those of train, {train.inputs.shape[1:]}"
        )
    inside = canaries.included
    planted = Split(
        np.concatenate([train.inputs, canaries.inputs[inside].astype(train.inputs.dtype)]),
        np.concatenate([train.labels, canaries.labels[inside]]),
    )
    first = int(owners.max(initial=-1)) + 1
    return planted, np.concatenate([owners, first + np.arange(int(inside.sum()))])
