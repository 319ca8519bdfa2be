"""ONNX operators as differentiable torch functions: one table, operator name to function.

Each function takes the node's inputs (None where an optional one is left out) and its attributes, and returns
its output, or a tuple of them. Two attributes are added to the node's own: "outputs", how many it has, and "opset",
whose semantics it follows (7 and later, inference only). Where torch cannot express a setting, `UnsupportedOpError`
says which. Reference: https://onnx.ai/onnx/operators/ (ai.onnx and ai.onnx.ml).
"""

from attacks.onnx_ops import arrays, classical, layers, quantised, recurrent
from attacks.onnx_ops.base import Node, Op, UnsupportedOpError
from attacks.onnx_ops.classical import linear_scores

OPS: dict[str, Op] = {**arrays.OPS, **layers.OPS, **classical.OPS, **quantised.OPS, **recurrent.OPS}

__all__ = ["OPS", "Node", "UnsupportedOpError", "linear_scores"]
