"""Standing difference: what one client's updates keep differing by from the median client, where chance would average out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medward.guard.types import Array


@dataclass(frozen=True, slots=True)
class Standing:
    """A client's standing in one view: its weighted mean difference, with the sums of the weights and of their squares.

    While differences are chance, `values` times the root of `rounds` keeps the spread of a single round.
    """

    values: Array
    weight: float
    squared_weight: float

    @property
    def rounds(self) -> float:
        """How many rounds of chance the mean is worth."""
        return self.weight**2 / self.squared_weight

    @property
    def peak(self) -> float:
        """The largest absolute value, in spreads of a single round, standardised for the rounds in the mean."""
        return float(np.abs(self.values).max() * np.sqrt(self.rounds))


def differences(views: Mapping[str, Array]) -> dict[str, Array]:
    """Each node's vector less the median node's, in units of the median node's root mean square difference.

    The scale is that of the cohort, so a client that differs does not hide by differing a lot.
    """
    stacked = np.stack(list(views.values()))
    away = stacked - np.median(stacked, axis=0)
    spread = float(np.median(np.sqrt(np.mean(away**2, axis=1))))
    return dict(zip(views, away / max(spread, np.finfo(np.float64).tiny), strict=True))


def stand(before: Standing | None, difference: Array, memory: float) -> Standing:
    """The standing after one more round; what came before counts `memory` times as much as it did."""
    if before is None or before.values.shape != difference.shape:
        return Standing(difference, 1.0, 1.0)
    weight = memory * before.weight
    values = (before.values * weight + difference) / (weight + 1)
    return Standing(values, weight + 1, memory**2 * before.squared_weight + 1)
