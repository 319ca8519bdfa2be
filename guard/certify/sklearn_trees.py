"""Tree ensembles of scikit-learn's own estimators, for bundles that keep the estimator because no ONNX file is like it.

They compare single-precision values with thresholds of double precision, and add up in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.tensors import UnboundedError
from medward.guard.certify.tree_bounds import SumLink, TreeBounds, indicated_places, paired
from medward.guard.certify.tree_list import NodeList, tree_ensemble
from medward.guard.models.base import Model
from medward.guard.spec import ModelSpec


class EstimatorModel(Model, Protocol):
    """An estimator model is a `Model` with the fitted estimator that answers; `framed` ones take DataFrames."""

    @property
    def estimator(self) -> Any:
        """The fitted estimator."""
        ...

    @property
    def framed(self) -> bool:
        """Whether rows are given by the names of their columns."""
        ...


_FORESTS = ("RandomForest", "ExtraTrees")
_LINKS: dict[tuple[str, int], SumLink] = {
    ("IdentityLink", 1): "sum",
    ("LogitLink", 1): "logistic complement",
}


def estimator_bounds(estimator: Any, spec: ModelSpec) -> TreeBounds:
    """The bounds of a fitted forest, tree or boosting; raises `UnboundedError` for every other estimator."""
    kind = type(estimator).__name__.removesuffix("Classifier").removesuffix("Regressor")
    link: SumLink = "sum"
    if kind in _FORESTS:
        members = [each.tree_ for each in estimator.estimators_]
        trees = [_node_list(each, _leaf_values(each, estimator) / len(members)) for each in members]
        base = np.zeros(trees[0].values.shape[1])
    elif kind == "DecisionTree":
        trees = [_node_list(estimator.tree_, _leaf_values(estimator.tree_, estimator))]
        base = np.zeros(trees[0].values.shape[1])
    elif kind == "GradientBoosting":
        trees, base = _gradient_boosting(estimator)
        link = _boosting_link(estimator, len(base))
    elif kind == "HistGradientBoosting":
        trees, base = _histogram_boosting(estimator)
        link = _boosting_link(estimator, len(base))
    else:
        raise UnboundedError(
            f"{type(estimator).__name__} has no sound bound here; certified answers need a forest, a tree or boosting"
        )
    columns = spec.columns
    return paired(
        TreeBounds(
            ensemble=tree_ensemble(trees, base, single_precision=False),
            link=link,
            width=len(columns) or int(np.prod(spec.shape)),
            indicators=indicated_places(columns),
        ),
        spec,
    )


def _leaf_values(tree: Any, estimator: Any) -> NDArray[np.float64]:
    """What each node answers ``(nodes, m)``: probabilities of classes, of several findings, or numbers."""
    values = np.asarray(tree.value, np.float64)
    if not hasattr(estimator, "classes_"):
        return values[:, :, 0]
    likely: NDArray[np.float64] = values / values.sum(axis=2, keepdims=True)
    return likely[:, 0] if likely.shape[1] == 1 else likely[:, :, 1]


def _node_list(tree: Any, values: NDArray[np.float64]) -> NodeList:
    missing = np.asarray(getattr(tree, "missing_go_to_left", np.zeros(tree.node_count)), bool)
    return NodeList(
        feature=np.asarray(tree.feature, np.int64),
        threshold=np.asarray(tree.threshold, np.float64),
        equal=np.zeros(tree.node_count, bool),
        missing_left=missing,
        left=np.asarray(tree.children_left, np.int64),
        right=np.asarray(tree.children_right, np.int64),
        values=values,
    )


def _gradient_boosting(estimator: Any) -> tuple[list[NodeList], NDArray[np.float64]]:
    if estimator.init is not None:
        raise UnboundedError(f"{type(estimator).__name__} starts from an estimator of its own; fit it with init=None")
    base = np.asarray(estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32)))[0]
    members = ((each.tree_, column) for row in estimator.estimators_ for column, each in enumerate(row))
    return [
        _node_list(tree, _in_column(estimator.learning_rate * tree.value[:, 0, 0], column, len(base)))
        for tree, column in members
    ], base


def _histogram_boosting(estimator: Any) -> tuple[list[NodeList], NDArray[np.float64]]:
    base = np.asarray(estimator._baseline_prediction, np.float64).reshape(-1)
    members = [(each.nodes, column) for row in estimator._predictors for column, each in enumerate(row)]
    return [_histogram_nodes(nodes, column, len(base)) for nodes, column in members], base


def _histogram_nodes(nodes: Any, column: int, count: int) -> NodeList:
    if nodes["is_categorical"].any():
        raise UnboundedError("histogram boosting with categories has sets for tests; encode categories as numbers")
    leaf = nodes["is_leaf"].astype(bool)
    return NodeList(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        equal=np.zeros(len(nodes), bool),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        values=_in_column(nodes["value"], column, count),
    )


def _in_column(values: Sequence[float], column: int, count: int) -> NDArray[np.float64]:
    found = np.zeros((len(values), count))
    found[:, column] = values
    return found


def _boosting_link(estimator: Any, outputs: int) -> SumLink:
    link = type(estimator._loss.link).__name__
    if link == "MultinomialLogit":
        return "softmax"
    if (link, outputs) not in _LINKS or type(estimator._loss).__name__ == "ExponentialLoss":
        raise UnboundedError(
            f"{type(estimator).__name__} with {type(estimator._loss).__name__} has no sound bound here"
        )
    return _LINKS[link, outputs]
