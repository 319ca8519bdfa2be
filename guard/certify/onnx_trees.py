"""Tree ensembles of ONNX files (ai.onnx.ml), as scikit-learn, XGBoost, LightGBM and CatBoost models are served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.tensors import UnboundedError
from medward.guard.certify.tree_list import NodeList, tree_ensemble
from medward.guard.certify.trees import TreeEnsemble
from medward.guard.types import Ints

TREE_OPERATORS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
_TESTS = {  # whether the true branch is the right one, below or equal to what, whether it is equality
    "BRANCH_LEQ": (False, False, False),
    "BRANCH_LT": (False, True, False),
    "BRANCH_GT": (True, False, False),
    "BRANCH_GTE": (True, True, False),
    "BRANCH_EQ": (False, False, True),
    "BRANCH_NEQ": (True, False, True),
}


def ensemble_of(attributes: dict[str, Any]) -> tuple[TreeEnsemble, str, int]:
    """The trees of a node's `attributes`, its post-transform, and how many classes it has (0 for numbers).

    Two classes of which only one has weights are one output.
    """
    labels = attributes.get("classlabels_int64s") or attributes.get("classlabels_strings") or ()
    prefix = "class" if labels else "target"
    outputs = _numbers(attributes, f"{prefix}_ids", np.int64)
    count = len(labels) or int(attributes.get("n_targets", 1))
    if len(labels) == 2 and len(set(outputs.tolist())) == 1:
        outputs, count = np.zeros_like(outputs), 1
    aggregate = attributes.get("aggregate_function", b"SUM").decode()
    if aggregate not in ("SUM", "AVERAGE"):
        raise UnboundedError(f"trees with aggregate_function {aggregate} cannot be bounded; use SUM or AVERAGE")
    trees = _trees(attributes, prefix, outputs, count)
    if aggregate == "AVERAGE":
        trees = [replace(tree, values=tree.values / len(trees)) for tree in trees]
    base = _numbers(attributes, "base_values", np.float64)
    base = base if len(base) == count else np.zeros(count) if not len(base) else np.full(count, base[-1])
    found = tree_ensemble(trees, base, single_precision=True)
    return found, attributes.get("post_transform", b"NONE").decode(), len(labels)


def _trees(attributes: dict[str, Any], prefix: str, outputs: Ints, count: int) -> list[NodeList]:
    owner, nodes = (_numbers(attributes, f"nodes_{name}", np.int64) for name in ("treeids", "nodeids"))
    threshold = _numbers(attributes, "nodes_values", np.float32)
    modes = [each.decode() for each in attributes["nodes_modes"]]
    if unknown := sorted(set(modes) - {*_TESTS, "LEAF"}):
        raise UnboundedError(f"trees with tests {', '.join(unknown)} cannot be bounded; use {', '.join(_TESTS)}")
    leaf = np.array([mode == "LEAF" for mode in modes])
    swapped, strict, equal = (np.array([_TESTS.get(mode, (False,) * 3)[k] for mode in modes]) for k in range(3))
    threshold = np.where(strict, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    missing = _numbers(attributes, "nodes_missing_value_tracks_true", np.int64)
    missing_true = missing == 1 if len(missing) else np.zeros(len(leaf), bool)
    missing_true |= np.array([mode == "BRANCH_NEQ" for mode in modes])  # NaN is unequal to everything
    yes, no = (_numbers(attributes, f"nodes_{name}nodeids", np.int64) for name in ("true", "false"))
    weights = _leaf_weights(attributes, prefix, outputs, count)
    found = []
    for tree in dict.fromkeys(owner.tolist()):
        own = np.flatnonzero(owner == tree)
        place = {int(node): at for at, node in enumerate(nodes[own])}
        left, right = np.where(swapped, no, yes)[own], np.where(swapped, yes, no)[own]
        children = [
            np.array([-1 if stop else place[int(node)] for node, stop in zip(side, leaf[own], strict=True)], np.int64)
            for side in (left, right)
        ]
        if (children[0] == 0).any() or (children[1] == 0).any():
            raise UnboundedError(f"tree {tree} has a first node that is not its root; write its nodes from the root on")
        values = np.zeros((len(own), count))
        for node, at in place.items():
            values[at] = weights.get((tree, node), 0.0)
        found.append(
            NodeList(
                feature=_numbers(attributes, "nodes_featureids", np.int64)[own],
                threshold=threshold[own].astype(np.float64),
                equal=equal[own],
                missing_left=(missing_true ^ swapped)[own],
                left=children[0],
                right=children[1],
                values=values,
            )
        )
    return found


def _leaf_weights(
    attributes: dict[str, Any], prefix: str, outputs: Ints, count: int
) -> dict[tuple[int, int], NDArray[np.float64]]:
    found: dict[tuple[int, int], NDArray[np.float64]] = {}
    trees, nodes = (_numbers(attributes, f"{prefix}_{name}", np.int64) for name in ("treeids", "nodeids"))
    weights = _numbers(attributes, f"{prefix}_weights", np.float64)
    for tree, node, output, weight in zip(trees.tolist(), nodes.tolist(), outputs.tolist(), weights, strict=True):
        found.setdefault((tree, node), np.zeros(count))[output] += weight
    return found


def _numbers(attributes: dict[str, Any], name: str, dtype: Any) -> NDArray[Any]:
    return np.array(attributes.get(name, ()), dtype)
