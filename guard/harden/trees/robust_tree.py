"""One tree of robust boosting: splits and leaf values that serve rows at their worst, each moved within its room.

A row that can lie on both sides of a cut counts on the side that is worse for it, so a split gains only by rows that
stay where they are. Which side that is shows as soon as it is said which leaf is the larger: of these two cases each
has a gain in closed form, and the better one whose leaves turn out in that order is the split's.

Reference: Chen, Zhang, Boning and Hsieh, "Robust decision trees against adversarial examples", ICML 2019 (splits at the
worst case); Andriushchenko and Hein, "Provably robust boosted decision stumps and trees against adversarial attacks",
NeurIPS 2019 (each tree is fitted to the bounds of those before it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medward.guard.harden.trees.cuts import RowSpans, side_sums
from medward.guard.types import Array, Ints

_GAIN = 1e-6  # less is rounding
_REFINEMENTS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowSlopes:
    """Row slopes say how a loss moves with a tree's value: rows with `wanted` +1 want it larger, those with -1 smaller.

    `slope` is how steeply, `curvature` how soon that ends; both ``(n,)`` and above 0.
    """

    wanted: Array
    slope: Array
    curvature: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RobustTree:
    """A robust tree is lists of nodes ``(N,)``: 0 is the root, `left` and `right` are -1 for leaves that add `values`.

    An inner node sends a row left of a `cut` of a `column` to `left`.
    """

    column: Ints
    cut: Ints
    left: Ints
    right: Ints
    values: Array

    def reached(self, spans: RowSpans) -> NDArray[np.bool_]:
        """Which leaves rows can fall into, ``(n, N)``."""
        found = np.zeros((len(spans.least), len(self.left)), bool)
        found[:, 0] = True
        for node in np.flatnonzero(self.left >= 0):  # parents stand before their children
            column, cut = int(self.column[node]), int(self.cut[node])
            found[:, self.left[node]] = found[:, node] & spans.left(column, cut)
            found[:, self.right[node]] = found[:, node] & spans.right(column, cut)
        return found & (self.left < 0)

    def with_values(self, values: Array) -> RobustTree:
        """The same splits with other `values (N,)`; inner nodes add nothing."""
        return replace(self, values=np.where(self.left < 0, values, 0.0))


def worst_values(tree: RobustTree, reached: NDArray[np.bool_], wanted: Array) -> Array:
    """What the tree adds to each row ``(n,)`` at its worst: the least of what it can, where more is `wanted`."""
    signed = np.where(reached, wanted[:, None] * tree.values, np.inf)
    return np.asarray(wanted * signed.min(axis=1))


def grow_tree(
    spans: RowSpans, slopes: RowSlopes, *, cuts: int, depth: int, smoothing: float, fewest: int
) -> RobustTree:
    """A tree of at most `depth` levels, split by the largest gain at the worst case.

    `smoothing` is added to the curvature of every leaf; `fewest` rows lie surely on either side of a split.
    """
    signed = slopes.wanted * slopes.slope
    more = slopes.wanted > 0
    terms = np.stack(
        [signed * more, slopes.curvature * more, signed * ~more, slopes.curvature * ~more, np.ones(len(more))], axis=1
    )
    nodes: list[tuple[int, int, int, int, float]] = []

    def grow(rows: Ints, levels: int) -> int:
        node, total = len(nodes), terms[rows].sum(axis=0)
        value = (total[0] + total[2]) / (total[1] + total[3] + smoothing)
        nodes.append((0, 0, -1, -1, value))
        found = None if not levels else _best_split(spans, rows, terms, total, cuts, smoothing, fewest)
        if found is not None:
            column, cut = found
            left, right = (grow(rows[side(column, cut)[rows]], levels - 1) for side in (spans.left, spans.right))
            nodes[node] = (column, cut, left, right, value)
        return node

    grow(np.arange(len(more)), depth)
    column, cut, left, right, values = zip(*nodes, strict=True)
    return RobustTree(
        column=np.array(column, np.int64),
        cut=np.array(cut, np.int64),
        left=np.array(left, np.int64),
        right=np.array(right, np.int64),
        values=np.array(values, np.float64),
    )


def refined_tree(tree: RobustTree, reached: NDArray[np.bool_], slopes: RowSlopes, smoothing: float) -> RobustTree:
    """The tree with values that suit the rows whose worst leaf each leaf is, which moves with the values."""
    values = tree.values
    for _ in range(_REFINEMENTS):
        worst = np.where(reached, slopes.wanted[:, None] * values, np.inf).argmin(axis=1)
        pull = np.bincount(worst, slopes.wanted * slopes.slope, len(values))
        values = (values + pull / (np.bincount(worst, slopes.curvature, len(values)) + smoothing)) / 2
    return tree.with_values(values)


def _best_split(
    spans: RowSpans, rows: Ints, terms: Array, total: Array, cuts: int, smoothing: float, fewest: int
) -> tuple[int, int] | None:
    """The column and cut of the largest gain, None where none gains anything."""
    left, right = side_sums(spans, rows, terms, cuts)
    both = total[:, None, None] - left - right
    enough = (left[4] >= fewest) & (right[4] >= fewest)
    without = (total[0] + total[2]) ** 2 / (total[1] + total[3] + smoothing)
    surely_left, surely_right, more, less = left[0:2] + left[2:4], right[0:2] + right[2:4], both[0:2], both[2:4]
    best, found = _GAIN, None
    # Rows on both sides that want more count at the smaller leaf, those that want less at the larger one.
    for to_left, to_right, left_is_larger in ((less, more, True), (more, less, False)):
        on_left, on_right = surely_left + to_left, surely_right + to_right
        leaf_left, leaf_right = (each[0] / (each[1] + smoothing) for each in (on_left, on_right))
        ordered = (leaf_left > leaf_right) == left_is_larger
        gain = np.where(ordered & enough, on_left[0] * leaf_left + on_right[0] * leaf_right - without, -np.inf)
        place = int(gain.argmax())
        if gain.flat[place] > best:
            best, found = float(gain.flat[place]), place
    return None if found is None else (found // cuts, found % cuts)
