"""A deployed ONNX file as a differentiable torch network, so that attacks see exactly what is served.

`white_box` is the way in: it interprets the file with torch, compares scores and features with the deployed
runtime on sample rows, and hands out a network only when the two agree.

Attacks need scores that keep their gradient when the model is sure of itself. A file that ends in
probabilities is therefore evaluated in the log domain (log-softmax and log-sigmoid in place of softmax and
sigmoid): cross-entropy and margins of log-probabilities are those of the logits, and nothing saturates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.onnx_ops import OPS, UnsupportedOpError, linear_scores
from guard.errors import MedwardError
from guard.types import Array, Outputs

MIN_OPSET = 13
TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the graph; an empty input name is an optional input left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class OnnxNetwork(nn.Module):
    """An ONNX graph run by torch: weights frozen, eval semantics. ``forward`` gives scores, and features or
    None.

    `batch` is how many rows the graph runs on at a time, None for any number. Raises `UnsupportedOpError`
    naming every operator that has no differentiable counterpart. Steps that the scores and features do not
    depend on (labels, say) are left out.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
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
        self.scores, self.features = _outputs(graph)
        self.nodes = _needed(graph, [name for name in (self.scores, self.features) if name])
        self.producers = {name: node for node in self.nodes for name in node.outputs}
        used = {name for node in self.nodes for name in node.inputs} & weights.keys()
        self.weights = {name: f"weight_{i}" for i, name in enumerate(sorted(used))}
        for name, buffer in self.weights.items():
            self.register_buffer(buffer, torch.from_numpy(numpy_helper.to_array(weights[name]).copy()))
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map ``(n, *shape)`` to the file's scores ``(n, K)`` and features ``(n, d)``."""
        return self.both(x, log=False)

    def both(self, x: Tensor, *, log: bool) -> tuple[Tensor, Tensor | None]:
        """Scores, or their logarithms, and features; the last batch is filled up with its own last row."""
        if self.batch is None:
            return self._both(x, log=log)
        parts = []
        for rows in torch.split(x, self.batch):
            filling = rows[-1:].expand(self.batch - len(rows), *rows.shape[1:])
            scores, features = self._both(torch.cat([rows, filling]), log=log)
            parts.append((scores[: len(rows)], None if features is None else features[: len(rows)]))
        scores = torch.cat([part[0] for part in parts])
        return scores, torch.cat([f for _, f in parts if f is not None]) if self.features else None

    def _both(self, x: Tensor, *, log: bool) -> tuple[Tensor, Tensor | None]:
        values = self.run(x)
        scores: Tensor = self.log(self.scores, values) if log else values[self.scores]
        return scores, values[self.features].flatten(1) if self.features else None

    def run(self, x: Tensor) -> dict[str, Any]:
        """Every value of the graph, by name."""
        values: dict[str, Any] = {name: self.get_buffer(buffer) for name, buffer in self.weights.items()}
        values[self.input] = x
        for node in self.nodes:
            inputs = [values[name] if name else None for name in node.inputs]
            result = OPS[node.op](inputs, node.attributes)
            results = result if isinstance(result, tuple) else (result,)
            values.update(zip(node.outputs, (_on(x, r) for r in results), strict=False))
        return values

    def log(self, name: str, values: dict[str, Any]) -> Tensor:
        """The logarithm of one value, computed from what it was made of, so that it does not saturate."""
        node = self.producers.get(name)
        value: Tensor = values[name]
        if node is None or not node.inputs:
            return value.clamp_min(TINY).log()
        first = node.inputs[0]
        match node.op:
            case "Identity" | "Cast":
                return self.log(first, values)
            case "Softmax":
                axis: int = node.attributes.get("axis", -1)
                return F.log_softmax(values[first], dim=axis)
            case "Sigmoid":
                return F.logsigmoid(values[first])
            case "Sub" if self._is_complement(node, values):
                return F.logsigmoid(-values[self.producers[node.inputs[1]].inputs[0]])
            case "Concat":
                return torch.cat([self.log(part, values) for part in node.inputs], dim=node.attributes["axis"])
            case "Normalizer" if node.attributes.get("norm") == "L1":
                return F.log_softmax(self.log(first, values), dim=-1)
            case "LinearClassifier" if name == node.outputs[1]:
                raw = linear_scores([values[first]], node.attributes)
                transforms = {"SOFTMAX": lambda s: F.log_softmax(s, dim=1), "LOGISTIC": F.logsigmoid}
                transform = transforms.get(node.attributes.get("post_transform", "NONE"))
                return value.clamp_min(TINY).log() if transform is None else transform(raw)
            case _:
                return value.clamp_min(TINY).log()

    def _is_complement(self, node: Node, values: dict[str, Any]) -> bool:
        """Whether a Sub is 1 - sigmoid(s)."""
        maker = self.producers.get(node.inputs[1])
        return maker is not None and maker.op == "Sigmoid" and bool((values[node.inputs[0]] == 1).all())


class Network(nn.Module):
    """What attacks differentiate: logits, or log-probabilities when the file ends in probabilities."""

    def __init__(self, graph: OnnxNetwork, *, probabilities: bool) -> None:
        super().__init__()
        self.graph = graph
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, *shape)`` to logit-like scores ``(n, K)``."""
        return self.both(x)[0]

    def features(self, x: Tensor) -> Tensor | None:
        """The features ``(n, d)``, None when the file shows none."""
        return self.both(x)[1]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and features of one forward pass."""
        return self.graph.both(x, log=self.probabilities)


def to_torch(source: Path | str | bytes) -> OnnxNetwork:
    """Read an ONNX file (or its bytes) as a torch module; raises `MedwardError` when that cannot be done."""
    try:
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(str(source))
    except Exception as error:  # onnx and protobuf raise types of their own for a broken file
        what = "the bytes" if isinstance(source, bytes) else str(source)
        raise MedwardError(f"{what}: not a readable ONNX model: {error}") from None
    return OnnxNetwork(model)


def white_box(
    source: Path | str | bytes, reference: Callable[[Array], Outputs], sample: Array, *, tolerance: float = 1e-4
) -> tuple[Network | None, str]:
    """A network for gradient attacks on the file, or None and the reason why there is none.

    `reference` maps `sample (n, *shape)` to the deployed scores ``(n, K)`` and features; those of torch must
    match them within `tolerance`, features relative to their largest. Scores that are nonnegative and sum to
    1 on every row are taken as probabilities; their log-domain form must give the same probabilities. A file
    with a fixed batch size is run in batches of that size, unless it gives the same without.
    """
    try:
        graph = to_torch(source)
    except MedwardError as error:
        return None, str(error)
    expected = reference(sample)
    scores = np.asarray(expected.scores, np.float64)
    probabilities = bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))
    network = Network(graph, probabilities=probabilities)
    for size in dict.fromkeys((None, graph.batch)):
        graph.batch = size
        reason = _disagreement(network, expected, sample, tolerance)
        if not reason:
            return network, ""
    return None, reason


def _disagreement(network: Network, expected: Outputs, sample: Array, tolerance: float) -> str:
    """How the outputs differ from those expected, on all rows or without the first; "" if they do not."""
    for start in range(min(2, len(sample))):  # two sizes, for a graph may run on one batch size only
        x = torch.as_tensor(sample[start:], dtype=torch.float32)
        wanted = expected.scores[start:]
        try:
            with torch.no_grad():
                scores, features = network.graph(x)
                attacked = network(x)
        except (MedwardError, RuntimeError, IndexError, KeyError, TypeError, ValueError) as error:
            return f"torch cannot run this graph: {error}"
        reason = _difference("scores", scores, wanted, tolerance)
        if not reason and network.probabilities:
            total = wanted.sum(axis=1, keepdims=True)
            reason = _difference("log-domain scores", attacked.softmax(dim=1), wanted / total, tolerance)
        if not reason and expected.features is not None:
            shown = expected.features[start:]
            scale = max(1.0, float(np.abs(shown).max(initial=0.0)))
            reason = _difference("features", features, shown, tolerance * scale)
        if reason:
            return reason
    return ""


def _difference(what: str, mine: Tensor | None, deployed: Array, tolerance: float) -> str:
    if mine is None:
        return f"torch gives no {what}, the deployed model does"
    if tuple(mine.shape) != deployed.shape:
        return f"torch gives {what} of shape {tuple(mine.shape)}, the deployed model {deployed.shape}"
    worst = float(np.abs(mine.numpy() - np.asarray(deployed, np.float64)).max())
    if worst <= tolerance:
        return ""
    return f"{what} of torch and the deployed model differ by {worst:.2g}, more than {tolerance:g}"


def _on(x: Tensor, value: Any) -> Any:
    return value.to(x.device) if isinstance(value, Tensor) else value


def _outputs(graph: onnx.GraphProto) -> tuple[str, str]:
    """The names of the scores and of the features ("" when there are none)."""
    floats = [o.name for o in graph.output if o.type.tensor_type.elem_type in (1, 10, 11, 16)]
    features = "features" if "features" in floats else ""
    candidates = [name for name in floats if name != features]
    if not candidates:
        raise MedwardError("ONNX: the model has no output of floating-point scores")
    return ("scores" if "scores" in candidates else candidates[0]), features


def _needed(graph: onnx.GraphProto, wanted: list[str]) -> tuple[Node, ...]:
    """The steps that `wanted` depend on, in order; `UnsupportedOpError` names those without a torch form."""
    names, steps = set(wanted), []
    for proto in reversed(graph.node):
        if names & set(proto.output):
            names |= set(proto.input)
            steps.append(proto)
    unknown = sorted({f"{p.domain}.{p.op_type}".lstrip(".") for p in steps if p.op_type not in OPS})
    if unknown:
        raise UnsupportedOpError(
            f"this model cannot be attacked white-box: no gradient for ONNX operators {', '.join(unknown)}"
        )
    return tuple(_node(proto) for proto in reversed(steps))


def _node(proto: onnx.NodeProto) -> Node:
    attributes = {a.name: _attribute(a) for a in proto.attribute}
    return Node(proto.op_type, tuple(proto.input), tuple(proto.output), {**attributes, "outputs": len(proto.output)})


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return torch.from_numpy(numpy_helper.to_array(value).copy())
    return value.decode() if isinstance(value, bytes) else value
