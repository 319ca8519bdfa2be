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

    Nodes ``(N,)`` of all trees stand in one list; `tree` says whose each is, `roots (T,)` where each begins. An inner
    node sends x to `left` where x <= `threshold`, or where x equals it if `equal`, else to `right`; NaN goes left
    where `missing_left`. `left` is -1 for a leaf, which adds its `values (N, m)`. `sizes (m,)` is what magnitudes add
    up to at most, `terms` how many numbers of single precision are added, 0 where the model adds in double precision.
    """

    feature: Ints
    threshold: NDArray[np.float64]
    equal: Flags
    missing_left: Flags
    left: Ints
    right: Ints
    tree: Ints
    roots: Ints
    values: NDArray[np.float64]
    base: NDArray[np.float64]
    sizes: NDArray[np.float64]
    terms: int

    def between(self, box: TableBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest sums ``(n, m)`` over a box, each output at its own worst, rounding included."""
        most = max(1, _CELLS // max(1, len(self.left)))
        parts = [self._sums(part) for part in _row_parts(box, most)]
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

    def _reached(self, box: TableBox) -> Iterator[tuple[Ints, Ints]]:
        """The leaves that an input of a box falls into, level by level, as rows and nodes."""
        rows = np.repeat(np.arange(len(box.lower)), len(self.roots))
        nodes = np.tile(self.roots, len(box.lower))
        while len(nodes):
            inner = self.left[nodes] >= 0
            yield rows[~inner], nodes[~inner]
            rows, nodes = rows[inner], nodes[inner]
            left, right = self._crossed(box, rows, nodes)
            rows = np.concatenate([rows[left], rows[right]])
            nodes = np.concatenate([self.left[nodes[left]], self.right[nodes[right]]])

    def _crossed(self, box: TableBox, rows: Ints, nodes: Ints) -> tuple[Flags, Flags]:
        """Whether some input of each row's box goes left at an inner node, and whether some goes right."""
        places, threshold, equal = (rows, self.feature[nodes]), self.threshold[nodes], self.equal[nodes]
        lower, upper, missing_left = box.lower[places], box.upper[places], self.missing_left[nodes]
        left = (lower <= threshold) & (~equal | (threshold <= upper))
        right = np.where(equal, (lower != threshold) | (upper != threshold), upper > threshold)
        missing, present = box.missing[places], box.present[places]
        return (left & present) | (missing & missing_left), (right & present) | (missing & ~missing_left)

    def _sums(self, box: TableBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows, trees, outputs = len(box.lower), len(self.roots), self.values.shape[1]
        least = np.full((rows * trees, outputs), np.inf)
        largest = -least
        for row, leaf in self._reached(box):
            cell = row * trees + self.tree[leaf]
            np.minimum.at(least, cell, self.values[leaf])
            np.maximum.at(largest, cell, self.values[leaf])
        slack = self.sizes * (rounding_factor(self.terms) if self.terms else _DOUBLE_ROUNDING)
        lower, upper = (each.reshape(rows, trees, outputs).sum(axis=1) + self.base for each in (least, largest))
        return lower - slack, upper + slack


def _row_parts(box: TableBox, most: int) -> Iterator[TableBox]:
    for start in range(0, len(box.lower), most):
        part = slice(start, start + most)
        yield TableBox(
            lower=box.lower[part], upper=box.upper[part], missing=box.missing[part], present=box.present[part]
        )
