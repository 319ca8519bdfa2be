"""A deployed ONNX file as a differentiable torch network, so that attacks see exactly what is served.

`white_box` is the way in: it interprets the file with torch, compares scores and features with the deployed
runtime on sample rows, and hands out a network only when the two agree.

Everything is computed in the type of the input, whatever the file computes in: double, half and quantised numbers are
followed up to their own precision. What attacks are given is unsaturated (`attacks.whitebox.onnx.logarithm`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from medward.attacks.whitebox.onnx.agreement import (
    PRECISION,
    are_probabilities,
    as_file_gives,
    decides_alike,
    difference_text,
    stands_alone,
)
from medward.attacks.whitebox.onnx.logarithm import Unsaturated
from medward.attacks.whitebox.onnx.operators import OPERATORS, Node, UnsupportedOpError
from medward.attacks.whitebox.onnx.operators.arrays import WHOLE
from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, read_model_file
from medward.guard.models.onnx_outputs import choose_outputs
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import Task
from medward.guard.types import Array, Outputs

MIN_OPSET = 7  # onnxruntime promises no less
HALF, QUANTISED = 1e-2, 5e-2
"""one that computes in 16 bits, and one that rounds to 8."""
FLOATING = {
    onnx.TensorProto.FLOAT: "tensor(float)",
    onnx.TensorProto.DOUBLE: "tensor(double)",
    onnx.TensorProto.FLOAT16: "tensor(float16)",
    onnx.TensorProto.BFLOAT16: "tensor(bfloat16)",
}
"""Floating-point types, and what onnxruntime calls them."""
ROUNDING = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}
_SAME = {"Abs", "Add", "Clip", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Max"}
_SAME |= {"Min", "Mul", "Neg", "Pad", "ReduceMax", "ReduceMin", "ReduceSum", "Reshape", "Slice", "Split", "Squeeze"}
_SAME |= {"Sub", "Sum", "Tile", "Transpose", "Unsqueeze", "Where"}
"""Operators that give whole numbers the same result in either type; division, say, does not."""
READS = {"ArgMax", "Cast", "ConvInteger", "DequantizeLinear", "Equal", "Greater", "GreaterOrEqual", "Less"}
READS |= {"LessOrEqual", "MatMulInteger", "QLinearConv", "QLinearMatMul", "Shape", "Size"}
"""Operators that read whole numbers of either type, and give one of their own."""


class OnnxNetwork(nn.Module):
    """An ONNX graph run by torch: weights frozen, eval semantics. ``forward`` gives scores, and features or
    None.

    `batch` is how many rows the graph runs on at a time, None for any number. Raises `UnsupportedOpError`
    naming every operator that has no differentiable counterpart. Steps that the scores and features do not
    depend on (labels, say) are left out.
    """

    def __init__(self, model: onnx.ModelProto, scores: str, features: str | None) -> None:
        super().__init__()
        version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), MIN_OPSET)
        if version < MIN_OPSET:
            raise UnsupportedOpError(
                f"ONNX opset {version} is too old for a white-box attack; convert it to {MIN_OPSET} or later"
            )
        graph = model.graph
        weights = {w.name: w for w in graph.initializer}
        given = next(i for i in graph.input if i.name not in weights)
        self.input = given.name
        self.batch: int | None = given.type.tensor_type.shape.dim[0].dim_value or None
        self.scores, self.features = scores, features
        shown = {name for name in (scores, features) if name}
        self.nodes = _needed(graph, shown, version)
        self.producers = {name: node for node in self.nodes for name in node.outputs}
        used = (shown | {name for node in self.nodes for name in node.inputs}) & weights.keys()
        self.weights = {name: f"weight_{i}" for i, name in enumerate(sorted(used))}
        for name, buffer in self.weights.items():
            self.register_buffer(buffer, _tensor(weights[name]))
        self.precision = _precision(model, self.nodes)
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map ``(n, *shape)`` to the file's scores ``(n, K)`` and features ``(n, d)``."""
        return self.both(x)

    def both(
        self, x: Tensor, *, log: bool = False, exact: bool = True, sides: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Scores, or their logarithms, and features; without `exact` the scores do not saturate.

        With `sides` the logarithms ``(n, 2, ...)`` are those of one less the scores, and of the scores. The last batch
        is filled up with its own last row.
        """
        if self.batch is None:
            return self._both(x, log=log, exact=exact, sides=sides)
        parts = []
        for rows in torch.split(x, self.batch):
            filling = rows[-1:].expand(self.batch - len(rows), *rows.shape[1:])
            scores, features = self._both(torch.cat([rows, filling]), log=log, exact=exact, sides=sides)
            parts.append((scores[: len(rows)], None if features is None else features[: len(rows)]))
        scores = torch.cat([part[0] for part in parts])
        return scores, torch.cat([f for _, f in parts if f is not None]) if self.features else None

    def _both(self, x: Tensor, *, log: bool, exact: bool, sides: bool) -> tuple[Tensor, Tensor | None]:
        values = self.run(x)
        again = Unsaturated(values, self.producers, exact=exact)
        scores = again.log(self.scores) if log else again.score(self.scores)
        if sides:
            scores = torch.stack([again.log_complement(self.scores), scores], dim=1)
        return scores, values[self.features].flatten(1) if self.features else None

    def run(self, x: Tensor) -> dict[str, Any]:
        """Every value of the graph, by name."""
        values: dict[str, Any] = {name: _like(x, self.get_buffer(buffer)) for name, buffer in self.weights.items()}
        values[self.input] = x
        for node in self.nodes:
            inputs = [values[name] if name else None for name in node.inputs]
            result = OPERATORS[node.op](inputs, node.attributes)
            results = result if isinstance(result, tuple) else (result,)
            values.update(zip(node.outputs, (_like(x, r) for r in results), strict=False))
        return values


class Network(nn.Module):
    """What attacks differentiate: logits, or log-probabilities when the file ends in probabilities.

    Of probabilities that each stand alone it gives both `sides`. They do not saturate. With `exact` their values are
    the file's own, where ties that a Clip or a rounding makes decide, and only their gradient is that of the scores
    beneath.
    """

    def __init__(self, graph: OnnxNetwork, *, probabilities: bool, exact: bool = False, sides: bool = False) -> None:
        super().__init__()
        self.sides = sides
        self.graph = graph
        self.probabilities = probabilities
        self.exact = exact

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, *shape)`` to logit-like scores, of the shape that the file gives."""
        return self.both(x)[0]

    def features(self, x: Tensor) -> Tensor | None:
        """The features ``(n, d)``, None when the file shows none."""
        return self.both(x)[1]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and features of one forward pass."""
        scores, features = self._given(x, exact=False)
        if self.exact:
            scores = scores + (self._given(x, exact=True)[0] - scores).detach()
        return scores, features

    def _given(self, x: Tensor, *, exact: bool) -> tuple[Tensor, Tensor | None]:
        return self.graph.both(x, log=self.probabilities, exact=exact, sides=self.sides)


def to_torch(
    source: Path | str | bytes, options: Mapping[str, str] | None = None, task: Task | None = None
) -> OnnxNetwork:
    """Read an ONNX file (or its bytes) as a torch module; raises `MedwardError` when that cannot be done.

    `options` are the names of scores and features that a bundle's card recorded; without them they are chosen as the
    guard chooses for `task`.
    """
    what = "the bytes" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else read_model_file(Path(source))
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # onnx and protobuf raise types of their own for a broken file
        raise MedwardError(f"{what}: not a readable ONNX model: {first_line(error)}") from None
    scores, features = choose_outputs([_output(each) for each in model.graph.output], what, recorded=options, task=task)
    return OnnxNetwork(onnx.inliner.inline_local_functions(model) if model.functions else model, scores, features)


def white_box(
    source: Path | str | bytes,
    reference: Callable[[Array], Outputs],
    sample: Array,
    options: Mapping[str, str] | None = None,
    *,
    spec: ModelSpec | None = None,
    tolerance: float = PRECISION,
) -> tuple[Network | None, str]:
    """A network for gradient attacks on the file, or None and the reason why there is none.

    `reference` maps `sample (n, *shape)` to the deployed scores and features; `options` name them as in `to_torch`.
    Those of torch must match within `tolerance`, or what the file's own precision allows, relative to the largest above
    1. Scores that are nonnegative and sum to 1 on every row are taken as probabilities, and those of findings or of one
    column where `spec` says so; their logarithms must give the same probabilities, and unsaturated the same decisions
    by the task of `spec`; else the network is exact. A file with a fixed batch size is run in batches of that size,
    unless it gives the same without.
    """
    try:
        graph = to_torch(source, options, None if spec is None else spec.task)
    except MedwardError as error:
        return None, str(error)
    expected = reference(sample)
    probabilities = are_probabilities(np.asarray(expected.scores, np.float64), spec)
    network = Network(graph, probabilities=probabilities, sides=probabilities and stands_alone(spec))
    allowed = max(tolerance, graph.precision)
    for size in dict.fromkeys((None, graph.batch)):
        graph.batch = size
        reason = _disagreement(network, expected, sample, allowed, spec) or _dead_end(graph, sample)
        if not reason:
            return network, ""
    return None, reason


def _disagreement(network: Network, expected: Outputs, sample: Array, tolerance: float, spec: ModelSpec | None) -> str:
    """How the outputs differ from those expected, on all rows or without the first; "" if they do not."""
    for start in range(min(2, len(sample))):  # two sizes, for a graph may run on one batch size only
        x = torch.as_tensor(sample[start:], dtype=torch.float32)
        wanted = as_file_gives(np.asarray(expected.scores[start:], np.float64), spec)
        try:
            with torch.no_grad():
                scores, features = network.graph(x)
                logarithm = network.graph.both(x, log=True)[0] if network.probabilities else None
                attacked = network(x)
        except Exception as error:  # a graph that torch cannot follow can raise nearly anything
            return f"torch cannot run this graph: {first_line(error)}"
        scores = scores.reshape(len(scores), 1) if wanted.shape[1:] == (1,) else scores
        reason = difference_text("scores", scores, wanted, tolerance)
        if not reason and logarithm is not None and stands_alone(spec):
            reason = difference_text("log-domain scores", logarithm.exp().reshape(wanted.shape), wanted, tolerance)
        elif not reason and logarithm is not None:
            total = wanted.sum(axis=1, keepdims=True)
            reason = difference_text("log-domain scores", logarithm.softmax(dim=1), wanted / total, tolerance)
        if not reason and expected.features is not None:
            reason = difference_text("features", features, expected.features[start:], tolerance)
        if reason:
            return reason
        network.exact |= not decides_alike(attacked, expected.scores[start:], spec)
    return ""


def _dead_end(graph: OnnxNetwork, sample: Array) -> str:
    """The operators that no gradient passes, where scores have none at all; "" where they have one."""
    x = torch.as_tensor(sample[:2], dtype=torch.float32)
    x = x.clone() if graph.batch is None else x[:1].repeat(graph.batch, *[1] * (x.ndim - 1))
    values = graph.run(x.requires_grad_())
    if values[graph.scores].requires_grad:
        return ""
    slopes = {name for name, value in values.items() if isinstance(value, Tensor) and value.requires_grad}
    ends = {node.op for node in graph.nodes if slopes & set(node.inputs) and not slopes & set(node.outputs)}
    named = ", ".join("Cast to whole numbers" if op == "Cast" else op for op in sorted(ends - {"Shape", "Size"}))
    return f"this model cannot be attacked white-box: no gradient passes {named or 'from its input to its scores'}"


@dataclass(frozen=True, slots=True)
class _Output:
    """An output as onnxruntime describes it; no axes where none are declared."""

    name: str
    type: str
    shape: list[int | str | None]


def _output(declared: onnx.ValueInfoProto) -> _Output:
    if not declared.type.HasField("tensor_type"):
        return _Output(declared.name, "seq", [])
    tensor = declared.type.tensor_type
    kind = FLOATING.get(tensor.elem_type, onnx.TensorProto.DataType.Name(tensor.elem_type).lower())
    return _Output(declared.name, kind, [axis.dim_value or axis.dim_param or None for axis in tensor.shape.dim])


def _like(x: Tensor, value: Any) -> Any:
    """`value` on the device of `x`, floating-point numbers in its type."""
    if not isinstance(value, Tensor):
        return value
    return value.to(x.device, x.dtype) if value.is_floating_point() else value.to(x.device)


def _needed(graph: onnx.GraphProto, wanted: set[str], opset: int) -> tuple[Node, ...]:
    """The steps that `wanted` depend on, in order; `UnsupportedOpError` names those without a torch form."""
    names, steps = set(wanted), []
    for proto in reversed(graph.node):
        if names & set(proto.output):
            names |= set(proto.input)
            steps.append(proto)
    unknown = sorted({f"{p.domain}.{p.op_type}".lstrip(".") for p in steps if p.op_type not in OPERATORS})
    if unknown:
        raise UnsupportedOpError(
            f"this model cannot be attacked white-box: no gradient for ONNX operators {', '.join(unknown)}"
        )
    return _carried([_node(proto, opset) for proto in reversed(steps)], wanted)


def _carried(nodes: list[Node], shown: set[str]) -> tuple[Node, ...]:
    """`nodes`, with casts to whole numbers marked that are carried as floating-point ones, so that a gradient passes.

    Those are read by arithmetic alone, up to where the file has floating-point numbers again; indices, sizes and what
    is shown are not.
    """
    typed = set(shown)  # values whose type counts
    for node in reversed(nodes):
        if node.op not in READS and (node.op not in _SAME or typed & set(node.outputs)):
            typed |= set(node.inputs)
    for node in nodes:
        if node.op == "Cast" and node.attributes["to"] in WHOLE and node.outputs[0] not in typed:
            node.attributes["carried"] = True
    return tuple(nodes)


def _node(proto: onnx.NodeProto, opset: int) -> Node:
    attributes = {a.name: _attribute(a) for a in proto.attribute}
    added = {"outputs": len(proto.output), "opset": opset}
    return Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes | added)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return value.decode() if isinstance(value, bytes) else value


def _tensor(stored: onnx.TensorProto) -> Tensor:
    """A stored tensor; floating-point numbers of any length are kept in 32 bits."""
    if stored.data_location == onnx.TensorProto.EXTERNAL:
        raise MedwardError("weights lie outside the file; put them inside: onnx.save(onnx.load(path), path)")
    array = numpy_helper.to_array(stored)
    if stored.data_type in FLOATING:
        return torch.from_numpy(array.astype(np.float32))
    if array.dtype.kind not in "biu":
        kind = onnx.TensorProto.DataType.Name(stored.data_type)
        raise UnsupportedOpError(f"this model cannot be attacked white-box: {stored.name} holds {kind}, not numbers")
    return torch.from_numpy(array.copy())


def _precision(model: onnx.ModelProto, nodes: tuple[Node, ...]) -> float:
    """How exactly the deployed runtime and torch can agree on this file."""
    if any(node.op in ROUNDING for node in nodes):
        return QUANTISED
    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    kinds = {w.data_type for w in model.graph.initializer} | {node.attributes.get("to") for node in nodes}
    kinds |= {i.type.tensor_type.elem_type for i in model.graph.input}
    return HALF if kinds & half else PRECISION
