"""Every kind of file that can be differentiated is attacked white-box, as well as the plain file of the same net."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from support.searches import searching
from torch import nn

from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.onnx.to_torch import to_torch, white_box
from medward.guard.types import Outputs

rng = np.random.default_rng(0)
D, H, K, N = 8, 16, 3, 40
X = rng.normal(size=(N, D)).astype(np.float32)
W1, W2 = (rng.normal(size=shape).astype(np.float32) for shape in ((D, H), (H, K)))
MEMBERS = [rng.normal(size=(H, K)).astype(np.float32) for _ in range(3)]
SURE = 40.0  # how far apart the logits are: softmax is 0 and 1 to the last bit


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


def net(*ends, opset=17, kind=TensorProto.FLOAT, output="scores", weights=None, body=None, size=D):
    """x @ W1, relu, @ W2 times `SURE` gives z; `ends` make the scores of it."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    stored = {"W1": W1, "W2": W2 * (1.0 if kind == TensorProto.FLOAT16 else SURE), **(weights or {})}
    nodes = body or [node("MatMul", "x W1", "pre"), node("Relu", "pre", "hidden"), node("MatMul", "hidden W2", "z")]
    nodes = [*nodes, *ends]
    used = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", size])],
        [helper.make_tensor_value_info(output, kind, ["n", K])],
        [
            numpy_helper.from_array(value.astype(dtype) if value.dtype.kind == "f" else value, name)
            for name, value in stored.items()
            if name in used
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def served(source):
    """The deployed file's scores for float32 rows."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    given, shown = session.get_inputs()[0], session.get_outputs()[0].name
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}[given.type]
    return lambda rows: Outputs(session.run([shown], {given.name: rows.astype(dtype)})[0].astype(np.float64))


def fooled(source, network, epsilon=0.3):
    """The share of rows that the deployed file decides otherwise after an attack on `network`."""
    x = torch.as_tensor(X)
    own = served(source)(X).scores.argmax(1)
    search = searching(network, Ball(torch.full((D,), epsilon)))
    found = worst_case_pgd(search, x, torch.as_tensor(own), steps=20, restarts=2)
    return float((served(source)(found.adversarial.numpy()).scores.argmax(1) != own).mean())


def naive(source):
    """The control: an attack on the scores as the file gives them."""
    graph = to_torch(source)
    return fooled(source, lambda x: graph(x)[0])


def scalar(value):
    return np.array(value, np.float32)


def ints(*values):
    return np.array(values, np.int64)


SOFTMAX = node("Softmax", "z", "p", axis=-1)
BOUNDS = {"low": scalar(1e-7), "high": scalar(1 - 1e-7)}
TOTAL = {"last": ints(-1)}


def members():
    """Three heads on one hidden layer, each a softmax of its own."""
    nodes = [node("MatMul", "x W1", "pre"), node("Relu", "pre", "hidden")]
    for i in range(3):
        nodes += [node("MatMul", f"hidden M{i}", f"z{i}"), node("Softmax", f"z{i}", f"p{i}", axis=-1)]
    return nodes


HEADS = {f"M{i}": SURE * member for i, member in enumerate(MEMBERS)}
SATURATED = {
    "softmax": net(node("Softmax", "z", "scores", axis=-1)),
    "softmax, clip": net(SOFTMAX, node("Clip", "p low high", "scores"), weights=BOUNDS),
    "softmax, coarse clip, renormalised": net(
        SOFTMAX,
        node("Clip", "p low high", "c"),
        node("ReduceSum", "c last", "total", keepdims=1),
        node("Div", "c total", "scores"),
        weights={"low": scalar(0.05), "high": scalar(0.95), **TOTAL},
    ),
    "softmax, max and min": net(SOFTMAX, node("Max", "p low", "m"), node("Min", "m high", "scores"), weights=BOUNDS),
    "softmax, power, renormalised": net(
        SOFTMAX,
        node("Pow", "p power", "q"),
        node("ReduceSum", "q last", "total", keepdims=1),
        node("Div", "q total", "scores"),
        weights={"power": scalar(2.0), **TOTAL},
    ),
    "softmax, added, renormalised": net(
        SOFTMAX,
        node("Add", "p low", "q"),
        node("ReduceSum", "q last", "total", keepdims=1),
        node("Div", "q total", "scores"),
        weights={"low": scalar(1e-6), **TOTAL},
    ),
    "softmax by hand": net(
        node("ReduceMax", "z", "top", axes=[1], keepdims=1),
        node("Sub", "z top", "down"),
        node("Exp", "down", "e"),
        node("ReduceSum", "e last", "total", keepdims=1),
        node("Div", "e total", "scores"),
        weights=TOTAL,
    ),
    "softmax, rounded": net(
        SOFTMAX,
        node("Mul", "p hundred", "q"),
        node("Round", "q", "r"),
        node("Div", "r hundred", "scores"),
        weights={"hundred": scalar(100)},
    ),
    "softmax, cut to hundredths, renormalised": net(
        SOFTMAX,
        node("Mul", "p hundred", "q"),
        node("Floor", "q", "r"),
        node("ReduceSum", "r last", "total", keepdims=1),
        node("Div", "r total", "scores"),
        weights={"hundred": scalar(100), **TOTAL},
    ),
    "softmax, whole hundredths, renormalised": net(
        SOFTMAX,
        node("Mul", "p hundred", "q"),
        node("Cast", "q", "i", to=TensorProto.INT32),
        node("Cast", "i", "r", to=TensorProto.FLOAT),
        node("ReduceSum", "r last", "total", keepdims=1),
        node("Div", "r total", "scores"),
        weights={"hundred": scalar(100), **TOTAL},
    ),
    "softmax, quantised": net(
        SOFTMAX,
        node("QuantizeLinear", "p step zero", "q"),
        node("DequantizeLinear", "q step zero", "scores"),
        weights={"step": scalar(1 / 255), "zero": np.array(0, np.uint8)},
    ),
    "logarithm of clipped softmax": net(
        SOFTMAX, node("Clip", "p low high", "c"), node("Log", "c", "scores"), weights=BOUNDS
    ),
    "softmax before opset 13, clip before 11": net(
        node("Softmax", "z", "p"), node("Clip", "p", "scores", min=1e-7, max=1 - 1e-7), opset=9
    ),
}
ENSEMBLES = {
    "mean": net(node("Mean", "p0 p1 p2", "scores"), body=members(), weights=HEADS),
    "sum over three": net(
        node("Sum", "p0 p1 p2", "s"),
        node("Div", "s three", "scores"),
        body=members(),
        weights={**HEADS, "three": scalar(3)},
    ),
    "reduce mean of stacked": net(
        node("Unsqueeze", "p0 first", "u0"),
        node("Unsqueeze", "p1 first", "u1"),
        node("Unsqueeze", "p2 first", "u2"),
        node("Concat", "u0 u1 u2", "all", axis=0),
        node("ReduceMean", "all", "scores", axes=[0], keepdims=0),
        body=members(),
        weights={**HEADS, "first": ints(0)},
    ),
    "weighted": net(
        node("Mul", "p0 a", "q0"),
        node("Mul", "p1 b", "q1"),
        node("Add", "q0 q1", "scores"),
        body=members(),
        weights={**HEADS, "a": scalar(0.6), "b": scalar(0.4)},
    ),
}


def white(source, rows=X):
    network, reason = white_box(source, served(source), rows)
    assert reason == ""
    return network


@pytest.fixture(scope="module")
def plain():
    """How often an attack on the logits of the same net wins: what no end of the file may take away."""
    source = net(node("Identity", "z", "scores"))
    rate = fooled(source, white(source))
    assert 0.5 < rate < 1
    return rate


@pytest.mark.parametrize("name", SATURATED)
def test_a_saturated_end_is_attacked_as_well_as_the_logits(name, plain):
    assert fooled(SATURATED[name], white(SATURATED[name])) >= plain - 0.05


def test_scores_as_the_file_gives_them_are_attacked_in_vain(plain):
    """The control: a clipped softmax has no gradient where it saturates, and a naive attack fools hardly anybody."""
    assert naive(SATURATED["softmax, clip"]) < plain / 2


@pytest.mark.parametrize("name", ENSEMBLES)
def test_an_ensemble_of_probabilities_keeps_a_gradient_on_every_row(name):
    network = white(ENSEMBLES[name])
    x = torch.tensor(X, requires_grad=True)
    scores = network(x)
    torch.testing.assert_close(scores.softmax(1), network.graph(x)[0], atol=1e-4, rtol=0)
    (slope,) = torch.autograd.grad(scores.amin(dim=1).sum(), x)
    (given,) = torch.autograd.grad(network.graph(x)[0].amin(dim=1).sum(), x)
    assert (slope.abs().amax(dim=1) > 0.1).all()
    assert (given.abs().amax(dim=1) < 1e-6).any()  # the control: the file's own probabilities


@pytest.mark.parametrize("name", ENSEMBLES)
def test_an_ensemble_that_is_sure_of_itself_is_fooled_more_often_than_by_its_own_gradient(name):
    source = ENSEMBLES[name]
    assert fooled(source, white(source)) > naive(source) + 0.04


def test_logits_whose_clip_makes_ties_decide_as_the_file_and_keep_a_gradient():
    """The first of two clipped scores wins in the file; the scores beneath order them otherwise and only guide."""
    source = net(node("Clip", "z low high", "scores"), weights={"low": scalar(-20), "high": scalar(20)})
    network = white(source)
    np.testing.assert_array_equal(network(torch.as_tensor(X)).argmax(1), served(source)(X).scores.argmax(1))
    assert fooled(source, network) > naive(source) + 0.04


def test_a_clip_that_decides_is_kept():
    """Bounds of each class's own, made of Max and Min with a row, change who is largest: those stay in the way."""
    source = net(node("Min", "z cap", "scores"), weights={"cap": np.array([[-1e3, 1e3, 1e3]], np.float32)})
    network = white(source)
    np.testing.assert_allclose(network(torch.as_tensor(X)), served(source)(X).scores, rtol=1e-4)


KINDS = {
    "double": (net(node("Identity", "z", "scores"), kind=TensorProto.DOUBLE), 1e-4),
    "half": (net(node("Identity", "z", "scores"), kind=TensorProto.FLOAT16), 1e-2),
    "half inside": (
        net(
            node("Cast", "z", "small", to=TensorProto.FLOAT16),
            node("Cast", "small", "scores", to=TensorProto.FLOAT),
        ),
        1e-2,
    ),
    "opset 7": (
        net(
            node("Unsqueeze", "z", "u", axes=[0]),
            node("Squeeze", "u", "s", axes=[0]),
            node("Pad", "s", "wide", pads=[0, 1, 0, 0], value=2.0),
            node("Slice", "wide", "narrow", axes=[1], starts=[1], ends=[4]),
            helper.make_node("Split", ["narrow"], ["left", "right"], axis=1, split=[1, 2]),
            node("Concat", "left right", "joined", axis=1),
            node("ReduceSum", "joined", "total", axes=[1], keepdims=1),
            node("Clip", "total", "some", min=-1.0, max=1.0),
            node("Add", "joined some", "scores"),
            opset=7,
        ),
        1e-4,
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_precisions_and_old_opsets_are_followed_in_float32(name):
    source, allowed = KINDS[name]
    network, want = white(source), served(source)(X).scores
    x = torch.tensor(X, requires_grad=True)
    scores, _ = network.graph(x)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.detach(), want, atol=allowed * max(1, np.abs(want).max()))
    (slope,) = torch.autograd.grad(scores.sum(), x)
    assert (slope.abs().amax(dim=1) > 0).all()


def test_half_precision_widens_the_check_and_does_not_drop_it():
    source = KINDS["half"][0]
    network, reason = white_box(source, lambda x: Outputs(served(source)(x).scores * 1.05), X)
    assert network is None
    assert "differ by" in reason


class Rows(CalibrationDataReader):
    def __init__(self):
        self.left = iter(np.split(X, 4))

    def get_next(self):
        rows = next(self.left, None)
        return None if rows is None else {"x": rows}


@pytest.mark.parametrize("form", ["qdq", "operators", "dynamic"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_eight_bit_files_are_attacked_white_box(form, tmp_path, caplog):
    weights = {"W2": W2}  # no surer than it needs to be, for eight bits hold little
    body = [node("MatMul", "x W1", "pre"), node("Relu", "pre", "hidden"), node("MatMul", "hidden W2", "scores")]
    exact, small = tmp_path / "exact.onnx", tmp_path / "small.onnx"
    exact.write_bytes(net(body=body, weights=weights))
    if form == "dynamic":
        quantize_dynamic(exact, small)
    else:
        quantize_static(exact, small, Rows(), quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator)
    source = small.read_bytes()
    assert any("Linear" in each.op_type for each in onnx.load_from_string(source).graph.node)
    reached, wanted = fooled(source, white(source)), fooled(exact.read_bytes(), white(exact.read_bytes()))
    assert reached >= wanted - 0.1
    assert wanted > 0.5


def stepped(*steps, kept="w", **weights):
    """The plain net on inputs in steps of 1 / 32: `steps` make whole numbers, `w`, of y = 32 x."""
    body = [node("Mul", "x grid", "y"), *steps, node("Div", f"{kept} grid", "v"), node("MatMul", "v W1", "pre")]
    body += [node("Relu", "pre", "hidden"), node("MatMul", "hidden W2", "scores")]
    return net(body=body, weights={"grid": scalar(32), **weights})


def whole(given, shown, to=TensorProto.INT32):
    return node("Cast", given, shown, to=to)


def real(given, shown):
    return whole(given, shown, TensorProto.FLOAT)


STEPPED = {
    "Floor": stepped(node("Floor", "y", "w")),
    "Ceil": stepped(node("Ceil", "y", "w")),
    "Round": stepped(node("Round", "y", "w")),
    "Cast": stepped(whole("y", "i"), real("i", "w")),
    "Cast twice": stepped(whole("y", "i", TensorProto.INT16), whole("i", "j", TensorProto.INT64), real("j", "w")),
    "Cast, arithmetic of whole numbers": stepped(
        whole("y", "i"),
        node("Add", "i three", "j"),
        node("Clip", "j low high", "k"),
        node("Sub", "k three", "l"),
        node("Unsqueeze", "l first", "m"),
        node("Concat", "m m", "n", axis=0),
        node("ReduceMax", "n", "o", axes=[0], keepdims=0),
        real("o", "w"),
        three=np.array(3, np.int32),
        low=np.array(-500, np.int32),
        high=np.array(500, np.int32),
        first=ints(0),
    ),
    "Cast, dequantised": stepped(
        whole("y", "i", TensorProto.INT8),
        node("DequantizeLinear", "i one zero", "w"),
        one=scalar(1),
        zero=np.array(0, np.int8),
    ),
    "Cast, also compared": stepped(
        whole("y", "i"),
        node("Less", "i none", "below"),
        node("Neg", "i", "negative"),
        node("Where", "below negative i", "size"),
        node("Where", "below size i", "again"),
        node("Neg", "again", "negated"),
        node("Where", "below negated again", "back"),
        real("back", "w"),
        none=np.array(0, np.int32),
    ),
}


@pytest.mark.parametrize("name", STEPPED)
def test_inputs_in_whole_steps_are_followed_as_if_they_were_not(name):
    source, smooth = STEPPED[name], white(stepped(node("Identity", "y", "w")))
    network = white(source)
    x = torch.tensor(X, requires_grad=True)
    scores, cast = network(x), network.graph.run(x)["v"]
    np.testing.assert_allclose(scores.detach(), served(source)(X).scores, rtol=1e-4, atol=1e-3)
    at = cast.detach().requires_grad_(True)  # the smooth net where the steps have put the input
    (mine,) = torch.autograd.grad(scores[:, 0].sum(), x)
    (wanted,) = torch.autograd.grad(smooth(at)[:, 0].sum(), at)
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-3)
    assert fooled(source, network) >= fooled(stepped(node("Identity", "y", "w")), smooth) - 0.1


def test_whole_numbers_that_are_indices_or_sizes_stay_whole():
    """The row of a table that a feature names, which is read as a number too, and sizes worked out of the input's."""
    source = stepped(
        node("Slice", "x start end last", "named"),
        node("Abs", "named", "size"),
        node("Clip", "size low high", "bounded"),
        whole("bounded", "index", TensorProto.INT64),
        node("Gather", "table index", "picked", axis=0),
        node("Squeeze", "picked last", "row"),
        real("index", "as_number"),
        node("Shape", "x", "sizes"),
        real("sizes", "real_sizes"),
        node("Mul", "real_sizes half", "halves"),
        node("Floor", "halves", "whole_halves"),
        node("Add", "whole_halves whole_halves", "doubled"),
        whole("doubled", "even", TensorProto.INT64),
        node("Reshape", "y even", "shaped"),
        node("Add", "shaped row", "added"),
        node("Add", "added as_number", "w"),
        start=ints(0),
        end=ints(1),
        last=ints(1),
        low=scalar(0),
        high=scalar(2),
        half=scalar(0.5),
        table=W1.T[:3].copy(),
    )
    even = X[: N - N % 2]
    network, reason = white_box(source, served(source), even[:2])
    assert reason == ""
    np.testing.assert_allclose(
        network(torch.as_tensor(even[:2])), served(source)(even[:2]).scores, rtol=1e-4, atol=1e-3
    )
    values = network.graph.run(torch.tensor(even[:2], requires_grad=True))
    assert values["index"].dtype == values["even"].dtype == torch.int64


def test_a_file_that_no_gradient_passes_is_refused_by_the_name_of_what_stops_it():
    source = stepped(whole("y", "i"), node("Div", "i three", "j"), real("j", "w"), three=np.array(3, np.int32))
    network, reason = white_box(source, served(source), X)
    assert network is None
    assert reason == "this model cannot be attacked white-box: no gradient passes Cast to whole numbers"


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(27, K)

    def forward(self, x):
        return self.head(nn.functional.adaptive_avg_pool2d(torch.relu(self.conv(x)), (3, 3)).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, self.head = kind(8, 5, batch_first=True, bidirectional=True), nn.Linear(10, K)

    def forward(self, x):
        return self.head(self.layer(x[:, 0])[0].mean(1))


class Masked(nn.Module):
    """Writes to where a condition holds, as op_norm of torchxrayvision does."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, K)

    def forward(self, x):
        scores = self.head(x.flatten(1))
        normed = torch.zeros_like(scores)
        above = scores > 0
        normed[above] = scores[above] * 2
        return torch.where(above, normed, scores - 1)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of torch, about itself
@pytest.mark.parametrize(
    "module", [Pooled(), Recurrent(nn.LSTM), Recurrent(nn.GRU), Masked()], ids=["pool", "lstm", "gru", "masked"]
)
def test_what_torch_exports_is_differentiated(module, tmp_path):
    from medward.guard.models.torch_model import module_to_onnx

    images = rng.random((5, 1, 8, 8), dtype=np.float32)
    path = tmp_path / "model.onnx"
    module_to_onnx(module.eval(), images, path)
    network = white(path.read_bytes(), images)
    x, theirs = (torch.tensor(images, requires_grad=True) for _ in range(2))
    (mine,) = torch.autograd.grad(network(x)[:, 0].sum(), x)
    (own,) = torch.autograd.grad(module(theirs)[:, 0].sum(), theirs)
    torch.testing.assert_close(mine, own, atol=1e-5, rtol=0)
    assert own.abs().max() > 1e-4
