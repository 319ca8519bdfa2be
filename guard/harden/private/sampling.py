"""Which units a step looks at: each by a coin of its own, never a shuffled list.

The amplification that the accountant counts on needs exactly this. A draw may be empty; its step adds noise all the
same. Of a unit with many rows some are drawn by chance, whatever is in them.

Reference: Mironov, Talwar and Zhang, "Renyi differential privacy of the sampled Gaussian mechanism", 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.harden.private.randomness import Randomness
from medward.guard.types import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A draw is the `units (u,)` of one step, their `rows (n,)`, and whose each row is, `owners (n,)` from 0 to u."""

    units: Ints
    rows: Ints
    owners: Ints

    def parts(self, most: int) -> Iterator[Draw]:
        """The draw in parts of at most about `most` rows, no unit divided; none for an empty draw."""
        first = 0
        ends = np.cumsum(np.bincount(self.owners, minlength=len(self.units)))
        while first < len(self.units):
            before = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
            rows = slice(before, int(ends[last - 1]))
            yield Draw(units=self.units[first:last], rows=self.rows[rows], owners=self.owners[rows] - first)
            first = last


class PoissonSampler:
    """A Poisson sampler draws every unit with probability `rate`, and at most `rows_per_unit` rows of each."""

    def __init__(self, owners: Ints, rate: float, rows_per_unit: int, randomness: Randomness) -> None:
        """`owners (n,)` number the unit of each row, from 0 without a gap."""
        if not 0 < rate <= 1:
            raise MedwardError(f"sample rate: must be above 0 and at most 1, got {rate:g}")
        if rows_per_unit < 1:
            raise MedwardError(f"rows_per_unit: must be at least 1, got {rows_per_unit}")
        self.rate, self.rows_per_unit, self.randomness = rate, rows_per_unit, randomness
        self._order = np.argsort(owners, kind="stable")
        self._counts = np.bincount(owners)
        self._first = np.cumsum(self._counts) - self._counts
        if not self._counts.all():
            raise MedwardError("units: must be numbered from 0 without a gap")

    def __len__(self) -> int:
        """How many units there are."""
        return len(self._counts)

    def draw(self, step: int) -> Draw:
        """The draw of `step`, the same whenever it is asked for."""
        chosen = np.flatnonzero(self.randomness.uniforms(step, "units", len(self)) < self.rate)
        counts = self._counts[chosen]
        owners = np.repeat(np.arange(len(chosen)), counts)
        starts = np.cumsum(counts) - counts
        places = np.arange(len(owners)) - starts[owners]  # within the unit
        if counts.max(initial=0) > self.rows_per_unit:
            keys = self.randomness.uniforms(step, "rows", len(owners))
            places = places[np.lexsort((keys, owners))]
            kept = np.arange(len(owners)) - starts[owners] < self.rows_per_unit
            places, owners = places[kept], owners[kept]
        return Draw(units=chosen, rows=self._order[self._first[chosen][owners] + places], owners=owners)
