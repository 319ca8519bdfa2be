"""ONNX operators as differentiable torch functions: one table, operator name to function.

Each function takes the node's inputs (None where an optional one is left out) and its attributes, and returns
its output, or a tuple of them. Two attributes are added to the node's own: "outputs", how many it has, and "opset",
whose semantics it follows (7 and later, inference only). Where torch cannot express a setting, `UnsupportedOpError`
says which. Reference: https://onnx.ai/onnx/operators/ (ai.onnx and ai.onnx.ml).
"""

from medward.attacks.whitebox.onnx.operators import arrays, classical, layers, quantised, recurrent
from medward.attacks.whitebox.onnx.operators.base import Node, Op, UnsupportedOpError
from medward.attacks.whitebox.onnx.operators.classical import linear_scores

OPERATORS: dict[str, Op] = {
    **arrays.ARRAY_OPERATORS,
    **layers.LAYER_OPERATORS,
    **classical.CLASSICAL_OPERATORS,
    **quantised.QUANTISED_OPERATORS,
    **recurrent.RECURRENT_OPERATORS,
}

__all__ = ["OPERATORS", "Node", "UnsupportedOpError", "linear_scores"]
