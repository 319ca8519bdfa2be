"""Robust boosting: trees one after another, each fitted to the worst that the bounds of those before it allow.

The loss is a share `clean` of the cross-entropy on rows as they are, and the rest of it at the worst scores of rows
with room to move: of the true class the least, of the others the largest, each tree at its own worst. That is the bound
that `guard.certify.trees` certifies answers by, so what is trained is what is certified.

Reference: Andriushchenko and Hein, "Provably robust boosted decision stumps and trees against adversarial attacks",
NeurIPS 2019, with the logistic loss of several classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.tree_list import NodeList
from medward.guard.harden.trees.cuts import candidate_cuts, joined_spans, row_spans
from medward.guard.harden.trees.robust_tree import RobustTree, RowSlopes, grow_tree, refined_tree, worst_values
from medward.guard.types import Array, Ints

_FLATTEST = 1e-6
_LARGEST = 3.0  # value of a leaf before the rate


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingSettings:
    """Boosting settings: `rounds` of one tree a class, `depth` levels deep, each counted at `rate`.

    `cuts` are tried in every column. `smoothing` is added to the curvature of a leaf, which holds at least `fewest`
    rows that no change takes out of it. `clean` is the share of the loss that rows as they are keep.
    """

    rounds: int = 100
    depth: int = 2
    rate: float = 0.2
    cuts: int = 64
    smoothing: float = 10.0
    fewest: int = 5
    clean: float = 0.3


def boosted_trees(
    x: Array, y: Ints, room: Array, settings: BoostingSettings, *, classes: int, border: float = 0.0
) -> list[NodeList]:
    """Trees whose sums are scores of `classes` for rows ``x (n, d)`` of single precision with labels ``y``.

    `room (d,)` is how far each value may be moved. Of two classes the second is decided beyond the log odds `border`.
    Classes count alike, however rare they are.
    """
    cuts = candidate_cuts(x, settings.cuts)
    spans = joined_spans(row_spans(x, cuts, np.zeros_like(room)), row_spans(x, cuts, room))
    labels = np.tile(y, 2)
    weight = (len(y) / (classes * np.bincount(y, minlength=classes)))[labels]
    weight = weight * np.repeat([settings.clean, 1 - settings.clean], len(y))
    wanted = np.where(np.arange(classes) == labels[:, None], 1.0, -1.0)
    scores = np.zeros((len(labels), classes))
    scores[:, -1] -= border
    found = []
    for _ in range(settings.rounds):
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        for column in range(classes):
            probability = likely[:, column]
            slopes = RowSlopes(
                wanted=wanted[:, column],
                slope=weight * np.abs(probability - (wanted[:, column] > 0)),
                curvature=np.maximum(weight * probability * (1 - probability), _FLATTEST),
            )
            tree = grow_tree(
                spans,
                slopes,
                cuts=settings.cuts,
                depth=settings.depth,
                smoothing=settings.smoothing,
                fewest=settings.fewest,
            )
            reached = tree.reached(spans)
            tree = refined_tree(tree, reached, slopes, settings.smoothing)
            tree = tree.with_values(np.clip(tree.values, -_LARGEST, _LARGEST) * settings.rate)
            scores[:, column] += worst_values(tree, reached, wanted[:, column])
            found.append(_node_list(tree, cuts, column, classes))
    return found


def _node_list(tree: RobustTree, cuts: NDArray[np.float32], column: int, classes: int) -> NodeList:
    """The tree as it is kept and written: thresholds for cuts, and a column of scores."""
    values = np.zeros((len(tree.left), classes))
    values[:, column] = tree.values
    none = np.zeros(len(tree.left), bool)
    return NodeList(
        feature=tree.column,
        threshold=np.where(tree.left < 0, 0.0, cuts[tree.column, tree.cut].astype(np.float64)),
        equal=none,
        missing_left=none,
        left=tree.left,
        right=tree.right,
        values=values,
    )
