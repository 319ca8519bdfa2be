"""No output of a deployed network leaves its bounds, for every operator that has some; what has none is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from support.bounded_networks import (
    IMAGE,
    TABLE,
    Network,
    escapes,
    image_network,
    image_spec,
    stored,
    table_network,
    table_spec,
)

from medward.guard.certify import affine, graph_writer, network_bounds, operators
from medward.guard.certify.bounds import Bounds
from medward.guard.errors import MedwardError

ROOT = Path(__file__).resolve().parents[3]
RADII = (0.0, 1e-4, 0.02, 0.3)
IMAGES = {
    "Relu": lambda n: n.add("Relu"),
    "LeakyRelu": lambda n: n.add("LeakyRelu", alpha=0.2).conv(5, 5),
    "Clip": lambda n: n.add("Clip", n.constant(np.float32(0.0)), n.constant(np.float32(0.4))),
    "Sigmoid": lambda n: n.add("Sigmoid"),
    "Tanh": lambda n: n.add("Tanh").conv(5, 5),
    "Identity": lambda n: n.add("Identity").add("Relu"),
    "Dropout": lambda n: n.add("Dropout").add("Relu"),
    "Cast": lambda n: n.add("Cast", to=1).add("Relu"),
    "Conv": lambda n: n.add("Relu").conv(5, 5, pads=[1, 1, 1, 1]).add("Relu").conv(5, 5, strides=[2, 2]),
    "Conv of groups": lambda n: n.add("Relu").add("Conv", n.random(5, 1, 3, 3), group=5),
    "wide Conv": lambda n: n.add("Relu").conv(5, 20).add("Relu").conv(20, 5),
    "BatchNormalization": lambda n: norm(n).add("Relu"),
    "BatchNormalization apart": lambda n: norm(n.add("Relu")).add("Relu"),
    "Add": lambda n: n.add("Add", n.random(5, 1, 1)).add("Add", n.random(5, 6, 6)),
    "Sub": lambda n: n.add("Sub", n.random(5, 1, 1)).add("Relu").add("Sub", n.random(1)),
    "Sub from": lambda n: n.add("Relu").add("Sub", n.last, first=n.constant(np.float32(1.0))),
    "Mul": lambda n: n.add("Mul", n.random(1, 5, 1, 1, scale=1.0)).add("Relu").add("Mul", n.random(5, 6, 6, scale=1.0)),
    "Div": lambda n: n.add("Div", n.constant(np.float32(-0.7))).add("Relu").add("Div", n.constant(np.float32(3.0))),
    "residual": lambda n: residual(n.add("Relu")),
    "difference": lambda n: residual(n.add("Relu"), "Sub"),
    "MaxPool": lambda n: n.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool": lambda n: n.add("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "Pad": lambda n: n.add("Relu").add("Pad", n.constant([0, 0, 1, 1, 0, 0, 1, 1])).conv(5, 5),
    "Transpose": lambda n: n.add("Transpose", perm=[0, 1, 3, 2]).add("Relu"),
    "Concat": lambda n: n.add("Concat", n.last, axis=2).add("Relu"),
    "ReduceMean": lambda n: n.add("Relu").add("ReduceMean", axes=[2, 3], keepdims=1),
    "Slice": lambda n: n.add("Slice", n.constant([1]), n.constant([5]), n.constant([2])),
    "Gather": lambda n: n.add("Gather", n.constant([0, 2, 4]), axis=3),
    "GlobalMaxPool": lambda n: n.add("GlobalMaxPool"),
}
TABLES = {
    "MatMul": lambda n: n.add("Relu").add("MatMul", n.random(8, 8)).add("Add", n.random(8)),
    "Gemm": lambda n: n.add("Tanh").add("Gemm", n.random(8, 8), n.random(1), alpha=0.5, beta=2.0),
    "Reshape": lambda n: n.add("Reshape", n.constant([-1, 2, 4])).add("Relu").add("Reshape", n.constant([-1, 8])),
    "Reshape by size": lambda n: by_size(n),
    "Unsqueeze": lambda n: n.add("Unsqueeze", n.constant([1])).add("Relu").add("Squeeze", n.constant([1])),
    "Squeeze": lambda n: n.add("Unsqueeze", n.constant([2])).add("Squeeze", n.constant([2])),
    "MatMul of three axes": lambda n: (
        n.add("Reshape", n.constant([-1, 2, 4])).add("MatMul", n.random(4, 4)).add("Reshape", n.constant([-1, 8]))
    ),
    "Flatten": lambda n: n.add("Flatten").add("Relu"),
    "GlobalAveragePool": lambda n: (
        n.add("Reshape", n.constant([-1, 8, 1])).add("GlobalAveragePool").add("Flatten").add("Relu")
    ),
    "ai.onnx.ml.Scaler": lambda n: n.add(
        "Scaler", domain="ai.onnx.ml", offset=[0.5] * 8, scale=[*[2.0] * 4, *[-0.3] * 4]
    ),
}


def norm(net):
    constants = [net.random(5, scale=1.0), net.random(5, scale=1.0), net.random(5, scale=3.0)]
    return net.add("BatchNormalization", *constants, net.constant(np.float32([0.1, 0.5, 1, 2, 4])))


def residual(net, operator="Add"):
    short = net.last
    return net.conv(5, 5, pads=[1, 1, 1, 1]).add(operator, short).add("Relu")


def by_size(net):
    """As torch exports a view: the batch's own size in front."""
    given = net.last
    net.add("Shape").add("Gather", net.constant(0)).add("Unsqueeze", net.constant([0]))
    shape = net.add("Concat", net.constant([8]), axis=0).last
    return net.add("Reshape", shape, first=given)


def case(name, seed=0):
    if name in IMAGES:
        rows = np.random.default_rng(seed).random((7, *IMAGE), dtype=np.float32)
        return image_network(IMAGES[name], seed), image_spec(), rows
    rows = np.random.default_rng(seed).normal(size=(7, *TABLE)).astype(np.float32)
    return table_network(TABLES[name], seed), table_spec(), rows


@pytest.mark.parametrize("name", [*IMAGES, *TABLES])
def test_no_output_leaves_its_bounds(name):
    for seed in range(3):
        data, spec, rows = case(name, seed)
        bounds = Bounds.of(data, spec)
        for radius in RADII:
            assert escapes(data, bounds, rows, radius, tries=12) == 0


def test_every_operator_that_can_be_bounded_is_tested():
    last = {"Softmax", "ai.onnx.ml.Normalizer", "ai.onnx.ml.LinearClassifier", "ai.onnx.ml.LinearRegressor"}
    assert set(operators.BOUNDED_OPERATORS) == {*IMAGES, *TABLES} & set(operators.BOUNDED_OPERATORS) | last


@pytest.mark.parametrize("name", ["Conv", "MatMul", "residual", "wide Conv"])
def test_bounds_rounded_inwards_are_caught(name, monkeypatch):
    data, spec, rows = case(name)
    for module in (affine, graph_writer):
        monkeypatch.setattr(module, "rounding_factor", lambda terms: -1e-7)
        monkeypatch.setattr(module, "underflow_allowance", lambda terms: 0.0)
    assert escapes(data, Bounds.of(data, spec), rows, 0.0, tries=12) > 0


@pytest.mark.parametrize(("name", "operator"), [("Relu", "Relu"), ("Clip", "Clip"), ("BatchNormalization", "Relu")])
def test_a_node_that_is_left_out_is_caught(name, operator, monkeypatch):
    data, spec, rows = case(name)
    monkeypatch.setitem(operators.BOUNDED_OPERATORS, operator, operators.BOUNDED_OPERATORS["Identity"])
    monkeypatch.setattr(Bounds, "check_against", lambda self, model: None)
    assert escapes(data, Bounds.of(data, spec), rows, 0.02, tries=12) > 0


def test_a_short_cut_that_is_left_out_is_caught(monkeypatch):
    data, spec, rows = case("residual")
    monkeypatch.setitem(operators.BOUNDED_OPERATORS, "Add", operators.BOUNDED_OPERATORS["Identity"])
    monkeypatch.setattr(Bounds, "check_against", lambda self, model: None)
    assert escapes(data, Bounds.of(data, spec), rows, 0.02, tries=12) > 0


def test_bounds_that_a_file_s_own_decisions_leave_are_refused(monkeypatch):
    data, spec, _ = case("residual")
    monkeypatch.setitem(operators.BOUNDED_OPERATORS, "Add", operators.BOUNDED_OPERATORS["Identity"])
    with pytest.raises(MedwardError, match="random rows are answered otherwise than bounds say"):
        Bounds.of(data, spec)


def test_bounds_of_no_radius_are_as_wide_as_rounding():
    data, spec, rows = case("Conv")
    bounds = Bounds.of(data, spec).between(rows, 0.0)
    assert 0 < (bounds.upper - bounds.lower).max() < 5e-3


def test_a_larger_radius_has_wider_bounds_and_the_range_cuts_them():
    data, spec, rows = case("Relu")
    narrow, wide = (Bounds.of(data, spec).between(rows, radius) for radius in (0.1, 0.4))
    assert (wide.lower < narrow.lower).all()
    free = Bounds.of(data, image_spec(low=None, high=None)).between(rows, 0.4)
    assert (free.lower <= wide.lower).all()
    assert (free.upper - free.lower > wide.upper - wide.lower).any()


def test_a_radius_of_its_own_for_every_value():
    data, spec, rows = case("MatMul")
    bounds = Bounds.of(data, spec)
    still = bounds.between(rows, np.array([0, 0, 0, 0, 0, 0.5]))
    moved = rows.copy()
    moved[:, 5] += 0.4
    inside = bounds.between(moved, 0.0)
    assert (still.lower <= inside.lower + 1e-4).all()
    assert (still.upper - still.lower < bounds.between(rows, 0.5).upper - bounds.between(rows, 0.5).lower).all()


REFUSED = {
    "Exp": (lambda n: n.add("Exp"), "ONNX operator Exp has no sound bound"),
    "Erf": (lambda n: n.add("Erf"), "ONNX operator Erf"),
    "Mul": (lambda n: n.add("Mul", n.last), "Mul of two tensors"),
    "Cast": (lambda n: n.add("Cast", to=11), "Cast to other types"),
    "LeakyRelu": (lambda n: n.add("LeakyRelu", alpha=-0.5), "falls and rises"),
    "Dropout": (
        lambda n: n.add("Dropout", n.constant(np.float32(0.5)), n.truth(True)),
        "Dropout in training mode answers by chance",
    ),
    "Softmax": (lambda n: n.add("Softmax", axis=1), "Softmax can be bounded as the last node"),
    "MatMul": (lambda n: n.add("MatMul", n.last), "no constants of the file"),
    "weights": (lambda n: n.add("Mul", n.constant(np.float32(2)), first=n.constant(np.float32(2))), "computes weights"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_bounded_is_refused_by_name(name):
    change, words = REFUSED[name]
    net = change(Network(IMAGE).conv(2, 5))
    if name == "weights":
        net.add("Add", net.last, first="t3")
    with pytest.raises(MedwardError, match=words):
        network_bounds.bounds_graph(net.data(), "x", "scores", image_spec())


def test_a_sum_of_too_many_products_is_refused():
    net = Network((2**19 + 1,))
    data = net.add("MatMul", net.constant(np.zeros((2**19 + 1, 2)))).data()
    with pytest.raises(MedwardError, match="sums 524289 products"):
        network_bounds.bounds_graph(data, "x", "scores", table_spec(shape=(2**19 + 1,)))


def test_a_stored_graph_is_opened_without_the_file():
    data, spec, rows = case("Relu")
    written = Bounds.of(data, spec)
    again = Bounds.load(written.data, spec)
    assert np.array_equal(again.between(rows, 0.1).lower, written.between(rows, 0.1).lower)
    with pytest.raises(MedwardError, match="holds no bounds"):
        Bounds.load(data, spec)


def test_a_stored_graph_needs_neither_onnx_nor_torch(monkeypatch):
    data, spec, rows = case("Relu")
    written = Bounds.of(data, spec)
    for name in ("onnx", "torch", "sklearn"):
        monkeypatch.setitem(sys.modules, name, None)
    found = Bounds.load(written.data, spec).certified_radius(rows, (0.001, 0.01, 0.1))
    assert set(found.tolist()) <= {0.0, 0.001, 0.01, 0.1}
    with pytest.raises(MedwardError, match="this needs onnx"):
        Bounds.of(data, spec)


ALONE = """
import sys
from medward.guard.certify.network_bounds import bounds_graph
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
task = Classification(classes=("a", "b", "c"), output="logits")
spec = ModelSpec(name="alone", modality="tabular", shape=(6,), task=task)
bounds_graph(open(sys.argv[1], "rb").read(), "x", "scores", spec)
assert "torch" not in sys.modules
"""


def test_a_graph_is_written_in_a_process_that_has_imported_nothing_else(tmp_path):
    """With a constant that is a node, which needs a module that onnx does not import by itself."""
    net = by_size(Network(TABLE).gemm(6, 8))
    constant = helper.make_node("Constant", [], ["half"], value_floats=[0.5])
    net.nodes.insert(0, constant)
    (tmp_path / "model.onnx").write_bytes(net.add("Mul", "half").gemm(8, 3).data())
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "model.onnx")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_a_fixed_batch_is_kept():
    model = stored(case("Relu")[0])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    rows = np.random.default_rng(0).random((7, *IMAGE), dtype=np.float32)
    free = Bounds.of(case("Relu")[0], image_spec()).between(rows, 0.1)
    fixed = Bounds.of(model.SerializeToString(), image_spec()).between(rows, 0.1)
    assert np.allclose(free.lower, fixed.lower, atol=1e-5)
