"""Tree ensembles over boxes: in every tree all leaves that some input of the box falls into, and no others.

A node's test is of one value, and the values of a box are free of each other, so a leaf is reached exactly if the box
crosses every test on its path. Each tree's least and largest leaf are thus exact, and their sums bound the ensemble:
sound, exact for one tree, and not for several, whose leaves one input may never reach together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.rounding import rounding_factor
from medward.guard.types import Array, Ints

Flags = NDArray[np.bool_]
_DOUBLE_ROUNDING = 1e-11  # of a sum of up to 10,000 trees
_CELLS = 2**24  # rows times nodes that are looked at together


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBox:
    """A box of rows of a table ``(n, d)``: each value lies between `lower` and `upper`, or may be missing.

    `missing` says that a value may be missing, `present` that it may be a number.
    """

    lower: Array
    upper: Array
    missing: Flags
    present: Flags


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeEnsemble:
    """A tree ensemble adds up one leaf of each tree, and `base`.

    Nodes ``(N,)`` of all trees stand in one list. An inner node sends x to `left` where x <= `threshold`, or where x
    equals it if `equal`, else to `right`; NaN goes left where `missing_left`. `left` is -1 for a leaf. `parent` is -1
    for a root; parents stand before their children. `leaves (L,)` are nodes, tree by tree, `values (L, m)` what they
    add, `starts (T,)` the first leaf of each tree. `sizes (m,)` is what magnitudes add up to at most, `terms` how many
    numbers of single precision are added, 0 where the model adds in double precision.
    """

    feature: Ints
    threshold: NDArray[np.float64]
    equal: Flags
    missing_left: Flags
    left: Ints
    right: Ints
    parent: Ints
    depth: Ints
    leaves: Ints
    values: NDArray[np.float64]
    starts: Ints
    base: NDArray[np.float64]
    sizes: NDArray[np.float64]
    terms: int

    def between(self, box: TableBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest sums ``(n, m)`` over a box, each output at its own worst, rounding included."""
        most = max(1, _CELLS // max(1, len(self.left)))
        parts = [self._sums(self._reached(part)) for part in _row_parts(box, most)]
        lower, upper = (np.concatenate(each) for each in zip(*parts, strict=True))
        return lower, upper

    def differences(self, first: Ints, second: Ints) -> TreeEnsemble:
        """The ensemble of differences second - first of outputs, bounded within each tree and so tighter."""
        return replace(
            self,
            values=self.values[:, second] - self.values[:, first],
            base=self.base[second] - self.base[first],
            sizes=self.sizes[second] + self.sizes[first],
        )

    def splits(self) -> dict[int, NDArray[np.float64]]:
        """The finite thresholds of each feature that is tested."""
        inner = (self.left >= 0) & np.isfinite(self.threshold)
        return {int(each): self.threshold[inner & (self.feature == each)] for each in np.unique(self.feature[inner])}

    def _reached(self, box: TableBox) -> Flags:
        """Which leaves ``(n, L)`` an input of each box falls into."""
        lower, upper = box.lower[:, self.feature], box.upper[:, self.feature]
        missing, present = box.missing[:, self.feature], box.present[:, self.feature]
        goes_left = np.where(self.equal, (lower <= self.threshold) & (self.threshold <= upper), lower <= self.threshold)
        still = (lower == self.threshold) & (upper == self.threshold)
        goes_right = np.where(self.equal, ~still, upper > self.threshold)
        goes_left = (goes_left & present) | (missing & self.missing_left)
        goes_right = (goes_right & present) | (missing & ~self.missing_left)
        reached = np.ones(lower.shape, bool)
        for level in range(1, int(self.depth.max(initial=0)) + 1):
            nodes = np.flatnonzero(self.depth == level)
            parents = self.parent[nodes]
            crossed = np.where(self.left[parents] == nodes, goes_left[:, parents], goes_right[:, parents])
            reached[:, nodes] = reached[:, parents] & crossed
        return reached[:, self.leaves]

    def _sums(self, reached: Flags) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lower = np.empty((len(reached), self.values.shape[1]))
        upper, slack = lower.copy(), self.sizes * (rounding_factor(self.terms) if self.terms else _DOUBLE_ROUNDING)
        for column, value in enumerate(self.values.T):
            least = np.minimum.reduceat(np.where(reached, value, np.inf), self.starts, axis=1)
            largest = np.maximum.reduceat(np.where(reached, value, -np.inf), self.starts, axis=1)
            lower[:, column], upper[:, column] = least.sum(axis=1), largest.sum(axis=1)
        return lower + self.base - slack, upper + self.base + slack


def _row_parts(box: TableBox, most: int) -> Iterator[TableBox]:
    for start in range(0, len(box.lower), most):
        part = slice(start, start + most)
        yield TableBox(
            lower=box.lower[part], upper=box.upper[part], missing=box.missing[part], present=box.present[part]
        )
