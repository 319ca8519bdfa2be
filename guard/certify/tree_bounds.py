"""Bounds of a model that is an ensemble of trees, with what stands before them and what is made of their sum."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from medward.guard.certify.affine import class_pairs
from medward.guard.certify.network_bounds import NetworkBounds, needed_nodes
from medward.guard.certify.onnx_trees import TREE_OPERATORS, ensemble_of
from medward.guard.certify.output_bounds import OutputBounds
from medward.guard.certify.rounding import SIGMOID_ERROR, moved_box
from medward.guard.certify.tensors import UnboundedError
from medward.guard.certify.trees import TableBox, TreeEnsemble
from medward.guard.columns import Column
from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array

SumLink = Literal["sum", "complement", "opposite", "logistic", "logistic pair", "logistic complement", "softmax"]
"""What becomes of the sums s: themselves, (1 - s, s), (-s, s), their logistic p, that of (-s, s), (1 - p, p),
probabilities."""
_MOST_CLASSES = 32  # whose differences are bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeBounds:
    """Tree bounds are those of an ensemble whose sums become outputs by `link`.

    `differences` says that the sums are those of pairs of classes. `indicators` are the places, in an encoded row, of
    the numbers that may be missing; `width` how many values of a row the trees see; `front` bounds what stands before.
    """

    ensemble: TreeEnsemble
    link: SumLink
    width: int
    differences: bool = False
    indicators: tuple[int, ...] = ()
    front: NetworkBounds | None = None

    @classmethod
    def of(cls, data: bytes, given: str, scores: str, spec: ModelSpec) -> TreeBounds:
        """The bounds of the output `scores` of an ONNX file that is trees; see `is_trees`."""
        onnx = require_extra("onnx", "sklearn")
        model = onnx.load_from_string(data)
        nodes = needed_nodes(model.graph, scores)
        trees = [node for node in nodes if node.op_type in TREE_OPERATORS]
        if len(trees) > 1:
            raise UnboundedError(
                f"the file has {len(trees)} tree ensembles, one can be bounded; join them when training"
            )
        at = nodes.index(trees[0])
        _check_behind(onnx, model.graph, nodes[at + 1 :])
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in trees[0].attribute}
        ensemble, transform, classes = ensemble_of(attributes)
        before = needed_nodes(model.graph, trees[0].input[0])
        width = len(spec.columns) or int(np.prod(spec.shape))
        indicators: tuple[int, ...] = ()
        front = None
        if _by_columns(before, spec):
            indicators = indicated_places(spec.columns)
        elif any(node.op_type != "Identity" for node in before):
            front = NetworkBounds.of(data, given, trees[0].input[0], spec, decisive=False)
        link = _link(transform, classes, ensemble)
        return paired(cls(ensemble=ensemble, link=link, width=width, indicators=indicators, front=front), spec)

    @classmethod
    def load(cls, data: bytes) -> TreeBounds:
        """Read what `data` wrote. Raises `MedwardError` for sums that become outputs in a way not known here."""
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        link: SumLink | None = next((each for each in get_args(SumLink) if each == str(arrays["link"])), None)
        if link is None:
            raise MedwardError(f"bounds: link {str(arrays['link'])!r} is not known; write them anew with Bounds.of")
        known = {each.name: arrays[each.name] for each in fields(TreeEnsemble)}
        front = NetworkBounds.load(arrays["front"].tobytes()) if arrays["front"].size else None
        return cls(
            ensemble=TreeEnsemble(**{**known, "terms": int(known["terms"])}),
            link=link,
            width=int(arrays["width"]),
            differences=bool(arrays["differences"]),
            indicators=tuple(arrays["indicators"].tolist()),
            front=front,
        )

    @property
    def data(self) -> bytes:
        """Arrays in a NumPy archive, which `load` reads."""
        arrays: dict[str, Any] = {each.name: getattr(self.ensemble, each.name) for each in fields(TreeEnsemble)}
        arrays |= {"link": self.link, "width": self.width, "differences": self.differences}
        arrays["indicators"] = np.array(self.indicators, np.int64)
        arrays["front"] = np.frombuffer(b"" if self.front is None else self.front.data, np.uint8)
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    def between(self, rows: Array, radius: Array) -> OutputBounds:
        """Bounds for single-precision `rows (n, D)` and a `radius` of no axes or ``(D,)``."""
        lower: Array
        upper: Array
        lower, upper = self.ensemble.between(self._box(rows, radius))
        if self.differences:
            return OutputBounds(lower=lower, upper=upper, differences=True, softmax=self.link == "softmax")
        if self.ensemble.terms:  # sums of single precision: rounding to it is monotone
            lower, upper = lower.astype(np.float32), upper.astype(np.float32)
        lower, upper = _LINKS[self.link](lower, upper)
        return OutputBounds(lower=lower, upper=upper, softmax=self.link == "softmax")

    def _box(self, rows: Array, radius: Array) -> TableBox:
        flat = rows.reshape(len(rows), -1)
        if self.front is None:
            lower, upper = moved_box(flat, radius.reshape(1, -1))
        else:
            found = self.front.between(rows, radius)
            lower, upper = found.lower, found.upper
        missing, present = np.zeros((len(rows), self.width), bool), np.ones((len(rows), self.width), bool)
        for place, number in enumerate(self.indicators):
            missing[:, number] = upper[:, self.width + place] > 0.5
            present[:, number] = lower[:, self.width + place] <= 0.5
        return TableBox(lower=lower[:, : self.width], upper=upper[:, : self.width], missing=missing, present=present)


def is_trees(data: bytes, scores: str) -> bool:
    """Whether the output `scores` of an ONNX file comes from trees."""
    model = require_extra("onnx", "torch").load_from_string(data)
    return any(node.op_type in TREE_OPERATORS for node in needed_nodes(model.graph, scores))


def indicated_places(columns: tuple[Column, ...]) -> tuple[int, ...]:
    """The places of numbers that may be missing, in the order of their indicators."""
    return tuple(place for place, each in enumerate(columns) if each.indicated)


def paired(bounds: TreeBounds, spec: ModelSpec) -> TreeBounds:
    """Bounds of the differences of classes instead of their sums, where classes are compared and there are few."""
    several = isinstance(spec.task, Classification) and not spec.task.one_column
    classes = bounds.ensemble.values.shape[1]
    exact = bounds.link == "softmax" or (bounds.link == "sum" and spec.threshold is None)
    if not (several and exact and classes == len(spec.classes) <= _MOST_CLASSES):
        return bounds
    return replace(bounds, ensemble=bounds.ensemble.differences(*class_pairs(classes)), differences=True)


def _link(transform: str, classes: int, ensemble: TreeEnsemble) -> SumLink:
    """What onnxruntime makes of the sums; of two classes with one sum it gives two scores."""
    alone = classes == 2 and ensemble.values.shape[1] == 1
    if transform == "NONE":
        if not alone:
            return "sum"
        return "complement" if (ensemble.values >= 0).all() else "opposite"
    if transform == "LOGISTIC":
        return "logistic pair" if alone else "logistic"
    if transform == "SOFTMAX" and not alone:
        return "softmax"
    raise UnboundedError(f"trees with post_transform {transform} cannot be bounded; use NONE, LOGISTIC or SOFTMAX")


def _by_columns(before: list[Any], spec: ModelSpec) -> bool:
    """Whether what stands before the trees is Medward's own way from encoded rows to numbers with gaps."""
    own = all(name.startswith("medward_") for node in before for name in node.output)
    return bool(before) and bool(spec.columns) and own and {node.op_type for node in before} <= _COLUMN_OPERATORS


def _check_behind(onnx: Any, graph: Any, nodes: list[Any]) -> None:
    """Refuse a file that does more with the outputs of its trees than to name them."""
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    for node in nodes:
        factors = [weights[name] for name in node.input if name in weights]
        one = node.op_type == "Mul" and len(factors) == 1 and (factors[0] == 1).all()
        if node.op_type != "Identity" and not one:
            raise UnboundedError(
                f"{node.op_type} behind trees cannot be bounded; end the file with the trees' own outputs"
            )


_Ends = tuple[Array, Array]


def _opposite(lower: Array, upper: Array) -> _Ends:
    return np.concatenate([-upper, lower], axis=1), np.concatenate([-lower, upper], axis=1)


def _complement(lower: Array, upper: Array) -> _Ends:
    """In the precision of the sums, in which the model itself takes them from one."""
    one = lower.dtype.type(1)
    return np.concatenate([one - upper, lower], axis=1), np.concatenate([one - lower, upper], axis=1)


def _logistic(lower: Array, upper: Array) -> _Ends:
    """Widened by what the runtime's logistic may err, which is far more than the precision of the result."""
    low, high = (1 / (1 + np.exp(-np.clip(each.astype(np.float64), -80, 80))) for each in (lower, upper))
    return low - SIGMOID_ERROR, high + SIGMOID_ERROR


_COLUMN_OPERATORS = {"Gather", "Greater", "And", "Where", "Identity"}
_LINKS: Mapping[str, Callable[[Array, Array], _Ends]] = {
    "sum": lambda lower, upper: (lower, upper),
    "softmax": lambda lower, upper: (lower, upper),
    "complement": _complement,
    "opposite": _opposite,
    "logistic": _logistic,
    "logistic pair": lambda lower, upper: _logistic(*_opposite(lower, upper)),
    "logistic complement": lambda lower, upper: _complement(*_logistic(lower, upper)),
}
