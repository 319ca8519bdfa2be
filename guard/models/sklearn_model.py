"""A scikit-learn estimator or pipeline as a `Model`, exported to ONNX, or to skops where ONNX cannot follow.

ONNX computes in float32 while scikit-learn may compute in float64, so a tree can differ near a threshold; an
export that differs on the sample is dropped and the estimator itself is kept in a ``.skops`` file. XGBoost, LightGBM
and CatBoost speak as scikit-learn does and are wrapped here too; skops cannot hold them, so one that differs is
refused.

What an estimator was fitted on is had back from encoded rows (`guard.columns`): a DataFrame where it needs names or
texts, else an array with NaN for gaps.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import sklearn.base
from numpy.typing import NDArray
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV

from medward.guard.columns import decode_matrix, decode_rows, has_texts
from medward.guard.errors import MedwardError
from medward.guard.models import checks, onnx_model, skops_file
from medward.guard.models.base import Adapter, Exported, first_line, require_extra
from medward.guard.models.boosted_graph import boosting_library, refuse_categories
from medward.guard.models.fitted_columns import fitted_columns
from medward.guard.models.kinds import MULTILABEL, REGRESSION, refuse_kind
from medward.guard.models.sklearn_graph import estimator_to_onnx
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel, packed_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array, Ints, Outputs

ABOVE_HALF = float(np.nextafter(np.float32(0.5), np.float32(1)))
"""The operating point of scikit-learn's classifiers of several labels: more than one half, in single precision too."""
FRAME = "frame"
"""What a bundle says of an estimator that takes its rows as a DataFrame."""
_log = logging.getLogger("medward.data")
_warnings = threading.Lock()  # warnings.catch_warnings changes the whole process


@dataclass(frozen=True, slots=True, kw_only=True)
class SklearnModel:
    """A fitted estimator; `data` holds the skops bytes it came from, if it came from a bundle, and why it did.

    `decider` is the estimator that decides, where that is another: one that put a threshold on top of this. `framed`
    says that it takes rows as a DataFrame, by the names of its columns.
    """

    spec: ModelSpec
    estimator: Any
    sample: Array
    decider: Any = None
    data: bytes | None = None
    not_onnx_because: str = ""
    framed: bool = False

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to probabilities ``(n, K)``, or a regressor's numbers; there are no features."""
        table = np.array(inputs, np.float32).reshape(len(inputs), -1)
        return checks.checked_outputs(self._answers(table), None, self.spec)

    def own_decisions(self, rows: NDArray[np.generic]) -> Ints | None:
        """What ``predict`` says of rows ``(n, *shape)`` of any dtype, as decisions of the task; None if it says none.

        A number that moves by no more than the tolerance, and over no cut point, when its row is made float32 is
        decided as then.
        """
        task, decider = self.spec.task, self.estimator if self.decider is None else self.decider
        if isinstance(task, Opaque) or not hasattr(decider, "predict"):
            return None
        table = np.array(rows).reshape(len(rows), -1)
        said = np.asarray(self._asked(decider, "predict", table))
        if said.shape == (len(table), 1):
            said = said[:, 0]
        if isinstance(task, Regression):
            own, served = task.read(said, self.spec.name), self.predict(rows.astype(np.float32)).scores
            return np.where(task.unchanged(served, own), task.decide(served), task.decide(own))
        if isinstance(task, Multilabel):
            return packed_findings(np.asarray(said) == 1)
        order = {each: index for index, each in enumerate(self.estimator.classes_.tolist())}
        return np.array([order.get(each, -1) for each in said.tolist()], np.int64)

    def _answers(self, table: Array) -> Any:
        if sklearn.base.is_regressor(self.estimator):
            return self._asked(self.estimator, "predict", table)
        found = self._asked(self.estimator, "predict_proba", table)
        return np.stack([each[:, 1] for each in found], axis=1) if isinstance(found, list) else found

    def _asked(self, estimator: Any, method: str, table: NDArray[np.generic]) -> Any:
        columns = self.spec.columns
        if self.framed:
            pandas = require_extra("pandas", "tables")
            return getattr(estimator, method)(pandas.DataFrame(decode_rows(table, columns)))
        rows = decode_matrix(table, columns) if columns else table
        if not hasattr(estimator, "feature_names_in_"):
            return getattr(estimator, method)(rows)
        with _warnings, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            return getattr(estimator, method)(rows)

    def _skops(self, reason: str) -> bytes:
        """The estimator as skops bytes; where that fails too, both reasons are said."""
        try:
            return skops_file.dump_skops(self.estimator)
        except MedwardError as error:
            raise MedwardError(f"{error} ({reason})") from error

    def export(self, folder: Path) -> Exported:
        """Write ``model.onnx``, or ``model.skops`` when skl2onnx fails or disagrees on the sample.

        Raises `MedwardError` for what neither can hold as it is.
        """
        if self.data is None:
            try:
                if isinstance(getattr(self.estimator, "classes_", None), list):
                    raise MedwardError("skl2onnx gives a list of outputs, one for each finding")
                columns = self.spec.columns
                width = len(columns) or int(np.prod(self.sample.shape[1:]))
                data, names = estimator_to_onnx(self.estimator, width, columns, framed=self.framed)
                written = onnx_model.load_onnx(data, self.spec, names)
                original, exported = self.predict(self.sample), _answered(written, self.sample)
                checks.check_agreement(original, exported, "model.onnx")
                checks.check_decisions(original, exported, self.spec, "model.onnx")
            except MedwardError as error:
                reason = str(error)
            else:
                (folder / "model.onnx").write_bytes(data)
                return Exported("model.onnx", names)
            if boosting_library(_last(self.estimator)):
                last = _last(self.estimator)
                remedy = "fit it on numpy.float32 values"
                if last is not self.estimator:
                    remedy = "leave out the steps before it that scale numbers, which trees do not need"
                raise MedwardError(
                    f"{self.spec.name}: {type(last).__name__} can be served as ONNX only, and {reason}; {remedy}, or "
                    "guard it as a function"
                )
        else:
            reason = self.not_onnx_because
        data = self.data or self._skops(reason)
        (folder / "model.skops").write_bytes(data)
        options = {"scikit-learn": sklearn.__version__, "not_onnx_because": reason}
        options |= {"rows": FRAME} if self.framed else {}
        again = load_estimator(data, self.spec, options)
        if self.data is None:
            checks.check_agreement(self.predict(self.sample), again.predict(self.sample), "model.skops")
            if self.framed:
                _log.warning(
                    "%s: kept for scikit-learn, and the serving host needs pandas too: %s", self.spec.name, reason
                )
        return Exported("model.skops", options)


def _answered(model: onnx_model.OnnxModel, rows: Array) -> Outputs:
    """What a new file says of `rows`; raises `MedwardError` where onnxruntime cannot run it."""
    try:
        return model.predict(rows)
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(f"model.onnx: onnxruntime cannot run it: {first_line(error)}") from error


def adapt_estimator(
    x: Any, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None
) -> SklearnModel:
    """Wrap a fitted estimator; refuses a classifier without ``predict_proba``."""
    _check_kind(x, spec.name)
    if spec.prepare.mean:
        raise MedwardError(
            f"{spec.name}: mean and std: {type(x).__name__} takes rows as they are; put a StandardScaler before it in "
            "a Pipeline, and leave them out"
        )
    if output_key is not None:
        raise MedwardError(f"--output-key {output_key}: {type(x).__name__} has one output; leave it out")
    estimator, _ = thresholded(x)
    refuse_categories(_last(estimator))
    kind = type(estimator).__name__
    if features is not None:
        raise MedwardError(f"features: {kind} shows none, got features = {features!r}")
    if not sklearn.base.is_regressor(estimator) and not hasattr(estimator, "predict_proba"):
        raise MedwardError(f"{kind} has no predict_proba; wrap it in CalibratedClassifierCV and fit that")
    width = getattr(estimator, "n_features_in_", None)
    given = len(spec.columns) or np.prod(spec.shape)
    if width is not None and width != given:
        also = "" if not spec.columns else f", and the table has {given} columns"
        raise MedwardError(f"{kind} was fitted on {width} features, but the spec's shape is {spec.shape}{also}")
    decider = None if estimator is x else x
    made = SklearnModel(spec=spec, estimator=estimator, sample=sample, decider=decider)
    return replace(made, framed=_needs_frame(made))


def _needs_frame(model: SklearnModel) -> bool:
    """Whether an estimator takes its rows by name: where columns hold texts, or where it fails on an array."""
    columns = model.spec.columns
    if not columns:
        return False
    named = fitted_columns(model.estimator) is not None
    if has_texts(columns):
        if not named:
            odd = next(each.name for each in columns if has_texts([each]))
            raise MedwardError(
                f"{model.spec.name}: column {odd!r} holds categories, and the model was fitted on an array without "
                "names; fit its pipeline on the DataFrame itself, or give the numbers that it was fitted on"
            )
        return True
    if not named:
        return False
    try:
        model.predict(model.sample[:2])
    except Exception:  # whatever its steps raise for an array in place of names
        return True
    return False


def describe_estimator(x: Any, _: str | None = None) -> dict[str, Any]:
    """The task, and for classifiers the fitted classes and a tuned threshold; ``predict_proba`` gives probabilities."""
    _check_kind(x, "model")
    if sklearn.base.is_regressor(x):
        return {"task": REGRESSION}
    if _several_labels(x):
        return {"task": MULTILABEL, "output": "probabilities", "threshold": ABOVE_HALF}
    estimator, threshold = thresholded(x)
    classes = getattr(estimator, "classes_", None)
    known: dict[str, Any] = {} if classes is None else {"classes": tuple(str(each) for each in classes)}
    return {"output": "probabilities", **known, **({} if threshold is None else {"threshold": threshold})}


def thresholded(x: Any) -> tuple[Any, float | None]:
    """The classifier inside one that put a threshold on its probabilities, and that threshold; else `x` and None.

    Raises `MedwardError` where the threshold is not one of the second class's probability.
    """
    if not isinstance(x, FixedThresholdClassifier | TunedThresholdClassifierCV) or not hasattr(x, "estimator_"):
        return x, None
    kind, inner = type(x).__name__, x.estimator_
    if x.response_method == "decision_function" or not hasattr(inner, "predict_proba"):
        raise MedwardError(
            f"{kind} has a threshold on decision_function; fit it with response_method='predict_proba', so that the "
            "threshold is a probability"
        )
    positive = getattr(x, "pos_label", None)
    if positive is not None and positive != inner.classes_[1]:
        raise MedwardError(
            f"{kind} decides {positive!r}, the first class, from its threshold on; fit it on labels that have "
            f"{positive!r} second in sorted order"
        )
    found = x.best_threshold_ if isinstance(x, TunedThresholdClassifierCV) else x.threshold
    return inner, 0.5 if found == "auto" else float(found)


def _check_kind(x: Any, name: str) -> None:
    """Refuse estimators that neither choose among classes or findings nor give a number, by their kind."""
    kind = type(x).__name__
    if sklearn.base.is_outlier_detector(x):
        refuse_kind(name, "outlier", f"{kind} is a scikit-learn outlier detector")
    if sklearn.base.is_clusterer(x):
        refuse_kind(name, "clustering", f"{kind} is a scikit-learn clusterer")
    classes = getattr(x, "classes_", None)
    for each in classes if isinstance(classes, list) else ():
        if len(each) != 2 or each[1] != 1:
            raise MedwardError(
                f"{name}: {kind} has an output of the classes {list(each)}; a finding is 0 or 1, so guard other "
                "outputs as models of their own"
            )
    if sklearn.base.is_regressor(x):
        return
    if classes is not None and len(classes) < 2 and not _several_labels(x):
        raise MedwardError(
            f"{name}: {kind} was fitted to one class only, {list(classes)}; fit it on rows of two or more"
        )


def _several_labels(x: Any) -> bool:
    """Whether a classifier was fitted to several labels a row."""
    last = _last(x)
    binarizer = getattr(last, "_label_binarizer", None)
    return (
        isinstance(getattr(x, "classes_", None), list)
        or bool(getattr(last, "multilabel_", False))
        or str(getattr(binarizer, "y_type_", "")).startswith("multilabel")
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
        framed=options.get("rows") == FRAME,
    )


SKLEARN_ADAPTER = Adapter(adapt_estimator, describe_estimator, load_estimator, tables=True)
