"""A scikit-learn classifier or pipeline as a `Model`, exported to ONNX, or to skops where ONNX cannot follow.

ONNX computes in float32 while scikit-learn may compute in float64, so a tree can differ near a threshold; an
export that differs on the sample is dropped and the estimator itself is kept in a ``.skops`` file.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn

from guard.errors import MedwardError
from guard.models import checks, onnx_model, skops_file
from guard.models.base import Exported, first_line, require
from guard.types import Array, ModelSpec, Outputs

NAMES = {"input": "input", "scores": "probabilities"}
_warnings = threading.Lock()  # warnings.catch_warnings changes the whole process


@dataclass(frozen=True, slots=True, kw_only=True)
class SklearnModel:
    """A fitted classifier; `data` holds the skops bytes it came from, if it came from a bundle."""

    spec: ModelSpec
    estimator: Any
    sample: Array
    data: bytes | None = None

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to probabilities ``(n, classes)``; there are no features."""
        table = np.asarray(inputs, np.float32).reshape(len(inputs), -1)
        if not hasattr(self.estimator, "feature_names_in_"):
            return checks.outputs(self.estimator.predict_proba(table), None, self.spec)
        with _warnings, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            return checks.outputs(self.estimator.predict_proba(table), None, self.spec)

    def export(self, folder: Path) -> Exported:
        """Write ``model.onnx``, or ``model.skops`` when skl2onnx fails or disagrees on the sample."""
        if self.data is None:
            try:
                data = to_onnx(self.estimator, self.sample)
                written = onnx_model.load(data, self.spec, NAMES)
                checks.check_agreement(self.predict(self.sample), written.predict(self.sample), "model.onnx")
            except MedwardError as error:
                reason = str(error)
            else:
                (folder / "model.onnx").write_bytes(data)
                return Exported("model.onnx", NAMES)
        else:
            reason = "it was loaded from skops"
        data = self.data or skops_file.dump(self.estimator)
        (folder / "model.skops").write_bytes(data)
        again = load(data, self.spec, {"scikit-learn": sklearn.__version__})
        if self.data is None:
            checks.check_agreement(self.predict(self.sample), again.predict(self.sample), "model.skops")
        return Exported("model.skops", {"scikit-learn": sklearn.__version__, "not_onnx_because": reason})


def adapt(x: Any, spec: ModelSpec, sample: Array, features: str | None) -> SklearnModel:
    """Wrap a fitted classifier; refuses one without ``predict_proba``."""
    kind = type(x).__name__
    if features is not None:
        raise MedwardError(f"features: {kind} shows none, got features = {features!r}")
    if not hasattr(x, "predict_proba"):
        raise MedwardError(f"{kind} has no predict_proba; wrap it in CalibratedClassifierCV and fit that")
    width = getattr(x, "n_features_in_", None)
    if width is not None and width != np.prod(spec.shape):
        raise MedwardError(f"{kind} was fitted on {width} features, but the spec's shape is {spec.shape}")
    return SklearnModel(spec=spec, estimator=x, sample=sample)


def describe(x: Any) -> dict[str, Any]:
    """The fitted classes; ``predict_proba`` gives probabilities."""
    classes = getattr(x, "classes_", None)
    known = {} if classes is None else {"classes": tuple(str(each) for each in classes)}
    return {"output": "probabilities", **known}


def load(data: bytes, spec: ModelSpec, options: Mapping[str, str]) -> SklearnModel:
    """The estimator in verified skops bytes; its scikit-learn must be this one up to the patch level."""
    theirs, ours = options.get("scikit-learn", ""), sklearn.__version__
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise MedwardError(f"model.skops was written by scikit-learn {theirs}, this is {ours}; install {theirs}")
    return SklearnModel(spec=spec, estimator=skops_file.load(data), sample=np.zeros((0, *spec.shape)), data=data)


def to_onnx(estimator: Any, sample: Array) -> bytes:
    """Convert with skl2onnx: float32 table in, "label" and "probabilities" out."""
    skl2onnx = require("skl2onnx", "sklearn")
    kinds = require("skl2onnx.common.data_types", "sklearn")
    width = int(np.prod(sample.shape[1:]))
    try:
        graph = skl2onnx.convert_sklearn(
            estimator,
            initial_types=[("input", kinds.FloatTensorType([None, width]))],
            options={id(estimator): {"zipmap": False}},
        )
        data: bytes = graph.SerializeToString()
    except Exception as error:
        raise MedwardError(f"skl2onnx cannot convert {type(estimator).__name__}: {first_line(error)}") from error
    return data
