"""Small ONNX networks with random weights, one for each kind of node that can be bounded, and how they are searched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from medward.guard.certify.affine import class_pairs
from medward.guard.certify.bounds import Bounds
from medward.guard.certify.output_bounds import OutputBounds
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

IMAGE, TABLE = (2, 8, 8), (6,)


class Network:
    """Nodes one after another, from the input x to the output scores."""

    def __init__(self, shape, seed=0):
        self.shape, self.rng = shape, np.random.default_rng(seed)
        self.nodes, self.weights, self.last, self.count = [], [], "x", 0

    def constant(self, value):
        self.count += 1
        dtype = np.int64 if np.asarray(value).dtype.kind == "i" else np.float32
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), f"w{self.count}"))
        return f"w{self.count}"

    def truth(self, value):
        self.count += 1
        self.weights.append(numpy_helper.from_array(np.asarray(value, bool), f"w{self.count}"))
        return f"w{self.count}"

    def random(self, *shape, scale=None):
        size = scale or 1 / np.sqrt(max(1, int(np.prod(shape[1:]))))
        return self.constant(self.rng.normal(size=shape) * size)

    def add(self, operator, *more, first=None, domain=None, **attributes):
        self.count += 1
        inputs = [self.last if first is None else first, *more]
        name = f"t{self.count}"
        self.nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        self.last = name
        return self

    def conv(self, given, made, size=3, **attributes):
        return self.add("Conv", self.random(made, given, size, size), self.random(made, scale=0.3), **attributes)

    def gemm(self, given, made):
        return self.add("Gemm", self.random(made, given), self.random(made, scale=0.3), transB=1)

    def data(self, opset=17):
        nodes = [*self.nodes, helper.make_node("Identity", [self.last], ["scores"])]
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *self.shape])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
            self.weights,
        )
        versions = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=8)
        return model.SerializeToString()


def image_network(after: Callable[[Network], Network], seed: int = 0, opset: int = 17) -> bytes:
    """A convolution, what is tested, and a linear layer of what 5 channels of 6 x 6 then are, averaged."""
    net = after(Network(IMAGE, seed).conv(2, 5))
    return net.add("GlobalAveragePool").add("Flatten").gemm(5, 3).data(opset)


def table_network(after: Callable[[Network], Network], seed: int = 0, opset: int = 17) -> bytes:
    """A linear layer, what is tested of its 8 values, and a linear layer."""
    return after(Network(TABLE, seed).gemm(6, 8)).gemm(8, 3).data(opset)


def image_spec(task=None, low=0.0, high=1.0) -> ModelSpec:
    return ModelSpec(name="image", modality="image", shape=IMAGE, task=task or three_classes(), low=low, high=high)


def table_spec(task=None, shape=TABLE) -> ModelSpec:
    return ModelSpec(name="table", modality="tabular", shape=shape, task=task or three_classes())


def three_classes(output="logits") -> Classification:
    return Classification(classes=("a", "b", "c"), output=output)


def session_at(data: bytes, level: str):
    """A session with the runtime's optimisations at `level`: other kernels, other orders of summation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


LEVELS = ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL", "ORT_ENABLE_BASIC")


def inputs_within(rows: np.ndarray, radius: float, spec: ModelSpec, rng: np.random.Generator) -> np.ndarray:
    """One input within the radius of each row: uniform, or at a corner of the ball, or the row itself."""
    kind = rng.integers(4, size=(len(rows), *[1] * (rows.ndim - 1)))
    signs = rng.choice([-1.0, 1.0], size=rows.shape)
    steps = np.where(kind == 0, rng.uniform(-1, 1, size=rows.shape), np.where(kind == 1, 0.0, signs))
    # The nearest number of single precision towards the row, so that none is outside the ball.
    moved = rows.astype(np.float64) + radius * steps
    near = moved.astype(np.float32)
    outside = np.abs(near.astype(np.float64) - rows) > radius
    near = np.where(outside, np.nextafter(near, rows), near)
    return near if spec.low is None else np.clip(near, np.float32(spec.low), np.float32(spec.high))


def deciding_numbers(scores: np.ndarray, bounds: OutputBounds) -> np.ndarray:
    """What the bounds are of, from a model's own outputs (beneath a softmax: the log odds), in double precision."""
    wide = scores.astype(np.float64).reshape(len(scores), -1)
    if bounds.softmax:
        wide = np.log(np.maximum(wide, 1e-300))
    if not bounds.differences:
        return wide
    first, second = class_pairs(wide.shape[1])
    return wide[:, second] - wide[:, first]


def escapes(data: bytes, bounds: Bounds, rows: np.ndarray, radius: float, tries: int = 60, seed: int = 0) -> int:
    """How many outputs of the file, computed in several ways within the radius, lie outside the bounds."""
    rng, count = np.random.default_rng(seed), 0
    found, sessions = bounds.between(rows, radius), [session_at(data, level) for level in LEVELS]
    slack = 2.0**-16 if found.softmax else 0.0  # of a logarithm of rounded probabilities, checked apart
    for turn in range(tries):
        near = inputs_within(rows, radius, bounds.spec, rng)
        scores = sessions[turn % len(sessions)].run(["scores"], {"x": near})[0]
        numbers = deciding_numbers(scores, found)
        count += int(((numbers < found.lower - slack) | (numbers > found.upper + slack)).sum())
    return count


def stored(data: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(data)
