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
import sklearn.base
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.models import checks, onnx_model, skops_file
from medward.guard.models.base import Adapter, Exported, first_line, require_extra
from medward.guard.models.kinds import refuse_kind
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints, Outputs

NAMES = {"input": "input", "scores": "probabilities"}
_warnings = threading.Lock()  # warnings.catch_warnings changes the whole process


@dataclass(frozen=True, slots=True, kw_only=True)
class SklearnModel:
    """A fitted classifier; `data` holds the skops bytes it came from, if it came from a bundle, and why it did."""

    spec: ModelSpec
    estimator: Any
    sample: Array
    data: bytes | None = None
    not_onnx_because: str = ""

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to probabilities ``(n, classes)``; there are no features."""
        table = np.array(inputs, np.float32).reshape(len(inputs), -1)
        return checks.checked_outputs(self._asked("predict_proba", table), None, self.spec)

    def own_decisions(self, rows: NDArray[np.generic]) -> Ints | None:
        """What ``predict`` says of rows ``(n, *shape)`` of any dtype, as indices of ``classes_``."""
        if not hasattr(self.estimator, "predict"):
            return None
        order = {each: index for index, each in enumerate(self.estimator.classes_.tolist())}
        labels = np.asarray(self._asked("predict", np.array(rows).reshape(len(rows), -1)))
        return np.array([order.get(each, -1) for each in labels.tolist()], np.int64)

    def _asked(self, method: str, table: NDArray[np.generic]) -> Any:
        if not hasattr(self.estimator, "feature_names_in_"):
            return getattr(self.estimator, method)(table)
        with _warnings, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            return getattr(self.estimator, method)(table)

    def export(self, folder: Path) -> Exported:
        """Write ``model.onnx``, or ``model.skops`` when skl2onnx fails or disagrees on the sample."""
        if self.data is None:
            try:
                data = estimator_to_onnx(self.estimator, self.sample)
                written = onnx_model.load_onnx(data, self.spec, NAMES)
                original, exported = self.predict(self.sample), written.predict(self.sample)
                checks.check_agreement(original, exported, "model.onnx")
                checks.check_decisions(original, exported, self.spec, "model.onnx")
            except MedwardError as error:
                reason = str(error)
            else:
                (folder / "model.onnx").write_bytes(data)
                return Exported("model.onnx", NAMES)
        else:
            reason = self.not_onnx_because
        data = self.data or skops_file.dump_skops(self.estimator)
        (folder / "model.skops").write_bytes(data)
        again = load_estimator(data, self.spec, {"scikit-learn": sklearn.__version__})
        if self.data is None:
            checks.check_agreement(self.predict(self.sample), again.predict(self.sample), "model.skops")
        return Exported("model.skops", {"scikit-learn": sklearn.__version__, "not_onnx_because": reason})


def adapt_estimator(x: Any, spec: ModelSpec, sample: Array, features: str | None) -> SklearnModel:
    """Wrap a fitted classifier; refuses one without ``predict_proba``."""
    kind = type(x).__name__
    _check_kind(x, spec.name)
    if features is not None:
        raise MedwardError(f"features: {kind} shows none, got features = {features!r}")
    if not hasattr(x, "predict_proba"):
        raise MedwardError(f"{kind} has no predict_proba; wrap it in CalibratedClassifierCV and fit that")
    width = getattr(x, "n_features_in_", None)
    if width is not None and width != np.prod(spec.shape):
        raise MedwardError(f"{kind} was fitted on {width} features, but the spec's shape is {spec.shape}")
    return SklearnModel(spec=spec, estimator=x, sample=sample)


def describe_estimator(x: Any) -> dict[str, Any]:
    """The fitted classes; ``predict_proba`` gives probabilities."""
    _check_kind(x, "model")
    classes = getattr(x, "classes_", None)
    known = {} if classes is None else {"classes": tuple(str(each) for each in classes)}
    return {"output": "probabilities", **known}


def _check_kind(x: Any, name: str) -> None:
    """Refuse estimators that are no classifiers of one class each, by their kind."""
    kind = type(x).__name__
    if sklearn.base.is_regressor(x):
        refuse_kind(name, "regression", f"{kind} is a scikit-learn regressor")
    if sklearn.base.is_outlier_detector(x):
        refuse_kind(name, "outlier", f"{kind} is a scikit-learn outlier detector")
    if sklearn.base.is_clusterer(x):
        refuse_kind(name, "clustering", f"{kind} is a scikit-learn clusterer")
    classes, last = getattr(x, "classes_", None), _last(x)
    binarizer = getattr(last, "_label_binarizer", None)
    if (
        isinstance(classes, list)
        or getattr(last, "multilabel_", False)
        or str(getattr(binarizer, "y_type_", "")).startswith("multilabel")
    ):
        refuse_kind(name, "multi-label", f"{kind} was fitted to several labels a row")
    if classes is not None and len(classes) < 2:
        raise MedwardError(
            f"{name}: {kind} was fitted to one class only, {list(classes)}; fit it on rows of two or more"
        )


def _last(x: Any) -> Any:
    """The estimator that decides, in pipelines and searches."""
    while True:
        inner = x.steps[-1][1] if hasattr(x, "steps") else getattr(x, "best_estimator_", None)
        if inner is None:
            return x
        x = inner


def load_estimator(data: bytes, spec: ModelSpec, options: Mapping[str, str]) -> SklearnModel:
    """The estimator in verified skops bytes; its scikit-learn must be this one up to the patch level."""
    theirs, ours = options.get("scikit-learn", ""), sklearn.__version__
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise MedwardError(f"model.skops was written by scikit-learn {theirs}, this is {ours}; install {theirs}")
    return SklearnModel(
        spec=spec,
        estimator=skops_file.load_skops(data),
        sample=np.zeros((0, *spec.shape)),
        data=data,
        not_onnx_because=options.get("not_onnx_because", ""),
    )


def estimator_to_onnx(estimator: Any, sample: Array) -> bytes:
    """Convert with skl2onnx: float32 table in, "label" and "probabilities" out."""
    skl2onnx = require_extra("skl2onnx", "sklearn")
    kinds = require_extra("skl2onnx.common.data_types", "sklearn")
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


SKLEARN_ADAPTER = Adapter(adapt_estimator, describe_estimator, load_estimator)
