"""Interval bound propagation through an ONNX file, written as a second ONNX graph that onnxruntime runs beside it.

The graph takes rows and a radius and gives bounds of what decides: of the differences between classes, with the last
layer folded into them (which is tighter), else of the scores. It is written with the ``onnx`` package and needs
onnxruntime alone to run. Source: Gowal et al., *Scalable Verified Training for Provably Robust Image Classification*,
ICCV 2019; rounding as in `guard.certify.rounding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.affine import Affine, bounded_affine
from medward.guard.certify.graph_writer import Box, GraphWriter
from medward.guard.certify.operators import BOUNDED_OPERATORS
from medward.guard.certify.output_bounds import OutputBounds
from medward.guard.certify.rounding import MOVED, MOVED_MOST
from medward.guard.certify.tensors import BoundedNode, Exact, Softmaxed, Tensor, Tensors, UnboundedError
from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra
from medward.guard.models.checks import in_batches
from medward.guard.models.onnx_model import open_session
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array

ROWS, RADIUS, LOWER, UPPER = "rows", "radius", "lower", "upper"
"""The inputs and the outputs of a graph of bounds."""
BOUNDED_MARK = "medward.bounds"
"""The name in a graph of bounds of what is bounded, in words: scores or their differences, beneath softmax or not."""
DIFFERENCES, BENEATH_SOFTMAX = "differences", "beneath softmax"
_BATCH = 256
_MOST_CLASSES = 32  # whose differences are written out
_OPSET = 13  # of files that have operators of other domains only
_LEAST_OPSET = 8  # since when Min and Max spread their inputs
_SCORES_AT = {"ai.onnx.ml.LinearClassifier": 1}  # which output holds them, behind the label
_EXACT_OPERATORS = (
    *("Constant", "ConstantOfShape", "Shape", "Cast", "Identity", "Reshape", "Transpose"),
    *("Unsqueeze", "Squeeze", "Concat", "Gather", "Slice", "Expand"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkBounds:
    """Network bounds run the graph of bounds of one model; `data` are its bytes.

    `axes` are those of its rows, one more than a row has, `batch` how many rows it takes at once where that is fixed.
    """

    data: bytes
    session: Any
    axes: int
    batch: int | None
    differences: bool
    softmax: bool

    @classmethod
    def of(cls, data: bytes, given: str, scores: str, spec: ModelSpec, *, decisive: bool = True) -> NetworkBounds:
        """The bounds of the output `scores` of a file over its input `given`, as `bounds_graph` writes them."""
        return cls.load(bounds_graph(data, given, scores, spec, decisive=decisive))

    @classmethod
    def load(cls, data: bytes) -> NetworkBounds:
        """Open what `of` wrote; needs onnxruntime alone."""
        session = open_session(data, "bounds.onnx")
        said = session.get_modelmeta().custom_metadata_map.get(BOUNDED_MARK)
        if said is None:
            raise MedwardError("bounds.onnx: holds no bounds; write it anew with Bounds.of")
        declared = session.get_inputs()[0].shape
        return cls(
            data=data,
            session=session,
            axes=len(declared),
            batch=declared[0] if isinstance(declared[0], int) else None,
            differences=DIFFERENCES in said,
            softmax=BENEATH_SOFTMAX in said,
        )

    def between(self, rows: Array, radius: Array) -> OutputBounds:
        """Bounds for single-precision `rows (n, *shape)` and a `radius` that spreads to ``(1, *shape)``."""
        around = (radius[None] if radius.ndim else radius.reshape([1] * rows.ndim)).astype(np.float32)
        if self.axes == 2:
            rows, around = rows.reshape(len(rows), -1), around.reshape(1, -1)
        lower, upper = in_batches(
            lambda batch: self.session.run([LOWER, UPPER], {ROWS: batch, RADIUS: around}),
            rows,
            self.batch or _BATCH,
            pad=self.batch is not None,
        )
        return OutputBounds(
            lower=lower.reshape(len(rows), -1),
            upper=upper.reshape(len(rows), -1),
            differences=self.differences,
            softmax=self.softmax,
        )


def bounds_graph(data: bytes, given: str, scores: str, spec: ModelSpec, *, decisive: bool = True) -> bytes:
    """The graph that bounds the output `scores` of the file `data` over its input `given`, or what decides of it.

    Without `decisive` it bounds that tensor itself, whatever is decided.
    Raises `UnboundedError`, which names the operator, for a file that cannot be bounded soundly.
    """
    onnx = require_extra("onnx", "torch")
    model = onnx.load_from_string(data)
    if model.functions:
        model = require_extra("onnx.inliner", "torch").inline_local_functions(model)
    nodes = needed_nodes(model.graph, scores)
    tensors = _known_tensors(onnx, model, given, nodes, spec)
    for proto in nodes:
        _bound_node(onnx, tensors, proto)
    box, words = _decisive(tensors, scores, spec) if decisive else (tensors.box(scores), [])
    return _assembled(onnx, model, tensors, given, box, ", ".join(words))


def needed_nodes(graph: Any, wanted: str) -> list[Any]:
    """The nodes that the tensor `wanted` depends on, in order."""
    names, found = {wanted}, []
    for proto in reversed(graph.node):
        if names & set(proto.output):
            names |= set(proto.input)
            found.append(proto)
    return found[::-1]


def _known_tensors(onnx: Any, model: Any, given: str, nodes: Sequence[Any], spec: ModelSpec) -> Tensors:
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    writer = GraphWriter(taken | set(constants) | {ROWS, RADIUS, LOWER, UPPER})
    declared = next(each for each in graph.input if each.name == given)
    if declared.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise UnboundedError(f"input {given!r} is not of single precision; export the model in float32")
    shapes = _shapes(onnx, model, given, nodes, spec)
    return Tensors(writer, constants, {given: _input_box(writer, spec)}, shapes)


def _input_box(writer: GraphWriter, spec: ModelSpec) -> Box:
    """All rows of single precision that a change of the radius, made in that precision, can come from; `moved_box`."""
    size = writer.add("Add", writer.add("Abs", ROWS), RADIUS)
    room = writer.add(
        "Min",
        writer.add("Mul", size, writer.constant(np.array(MOVED, np.float32))),
        writer.add("Mul", RADIUS, writer.constant(np.array(MOVED_MOST, np.float32))),
    )
    lower = writer.add("Sub", writer.add("Sub", ROWS, RADIUS), room)
    upper = writer.add("Add", writer.add("Add", ROWS, RADIUS), room)
    if spec.low is not None:
        lower = writer.add("Max", lower, writer.constant(np.array(spec.low, np.float32)))
    if spec.high is not None:
        upper = writer.add("Min", upper, writer.constant(np.array(spec.high, np.float32)))
    return Box(lower=lower, upper=upper, nonnegative=spec.low is not None and spec.low >= 0)


def _shapes(onnx: Any, model: Any, given: str, nodes: Sequence[Any], spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of `nodes`, as the file itself gives them for a row."""
    shown = type(model)()
    shown.CopyFrom(model)
    names = list(dict.fromkeys(name for node in nodes for name in node.output if name))
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_session(shown.SerializeToString(), "model.onnx")
    declared = session.get_inputs()[0].shape
    first = declared[0] if isinstance(declared[0], int) else 1
    row = np.zeros((first, *spec.shape), np.float32)
    row = row.reshape(first, -1) if len(declared) == 2 else row
    found = session.run(names, {given: row})
    return {given: row.shape, **{name: np.shape(each) for name, each in zip(names, found, strict=True)}}


def _bound_node(onnx: Any, tensors: Tensors, proto: Any) -> None:
    """Enter what is known of the outputs of one node."""
    inputs = [name for name in proto.input if name]
    domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
    operator = f"{domain}{proto.op_type}"
    changing = [name for name in inputs if name in tensors.values]
    if not changing:
        if operator not in _EXACT_OPERATORS:
            raise UnboundedError(f"{operator} computes weights within the file; fold constants when it is exported")
        evaluator = require_extra("onnx.reference", "torch").ReferenceEvaluator
        made = evaluator(proto).run(None, {name: tensors.constants[name] for name in inputs})
        tensors.constants.update(zip(proto.output, map(np.asarray, made), strict=True))
        return
    if operator == "Shape" or all(isinstance(tensors.values[name], Exact) for name in changing):
        renamed = {name: tensors.box(name).lower for name in changing if not isinstance(tensors.values[name], Exact)}
        tensors.writer.copy(proto, renamed, list(proto.output))
        tensors.values.update(dict.fromkeys(proto.output, Exact()))
        return
    if operator not in BOUNDED_OPERATORS:
        raise UnboundedError(
            f"ONNX operator {operator} has no sound bound here; certified answers need a network of "
            "convolutions, linear layers, ReLU, pooling and additions"
        )
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in proto.attribute}
    node = BoundedNode(proto.op_type, tuple(proto.input), attributes, proto)
    tensors.values[proto.output[_SCORES_AT.get(operator, 0)]] = BOUNDED_OPERATORS[operator](tensors, node)


def _decisive(tensors: Tensors, scores: str, spec: ModelSpec) -> tuple[Box, list[str]]:
    """The bounds of what decides, and what that is in words."""
    if scores not in tensors.values:
        raise UnboundedError(f"output {scores!r} does not depend on the input")
    found = tensors.values[scores]
    softmaxed = isinstance(found, Softmaxed)
    if softmaxed and not (isinstance(spec.task, Classification) and spec.output == "probabilities"):
        raise UnboundedError(f"the file ends in Softmax, its outputs are said to be {spec.output} of {spec.task.kind}")
    beneath: Tensor = found.beneath if isinstance(found, Softmaxed) else found
    words = [BENEATH_SOFTMAX] if softmaxed else []
    if _folds(beneath, tensors.shapes.get(scores, ()), spec):
        box = bounded_affine(tensors.writer, beneath.differences())
        return box, [DIFFERENCES, *words]
    if isinstance(beneath, Affine):
        return bounded_affine(tensors.writer, beneath), words
    return beneath if isinstance(beneath, Box) else tensors.box(scores), words


def _folds(layer: Tensor, shape: tuple[int, ...], spec: ModelSpec) -> TypeGuard[Affine]:
    """Whether the last layer gives the scores of a few classes, so that their differences can be written out."""
    if not isinstance(spec.task, Classification) or spec.task.one_column or not isinstance(layer, Affine):
        return False
    fits = layer.operator == "Gemm" and layer.channels == len(spec.classes) <= _MOST_CLASSES
    return fits and len(shape) == 2


def _assembled(onnx: Any, model: Any, tensors: Tensors, given: str, box: Box, words: str) -> bytes:
    helper, kinds = onnx.helper, onnx.TensorProto
    writer = tensors.writer
    for end, name in ((box.lower, LOWER), (box.upper, UPPER)):
        writer.nodes.append(helper.make_node("Identity", [end], [name]))
    read = {name for node in writer.nodes for name in node.input}
    constants: dict[str, NDArray[Any]] = {**tensors.constants, **writer.constants}
    axes = next(each for each in model.graph.input if each.name == given).type.tensor_type.shape.dim
    declared = [axis.dim_value or axis.dim_param or None for axis in axes]
    graph = helper.make_graph(
        writer.nodes,
        "bounds",
        [
            helper.make_tensor_value_info(ROWS, kinds.FLOAT, declared),
            helper.make_tensor_value_info(RADIUS, kinds.FLOAT, [None] * len(declared)),
        ],
        [helper.make_tensor_value_info(name, kinds.FLOAT, None) for name in (LOWER, UPPER)],
        [onnx.numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items() if name in read],
    )
    versions = {each.domain: each.version for each in model.opset_import}
    own = versions.get("", versions.get("ai.onnx", 0))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", own if own >= _LEAST_OPSET else _OPSET)])
    made.ir_version = min(made.ir_version, max(model.ir_version, 7))
    helper.set_model_props(made, {BOUNDED_MARK: words})
    whole: bytes = made.SerializeToString()
    return whole
