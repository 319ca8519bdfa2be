"""XGBoost, LightGBM and CatBoost estimators as ONNX graphs of tree ensembles, by their own or onnxmltools' converters.

Trees are compared with thresholds of single precision then; whether that decides as the library itself does is measured
by whoever converts (`guard.models.sklearn_model`), for no other file can hold such an estimator.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, require_extra
from medward.guard.models.table_graph import INPUT, without_maps

LIBRARIES = ("xgboost", "lightgbm", "catboost")


def boosting_library(estimator: Any) -> str:
    """The library that `estimator` is of, one of `LIBRARIES`, or nothing."""
    found = [base.__module__.partition(".")[0] for base in type(estimator).__mro__]
    return next((library for library in LIBRARIES if library in found), "")


def refuse_categories(estimator: Any) -> None:
    """Refuse an `estimator` fitted on categories of pandas, which it knows by their codes and not by their values.

    Given numbers, as its ONNX form is, it takes a value 7 for the code 7, without a word.
    """
    library, found = boosting_library(estimator), False
    if library == "lightgbm":
        found = bool(getattr(getattr(estimator, "_Booster", None), "pandas_categorical", None))
    elif library == "xgboost" and estimator.__sklearn_is_fitted__():
        booster = estimator.get_booster()
        found = booster.feature_names is not None and "c" in (booster.feature_types or ())
    if found:
        raise MedwardError(
            f"{type(estimator).__name__} was fitted on columns of the category type of pandas, whose codes no file "
            "keeps; fit it on numbers, or in a pipeline behind an OrdinalEncoder"
        )


def boosted_graph(estimator: Any) -> Any:
    """The fitted `estimator` as an ONNX model of one float input; raises `MedwardError` where it cannot be one."""
    library = boosting_library(estimator)
    try:
        return _catboost_graph(estimator) if library == "catboost" else _converted(estimator, library)
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(f"{type(estimator).__name__} cannot be converted to ONNX: {first_line(error)}") from error


def _converted(estimator: Any, library: str) -> Any:
    tools = require_extra("onnxmltools", "boosting")
    types = require_extra("onnxmltools.convert.common.data_types", "boosting")
    given = [(INPUT, types.FloatTensorType([None, estimator.n_features_in_]))]
    if library == "lightgbm":
        return tools.convert_lightgbm(estimator, initial_types=given, zipmap=False)
    plain = copy.deepcopy(estimator)
    plain.get_booster().feature_names = None  # the converter takes no names but its own
    return tools.convert_xgboost(plain, initial_types=given)


def _catboost_graph(estimator: Any) -> Any:
    onnx = require_extra("onnx", "boosting")
    if len(estimator.get_cat_feature_indices()):
        raise MedwardError(
            f"{type(estimator).__name__} has categorical features, which its ONNX form lacks; fit it on numbers"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        estimator.save_model(str(file), format="onnx")
        return without_maps(onnx.load(str(file)))
