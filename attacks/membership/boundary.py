"""Boundary distance: how far a record must be moved until the model decides wrongly, by decisions alone.

What a model learned lies deeper within its class. From each row lines to rows of other classes are bisected; from the
nearest boundary point found, random directions show which way the boundary faces, and a step that way is bisected
again. All rows are searched at once. Distances are Euclidean: of tables in spreads of each column, of images in their
own unit.

Reference: Choquette-Choo, Tramer, Carlini and Papernot, "Label-only membership inference attacks", ICML 2021; the
search is a short form of Chen, Jordan and Wainwright, "HopSkipJumpAttack", IEEE S&P 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.attacks.candidates.channels import Mask
from medward.attacks.membership.labels import Asker, LabelOnlyAttack
from medward.guard.data.labels import Labels
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

_LEAST = 1e-6  # of a column's spread


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryDistance(LabelOnlyAttack):
    """Score = the distance; 0 for a row that is decided wrongly as it is.

    `starts` rows of other labels are gone towards, in `steps` bisections each; `rounds` times `directions` random steps
    are asked about. A row for which no wrong decision is found scores as the farthest start.
    """

    starts: int = 4
    steps: int = 8
    rounds: int = 2
    directions: int = 16

    def __post_init__(self) -> None:
        if min(self.starts, self.steps, self.directions) < 1 or self.rounds < 0:
            raise MedwardError(
                "boundary: needs starts, steps and directions >= 1 and rounds >= 0, "
                f"got {self.starts}, {self.steps}, {self.directions}, {self.rounds}"
            )

    @property
    def name(self) -> str:
        """``membership-boundary``."""
        return "membership-boundary"

    def scored(self, asker: Asker, inputs: Array, seed: int) -> Array:
        """The distance ``(n,)`` to the nearest wrong decision that was found."""
        rng = np.random.default_rng(seed)
        unit = np.maximum(inputs.std(axis=0), _LEAST) if inputs.ndim == 2 else np.ones(inputs.shape[1:])
        right = asker.right(inputs)
        nearest, distance = inputs.copy(), np.full(len(inputs), np.inf)
        farthest = 0.0
        for _ in range(self.starts):
            ends = inputs[other_rows(asker.labels, rng)]
            farthest = max(farthest, float(row_norms((ends - inputs) / unit).max()))
            found = ~asker.right(ends)
            nearest, distance = nearer(
                inputs, bisected(asker, inputs, ends, self.steps), found & right, nearest, distance, unit
            )
        for turn in range(self.rounds):
            there = np.isfinite(distance) & right
            if not there.any():
                break
            facing = self.facing(asker, nearest, distance / 10, unit, rng)
            length = np.where(there, distance, 0.0) / np.sqrt(turn + 1)
            ends = asker.bounded(nearest + spread_over(length, inputs) * facing * unit)
            found = there & ~asker.right(ends)
            nearest, distance = nearer(
                inputs, bisected(asker, inputs, ends, self.steps), found, nearest, distance, unit
            )
        return np.where(right, np.minimum(distance, farthest), 0.0)

    def facing(self, asker: Asker, points: Array, radius: Array, unit: Array, rng: np.random.Generator) -> Array:
        """Unit vectors ``(n, ...)`` towards wrong decisions, from which of random small steps lead to them."""
        size = spread_over(np.where(np.isfinite(radius), radius, 0.0), points)
        steps, wrong = [], []
        for _ in range(self.directions):
            step = rng.standard_normal(points.shape)
            step /= spread_over(np.maximum(row_norms(step), _LEAST), points)
            steps.append(step)
            wrong.append(~asker.right(asker.bounded(points + size * step * unit)))
        weight = np.array(wrong, float) - np.mean(wrong, axis=0)
        mean = np.einsum("dn,dn...->n...", weight, np.array(steps))
        return np.asarray(mean / spread_over(np.maximum(row_norms(mean), _LEAST), points))


def bisected(asker: Asker, inputs: Array, ends: Array, steps: int) -> Array:
    """Points ``(n, ...)`` just across the boundary on the lines from `inputs` to `ends`, which are decided wrongly."""
    low, high = np.zeros(len(inputs)), np.ones(len(inputs))
    for _ in range(steps):
        middle = (low + high) / 2
        wrong = ~asker.right(inputs + spread_over(middle, inputs) * (ends - inputs))
        low, high = np.where(wrong, low, middle), np.where(wrong, middle, high)
    return np.asarray(inputs + spread_over(high, inputs) * (ends - inputs), np.float32)


def nearer(
    inputs: Array, points: Array, found: Mask, nearest: Array, distance: Array, unit: Array
) -> tuple[Array, Array]:
    """The nearest points so far and their distances ``(n,)``, after `points` where they were `found`."""
    new = row_norms((points - inputs) / unit)
    better = found & (new < distance)
    return np.where(better.reshape(spread_over(new, inputs).shape), points, nearest), np.where(better, new, distance)


def other_rows(labels: Labels, rng: np.random.Generator) -> Ints:
    """For each row ``(n,)`` the place of a random one of another label; any where all labels are equal."""
    order = rng.permutation(len(labels))
    for _ in range(32):
        same = np.flatnonzero(labels[order] == labels)
        if not len(same):
            break
        order[same] = rng.integers(0, len(labels), len(same))
    return np.asarray(order, np.int64)


def row_norms(values: Array) -> Array:
    """The Euclidean norm ``(n,)`` of each row."""
    return np.asarray(np.linalg.norm(values.reshape(len(values), -1), axis=1))


def spread_over(values: Array, rows: Array) -> Array:
    """Values ``(n,)`` in a shape that multiplies `rows (n, ...)`."""
    return np.asarray(values).reshape(len(rows), *([1] * (rows.ndim - 1)))
