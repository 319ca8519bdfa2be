"""scikit-learn estimators, and pipelines that end in a boosted one, as ONNX graphs by skl2onnx.

A pipeline that takes a table by name is converted with an input for each column; nodes in front make these of encoded
rows (`guard.models.table_graph`).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sklearn.base
from sklearn.impute import SimpleImputer
from sklearn.utils.validation import check_is_fitted

from medward.guard.columns import TRUTH, Column, is_plain
from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, require_extra
from medward.guard.models.boosted_graph import boosted_graph, boosting_library
from medward.guard.models.table_graph import INPUT, TEXT_GAP, in_front, joined

BOOSTED_BY_HISTOGRAM = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def estimator_to_onnx(
    estimator: Any, width: int, columns: Sequence[Column] = (), *, framed: bool = False
) -> tuple[bytes, Mapping[str, str]]:
    """The file of a fitted `estimator` of `width` columns, and the names of its input and of its scores.

    `columns` are those that encoded rows have; `framed` says that it takes them as a DataFrame, by name.
    """
    check_is_fitted(estimator)
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    named = columns if framed else ()
    if not boosting_library(last):
        graph = _converted(estimator, width, named, plain=not columns)
    elif last is estimator or len(estimator.steps) == 1:
        graph = boosted_graph(last)
    else:
        graph = joined(_converted(estimator[:-1], width, named, plain=not columns), boosted_graph(last))
    scores = graph.graph.output[-1].name
    if columns and (framed or not is_plain(columns)):
        return in_front(graph, columns), {"input": INPUT, "scores": scores}
    return graph.SerializeToString(), {"input": graph.graph.input[0].name, "scores": scores}


def _converted(estimator: Any, width: int, named: Sequence[Column], *, plain: bool) -> Any:
    skl2onnx = require_extra("skl2onnx", "sklearn")
    kinds = require_extra("skl2onnx.common.data_types", "sklearn")
    given = [(INPUT, kinds.FloatTensorType([None, width]))]
    if named:
        text, number = kinds.StringTensorType([None, 1]), kinds.FloatTensorType([None, 1])
        given = [(each.name, text if _is_text(each) else number) for each in named]
        estimator = _with_text_gaps(estimator)
    tables = sklearn.base.is_classifier(estimator)
    try:
        with contextlib.nullcontext() if plain else _whole_numbers():
            return skl2onnx.convert_sklearn(
                estimator, initial_types=given, options={id(estimator): {"zipmap": False}} if tables else {}
            )
    except Exception as error:
        raise MedwardError(f"skl2onnx cannot convert {type(estimator).__name__}: {first_line(error)}") from error


def _is_text(column: Column) -> bool:
    return bool(column.values) and (column.missing or column.values != TRUTH)


def _with_text_gaps(estimator: Any) -> Any:
    """A copy of `estimator` whose imputers of texts fill the text that stands for a gap within a graph."""
    found = copy.deepcopy(estimator)
    stack = [found]
    while stack:
        each = stack.pop()
        if isinstance(each, SimpleImputer) and each.statistics_.dtype.kind in "OU":
            each.missing_values = TEXT_GAP
        stack += [step for _, step in getattr(each, "steps", ())]
        stack += [part[1] for part in getattr(each, "transformers_", ())]
    return found


@contextlib.contextmanager
def _whole_numbers() -> Iterator[None]:
    """Let skl2onnx convert histogram boosting under onnx versions that take Python's own whole numbers only.

    Its converter writes NumPy's and truth values into a list of them.
    """
    registry = require_extra("skl2onnx.common._registration", "sklearn")
    own = {f"Sklearn{name}": registry.get_converter(f"Sklearn{name}") for name in BOOSTED_BY_HISTOGRAM}
    for alias, each in own.items():
        registry.register_converter(alias, _of_whole(each), overwrite=True, options=each.get_allowed_options())
    try:
        yield
    finally:
        for alias, each in own.items():
            registry.register_converter(alias, each._fct, overwrite=True, options=each.get_allowed_options())


def _of_whole(convert: Any) -> Any:
    return lambda scope, operator, container: convert(scope, operator, _Whole(container))


class _Whole:
    """A container of nodes that takes whole numbers of any kind."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, kind: str, inputs: Any, outputs: Any, **attributes: Any) -> Any:
        plain = {name: _plain_list(each) if isinstance(each, list) else each for name, each in attributes.items()}
        return self._container.add_node(kind, inputs, outputs, **plain)


def _plain_list(values: list[Any]) -> list[Any]:
    return [int(each) if isinstance(each, bool | np.bool_ | np.integer) else each for each in values]
