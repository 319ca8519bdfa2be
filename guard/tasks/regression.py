"""Regression: one number, and how far it may move before somebody acts otherwise.

A decision is the cell that a number falls in. With cut points (a referral above 14 months, a risk above 20 %) cells lie
between them and each includes its lower end. Without, they are the multiples of the tolerance that a number is nearest
to, so that a change of less than half the tolerance may, and one of the tolerance must, lead to another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.release import capacity
from medward.guard.tasks.base import ReleaseSettings, in_floats, nothing, plain_bits
from medward.guard.types import Array, Ints, Level, OutputKind

STEPS = 10  # of the level rounded, in a tolerance
_SMALLEST = 1e-300  # of tolerances: its steps are still normal numbers
_FARTHEST = 2.0**46  # cells from zero that floating point still tells apart
_DECIMALS = 4  # of a distance from a cut point


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """Regression decides in which cell a number lies: between `cut_points`, else which multiple of `tolerance`.

    `tolerance` is the smallest change that matters, in the number's own `unit`.
    Guarantee: what is released lies in the cell of the model's own number, and within half a step of it (a tenth of the
    tolerance at level rounded; without cut points the tolerance itself at level label).
    """

    quantity: str = "value"
    tolerance: float
    cut_points: tuple[float, ...] = ()
    unit: str = ""
    kind: Literal["regression"] = "regression"

    def __post_init__(self) -> None:
        """Refuse a tolerance that is no positive number, and cut points that do not rise."""
        if not (math.isfinite(self.tolerance) and self.tolerance > _SMALLEST):
            raise MedwardError(f"tolerance: must be a positive number, got {self.tolerance!r}")
        if not all(map(math.isfinite, self.cut_points)) or any(a >= b for a, b in pairwise(self.cut_points)):
            raise MedwardError(f"cut_points: must be finite and rise, got {list(self.cut_points)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The quantity."""
        return (self.quantity,)

    @property
    def output(self) -> OutputKind:
        """Numbers in the quantity's own unit."""
        return "values"

    @property
    def levels(self) -> tuple[Level, ...]:
        """In full, rounded, the cell, nothing."""
        return (Level.FULL, Level.ROUNDED, Level.LABEL, Level.WITHHELD)

    @property
    def rule(self) -> str:
        """How the model decides, in words."""
        unit = f" {self.unit}" if self.unit else ""
        if not self.cut_points:
            return f"gives {self.quantity}, in which {self.tolerance:g}{unit} matter"
        points = ", ".join(f"{each:g}" for each in self.cut_points)
        return f"gives {self.quantity}, in which {self.tolerance:g}{unit} and the cut points {points} matter"

    def read(self, raw: object, name: str) -> Array:
        """Numbers ``(n, 1)`` from ``(n,)`` or ``(n, 1)``."""
        values = np.asarray(raw)
        if values.dtype.kind not in "fiub" or not values.ndim or values.shape[1:] not in ((), (1,)):
            raise MedwardError(
                f"{name}: a regression model gives one number for an input, got shape {values.shape} of "
                f'{values.dtype}; guard several numbers as --task opaque (task = "opaque")'
            )
        values = in_floats(values.reshape(-1, 1))
        if np.abs(values).max(initial=0.0) > _FARTHEST * self.tolerance:
            worst = np.abs(values).max()
            raise MedwardError(f"{name}: gave {worst:g}, too far from 0 to tell a tolerance of {self.tolerance:g}")
        return values

    def decide(self, outputs: Array) -> Ints:
        """The cell ``(n,)``: how many cut points a number reaches, or the multiple of the tolerance nearest to it.

        Numbers in single precision are compared with cut points in single precision, as torch and NumPy do. Multiples
        below zero are counted as odd numbers, so that a cell is never negative.
        """
        values = np.asarray(outputs)[..., 0]
        if self.cut_points:
            points = np.asarray(self.cut_points, values.dtype if values.dtype == np.float32 else np.float64)
            return np.asarray(np.searchsorted(points, values, side="right"), np.int64)
        nearest = self._multiple(values).astype(np.int64)
        return np.where(nearest >= 0, 2 * nearest, -2 * nearest - 1)

    def judged(self, outputs: Array) -> Array:
        """Zeros ``(n, 1)``: all rows are of one group."""
        return np.zeros((len(outputs), 1), np.float32)

    def doubt(self, outputs: Array) -> Array | None:
        """Minus the distance from the nearest cut point in tolerances, rounded; None without cut points."""
        if not self.cut_points:
            return None
        values = np.asarray(outputs, np.float64)[:, :1]
        distance = np.abs(values - np.asarray(self.cut_points)).min(axis=1)
        return np.asarray(np.round(-distance / self.tolerance, _DECIMALS))

    def unchanged(self, before: Array, after: Array) -> NDArray[np.bool_]:
        """Where the number moved by no more than the tolerance, and over no cut point."""
        moved = np.abs(np.asarray(after, np.float64)[:, 0] - np.asarray(before, np.float64)[:, 0])
        near = moved <= self.tolerance * (1 + 1e-9)
        return np.asarray(near & (self.decide(before) == self.decide(after)) if self.cut_points else near)

    def release(self, outputs: Array, level: Level, settings: ReleaseSettings) -> Array:
        """Numbers ``(n, 1)`` at `level`: the model's own, in steps within their cell, or NaN."""
        if level is Level.FULL:
            if not self.cut_points or np.asarray(outputs).dtype != np.float32:
                return outputs
            return self._within(np.asarray(outputs, np.float64)[:, 0], self.decide(outputs))[:, None]
        if level is Level.WITHHELD or (level is Level.LABEL and self.cut_points):
            return nothing(outputs)
        values = np.asarray(outputs, np.float64)[:, 0]
        if self.cut_points:
            steps = np.round(values / self._step) * self._step
            return self._within(steps, self.decide(outputs))[:, None]
        centre = self._multiple(values)
        if level is Level.LABEL:
            return (centre * self.tolerance)[:, None]
        most = STEPS // 2 - 1  # steps from the centre of a cell that surely lie inside it
        inside = np.clip(np.round((values - centre * self.tolerance) / self._step), -most, most)
        return ((centre * STEPS + inside) * self._step)[:, None]

    def bits(self, outputs: Array, level: Level, settings: ReleaseSettings) -> float:
        """log2 of the count of cells between cut points; where numbers leave, their width, for they know no bounds."""
        if level is Level.LABEL and self.cut_points:
            return capacity.label_bits(len(self.cut_points) + 1)
        return plain_bits(1, outputs, Level.FULL if level < Level.WITHHELD else level)

    def word(self, decision: int) -> str:
        """The cell between cut points, or the multiple of the tolerance, in words."""
        unit = f" {self.unit}" if self.unit else ""
        if not self.cut_points:
            nearest = decision // 2 if decision % 2 == 0 else -(decision + 1) // 2
            return f"about {nearest * self.tolerance:.12g}{unit}"
        if decision == 0:
            return f"below {self.cut_points[0]:g}{unit}"
        if decision == len(self.cut_points):
            return f"{self.cut_points[-1]:g}{unit} or more"
        return f"{self.cut_points[decision - 1]:g} to below {self.cut_points[decision]:g}{unit}"

    @property
    def _step(self) -> float:
        return self.tolerance / STEPS

    def _multiple(self, values: Array) -> Array:
        return np.floor(np.asarray(values, np.float64) / self.tolerance + 0.5)

    def _within(self, values: Array, cells: Ints) -> Array:
        """`values (n,)` moved into their `cells` between cut points, to the nearer end."""
        ends = np.array([-np.inf, *self.cut_points, np.inf])
        return np.clip(values, ends[cells], np.nextafter(ends[cells + 1], -np.inf))
