"""One rule for each ONNX operator that can be bounded; what is not in `BOUNDED_OPERATORS` is refused by name."""

from __future__ import annotations

from collections.abc import Callable

from medward.guard.certify.elementwise_rules import (
    bound_cast,
    bound_clip,
    bound_concat,
    bound_dropout,
    bound_leaky_relu,
    bound_monotone,
    bound_normaliser,
    bound_pad,
    bound_product,
    bound_same,
    bound_scaler,
    bound_softmax,
    bound_squashing,
    bound_sum,
)
from medward.guard.certify.layer_rules import (
    bound_average_pool,
    bound_batch_norm,
    bound_convolution,
    bound_gemm,
    bound_global_average_pool,
    bound_linear_classifier,
    bound_linear_regressor,
    bound_mat_mul,
    bound_reduce_mean,
)
from medward.guard.certify.tensors import BoundedNode, Tensor, Tensors

BoundingRule = Callable[[Tensors, BoundedNode], Tensor]
BOUNDED_OPERATORS: dict[str, BoundingRule] = {
    "Identity": bound_same,
    "Dropout": bound_dropout,
    "Cast": bound_cast,
    **dict.fromkeys(
        ("Relu", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather"), bound_monotone
    ),
    "LeakyRelu": bound_leaky_relu,
    "Clip": bound_clip,
    "Sigmoid": bound_squashing,
    "Tanh": bound_squashing,
    "Softmax": bound_softmax,
    "ai.onnx.ml.Normalizer": bound_normaliser,
    "Conv": bound_convolution,
    "Gemm": bound_gemm,
    "MatMul": bound_mat_mul,
    "BatchNormalization": bound_batch_norm,
    "Add": bound_sum,
    "Sub": bound_sum,
    "Mul": bound_product,
    "Div": bound_product,
    "MaxPool": bound_monotone,
    "GlobalMaxPool": bound_monotone,
    "AveragePool": bound_average_pool,
    "GlobalAveragePool": bound_global_average_pool,
    "ReduceMean": bound_reduce_mean,
    "Pad": bound_pad,
    "Concat": bound_concat,
    "ai.onnx.ml.Scaler": bound_scaler,
    "ai.onnx.ml.LinearRegressor": bound_linear_regressor,
    "ai.onnx.ml.LinearClassifier": bound_linear_classifier,
}
"""How each operator is bounded, by its name, with its domain where that is not ONNX's own."""
