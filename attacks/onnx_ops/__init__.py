"""ONNX operators as differentiable torch functions: one table, operator name to function.

Each function takes the node's inputs (None where an optional one is left out) and its attributes, and returns
its output, or a tuple of them. Semantics are opset 13 and later, inference only. Where torch cannot express a
setting, `UnsupportedOpError` says which. Reference: https://onnx.ai/onnx/operators/ (ai.onnx and ai.onnx.ml).
"""

from attacks.onnx_ops import arrays, classical, layers
from attacks.onnx_ops.base import Op, UnsupportedOpError
from attacks.onnx_ops.classical import linear_scores

OPS: dict[str, Op] = {**arrays.OPS, **layers.OPS, **classical.OPS}

__all__ = ["OPS", "UnsupportedOpError", "linear_scores"]
