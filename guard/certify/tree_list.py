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
    counts = [len(tree.left) for tree in trees]
    roots = np.cumsum([0, *counts])[:-1]
    largest = np.sum([np.abs(tree.values[tree.left < 0]).max(axis=0) for tree in trees], axis=0)
    return TreeEnsemble(
        feature=np.concatenate([tree.feature for tree in trees]).astype(np.int64),
        threshold=np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
        equal=np.concatenate([tree.equal for tree in trees]),
        missing_left=np.concatenate([tree.missing_left for tree in trees]),
        left=np.concatenate([_moved(tree.left, tree, at) for tree, at in zip(trees, roots, strict=True)]),
        right=np.concatenate([_moved(tree.right, tree, at) for tree, at in zip(trees, roots, strict=True)]),
        tree=np.repeat(np.arange(len(trees)), counts),
        roots=roots,
        values=np.concatenate([tree.values for tree in trees]).astype(np.float64),
        base=np.asarray(base, np.float64),
        sizes=largest + np.abs(base),
        terms=len(trees) + 1 if single_precision else 0,
    )


def _moved(children: Ints, tree: NodeList, offset: int) -> Ints:
    return np.where(tree.left < 0, -1, children + offset).astype(np.int64)
