"""Scalers and linear classifiers of classical machine learning (ai.onnx.ml)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medward.attacks.whitebox.onnx.operators.base import Attributes, Inputs, Op, UnsupportedOpError


def _scaler(inputs: Inputs, attributes: Attributes) -> Any:
    like = {"dtype": torch.float32, "device": inputs[0].device}
    return (inputs[0] - torch.tensor(attributes["offset"], **like)) * torch.tensor(attributes["scale"], **like)


def _imputer(inputs: Inputs, attributes: Attributes) -> Any:
    x, gap = inputs[0], attributes.get("replaced_value_float", math.nan)
    filled = torch.tensor(attributes["imputed_value_floats"], dtype=torch.float32, device=x.device)
    return torch.where(torch.isnan(x) if math.isnan(gap) else x == gap, filled, x)


def _normalizer(inputs: Inputs, attributes: Attributes) -> Any:
    x, norm = inputs[0], attributes.get("norm", "MAX")
    order = {"MAX": math.inf, "L1": 1.0, "L2": 2.0}[norm]
    size = x.amax(dim=-1, keepdim=True) if norm == "MAX" else torch.linalg.vector_norm(x, order, -1, keepdim=True)
    return x / torch.where(size == 0, torch.ones_like(size), size)


def _feature_extractor(inputs: Inputs, _: Attributes) -> Any:
    return inputs[0][..., inputs[1].reshape(-1).long()]


def linear_scores(inputs: Inputs, attributes: Attributes) -> Tensor:
    """The raw scores ``(n, K)`` of a LinearClassifier, before its post-transform."""
    like: dict[str, Any] = {"dtype": torch.float32, "device": inputs[0].device}
    labels = attributes.get("classlabels_ints") or attributes.get("classlabels_strings")
    weights = torch.tensor(attributes["coefficients"], **like).reshape(-1, inputs[0].shape[1])
    scores: Tensor = inputs[0].float() @ weights.T
    if "intercepts" in attributes:
        scores = scores + torch.tensor(attributes["intercepts"], **like)
    if labels is not None and len(labels) == 2 and len(weights) == 1:
        scores = torch.cat([-scores, scores], dim=1)
    return scores


def _linear_classifier(inputs: Inputs, attributes: Attributes) -> Any:
    scores = linear_scores(inputs, attributes)
    transform = attributes.get("post_transform", "NONE")
    if transform not in TRANSFORMS:
        raise UnsupportedOpError(f"LinearClassifier: post_transform = {transform} is not supported")
    return scores.argmax(dim=1), TRANSFORMS[transform](scores)


TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "NONE": lambda s: s,
    "LOGISTIC": torch.sigmoid,
    "SOFTMAX": lambda s: s.softmax(dim=1),
}

CLASSICAL_OPERATORS: dict[str, Op] = {
    "ArrayFeatureExtractor": _feature_extractor,
    "Imputer": _imputer,
    "LinearClassifier": _linear_classifier,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
}
