"""Trees as an ONNX file that takes rows and gives scores: logits, or the probabilities that softmax makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.guard.certify.tree_list import NodeList
from medward.guard.models.base import require_extra
from medward.guard.types import ScoreKind

ROWS, SCORES = "input", "scores"
_OPSET, _ML_OPSET, _IR = 17, 3, 8


def tree_file(trees: Sequence[NodeList], width: int, output: ScoreKind) -> bytes:
    """The sum of `trees` over rows of `width` values, which go left where they are at most a node's threshold."""
    onnx = require_extra("onnx", "torch")
    sizes = [len(tree.left) for tree in trees]
    leaf = np.concatenate([tree.left < 0 for tree in trees])
    owner, node = np.repeat(np.arange(len(trees)), sizes), np.concatenate([np.arange(size) for size in sizes])
    values = np.concatenate([tree.values for tree in trees]).astype(np.float32)
    at, column = np.nonzero(leaf[:, None] & (values != 0))
    classes = values.shape[1]
    attributes = {
        "nodes_treeids": owner.tolist(),
        "nodes_nodeids": node.tolist(),
        "nodes_featureids": np.concatenate([tree.feature for tree in trees]).tolist(),
        "nodes_values": np.concatenate([tree.threshold for tree in trees]).astype(np.float32).tolist(),
        "nodes_modes": ["LEAF" if each else "BRANCH_LEQ" for each in leaf],
        "nodes_truenodeids": np.where(leaf, 0, np.concatenate([tree.left for tree in trees])).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, np.concatenate([tree.right for tree in trees])).tolist(),
        "target_treeids": owner[at].tolist(),
        "target_nodeids": node[at].tolist(),
        "target_ids": column.tolist(),
        "target_weights": values[at, column].tolist(),
        "n_targets": classes,
        "post_transform": "SOFTMAX" if output == "probabilities" else "NONE",
    }
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("TreeEnsembleRegressor", [ROWS], [SCORES], domain="ai.onnx.ml", **attributes)],
        "trees",
        [helper.make_tensor_value_info(ROWS, kind, ["n", width])],
        [helper.make_tensor_value_info(SCORES, kind, ["n", classes])],
    )
    versions = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=_IR, producer_name="medward")
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
