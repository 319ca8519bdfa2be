"""Trees as lists of nodes, put together into one ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.trees import Flags, TreeEnsemble
from medward.guard.types import Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NodeList:
    """A node list is one tree as libraries keep it: node 0 is the root, `left` and `right` are -1 for leaves.

    `values (nodes, m)` are what a leaf adds; those of inner nodes are not read. The rest is as in `TreeEnsemble`.
    """

    feature: Ints
    threshold: NDArray[np.float64]
    equal: Flags
    missing_left: Flags
    left: Ints
    right: Ints
    values: NDArray[np.float64]


def tree_ensemble(trees: Sequence[NodeList], base: NDArray[np.float64], *, single_precision: bool) -> TreeEnsemble:
    """The sum of `trees` and `base (m,)`, added in single precision or in double."""
    parts = [_in_order(tree) for tree in trees]
    offsets = np.cumsum([0, *(len(tree.left) for tree, _, _ in parts)])[:-1]
    shifted = [
        (np.where(tree.left < 0, -1, tree.left + at), np.where(tree.left < 0, -1, tree.right + at))
        for (tree, _, _), at in zip(parts, offsets, strict=True)
    ]
    leaves = [np.flatnonzero(tree.left < 0) for tree, _, _ in parts]
    values = [tree.values[own] for (tree, _, _), own in zip(parts, leaves, strict=True)]
    largest = np.sum([np.abs(each).max(axis=0) for each in values], axis=0)
    return TreeEnsemble(
        feature=np.concatenate([np.where(tree.left < 0, 0, tree.feature) for tree, _, _ in parts]).astype(np.int64),
        threshold=np.concatenate([tree.threshold for tree, _, _ in parts]).astype(np.float64),
        equal=np.concatenate([tree.equal for tree, _, _ in parts]),
        missing_left=np.concatenate([tree.missing_left for tree, _, _ in parts]),
        left=np.concatenate([left for left, _ in shifted]),
        right=np.concatenate([right for _, right in shifted]),
        parent=np.concatenate([np.where(up < 0, -1, up + at) for (_, up, _), at in zip(parts, offsets, strict=True)]),
        depth=np.concatenate([depth for _, _, depth in parts]),
        leaves=np.concatenate([own + at for own, at in zip(leaves, offsets, strict=True)]),
        values=np.concatenate(values).astype(np.float64),
        starts=np.cumsum([0, *map(len, leaves)])[:-1],
        base=np.asarray(base, np.float64),
        sizes=largest + np.abs(base),
        terms=len(trees) + 1 if single_precision else 0,
    )


def _in_order(tree: NodeList) -> tuple[NodeList, Ints, Ints]:
    """A tree whose parents stand before their children, with each node's parent and depth."""
    order, parent, depth = [0], [-1], [0]
    for place, node in enumerate(order):  # which grows meanwhile
        if tree.left[node] >= 0:
            order += [int(tree.left[node]), int(tree.right[node])]
            parent += [place, place]
            depth += [depth[place] + 1] * 2
    kept = np.array(order, np.int64)
    place_of = np.full(len(tree.left), -1, np.int64)
    place_of[kept] = np.arange(len(kept))
    inner = tree.left[kept] >= 0
    moved = NodeList(
        feature=np.asarray(tree.feature, np.int64)[kept],
        threshold=np.where(inner, tree.threshold[kept], 0.0),
        equal=tree.equal[kept],
        missing_left=tree.missing_left[kept],
        left=np.where(inner, place_of[tree.left[kept]], -1),
        right=np.where(inner, place_of[tree.right[kept]], -1),
        values=tree.values[kept],
    )
    return moved, np.array(parent, np.int64), np.array(depth, np.int64)
