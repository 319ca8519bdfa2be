"""Learning numbers: by squared error on standardised values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.target import Response
from medward.attacks.whitebox.imitation import fit_numbers
from medward.attacks.whitebox.surrogate import answered_rows
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True)
class NumberLearner:
    """A number learner takes an answer for the number itself, and a decision for the middle of its cell."""

    task: Regression

    @property
    def width(self) -> int:
        """One number."""
        return 1

    def released(self, response: Response) -> Array:
        """Numbers as they left."""
        return np.array(response.scores, np.float64)

    def targets(self, response: Response) -> Array:
        """Numbers, or the middle of the cell."""
        targets = self.released(response)
        told = ~answered_rows(targets) & (response.labels >= 0)
        targets[told] = self.certain(response.labels[told])
        return targets

    def known(self, labels: NDArray[np.generic]) -> Array:
        """The numbers."""
        return np.asarray(labels, np.float64)[:, None]

    def certain(self, decisions: Ints) -> Array:
        """The middles of cells."""
        return cell_middles(self.task, decisions)

    def reference(self, data: AttackData) -> Array:
        """The numbers the model gives."""
        if data.outputs is None:
            raise MedwardError("a clone of numbers is judged by the model's own on the test rows, and data has none")
        return np.asarray(data.outputs, np.float64)

    def fit(
        self, spec: ModelSpec, inputs: Array, targets: Array, *, epochs: int, seed: int, normalised: bool = True
    ) -> nn.Module:
        """By squared error on standardised numbers; the network gives them in their own unit."""
        return fit_numbers(
            inputs,
            targets,
            modality=spec.modality,
            shape=spec.shape,
            epochs=epochs,
            seed=seed,
            normalised=normalised,
        )

    def operated(self, network: nn.Module) -> nn.Module:
        """As it is: cut points need nothing moved."""
        return network

    def values(self, outputs: Array) -> Array:
        """The numbers."""
        return np.asarray(outputs, np.float64)

    def decided(self, values: Array) -> Ints:
        """The cell."""
        return self.task.decide(values)

    def same(self, first: Array, second: Array) -> NDArray[np.bool_]:
        """Where they differ by no more than the tolerance, and by no cut point."""
        return self.task.unchanged(first, second)

    def constant(self, values: Array) -> Array:
        """The number that most `values (n, 1)` are the same as: one of them, a tolerance above one, or a cut point."""
        cuts = np.asarray(self.task.cut_points, np.float64)
        known = np.unique(np.asarray(values, np.float64))
        tried = np.concatenate([known, known + self.task.tolerance, cuts, np.nextafter(cuts, -np.inf)])
        hits = [int(self.same(values, np.full_like(values, each)).sum()) for each in tried]
        return np.asarray(tried[[int(np.argmax(hits))]])

    def parts(self, values: Array, reference: Array) -> dict[str, float]:
        """None: there is but one number."""
        return {}


def cell_middles(task: Regression, cells: Ints) -> Array:
    """The middle ``(n, 1)`` of each cell of `task`; of one without end, a tolerance beyond its cut point."""
    if not task.cut_points:
        multiples = np.where(cells % 2 == 0, cells // 2, -(cells + 1) // 2)
        return np.asarray((multiples * task.tolerance)[:, None], np.float64)
    points = np.asarray(task.cut_points)
    ends = [points[0] - 2 * task.tolerance, *points, points[-1] + 2 * task.tolerance]
    middles = np.convolve(ends, [0.5, 0.5], "valid")
    return np.asarray(middles[cells][:, None])
