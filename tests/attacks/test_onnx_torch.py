import io
import re
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from torch import nn

from medward.attacks.whitebox.onnx.logarithm import Unsaturated
from medward.attacks.whitebox.onnx.operators import UnsupportedOpError
from medward.attacks.whitebox.onnx.to_torch import Network, to_torch, white_box
from medward.guard import models
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs


class WithFeatures(nn.Module):
    """Scores and the last layer's input, as bundles export them."""

    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x):
        features = self.body(x)
        return self.head(features), features


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.batch, self.group = nn.BatchNorm2d(width), nn.GroupNorm(2, width)

    def forward(self, x):
        return torch.relu(x + self.group(self.second(torch.relu(self.batch(self.first(x))))))


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=4,
            num_channels=1,
            num_labels=3,
        )
        self.vit = ViTForImageClassification(config)

    def forward(self, x):
        answer = self.vit(x, output_hidden_states=True)
        return answer.logits, answer.hidden_states[-1][:, 0]


def cnn():
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2, ceil_mode=True), nn.Flatten())
    return WithFeatures(body, nn.Linear(4 * 16, 3))


def resnet():
    activations = (
        nn.Hardswish(),
        nn.GELU(),
        nn.SiLU(),
        nn.ELU(),
        nn.ReLU6(),
        nn.PReLU(),
        nn.Softplus(),
        nn.Tanh(),
    )
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.MaxPool2d(3, 2, 1),
        Block(8),
        nn.InstanceNorm2d(8, affine=True),
        nn.Upsample(scale_factor=2),
        nn.ZeroPad2d(1),
        *activations,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
    )
    return WithFeatures(body, nn.Linear(8, 3))


def exported(module, sample):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (sample,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            output_names=["scores", "features"],
            verbose=False,
        )
    program.save(file)
    return file.getvalue()


def deployed(source, output, rows):
    session = onnxruntime.InferenceSession(source)
    return session.run([output], {session.get_inputs()[0].name: rows})[0]


def served(source):
    return lambda rows: Outputs(deployed(source, "scores", rows), deployed(source, "features", rows))


@pytest.fixture(scope="module", params=[cnn, resnet, Vit])
def torch_model(request):
    torch.manual_seed(0)
    module = request.param().eval().requires_grad_(False)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    sample = torch.rand(5, 1, 16, 16)
    if request.param is cnn:
        sample = torch.rand(5, 1, 18, 18)
    return module, sample, exported(module, sample[:2])


def test_a_torch_export_gives_the_same_scores_features_and_input_gradients(torch_model):
    module, sample, source = torch_model
    network, reason = white_box(source, served(source), sample.numpy())
    assert reason == ""
    x, theirs = sample.clone().requires_grad_(True), sample.clone().requires_grad_(True)
    (scores, features), (wanted, wanted_features) = network.both(x), module(theirs)
    torch.testing.assert_close(scores, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(features, wanted_features, atol=1e-5, rtol=0)
    labels = wanted.argmax(dim=1)
    (mine,) = torch.autograd.grad(nn.functional.cross_entropy(scores, labels), x)
    (original,) = torch.autograd.grad(nn.functional.cross_entropy(wanted, labels), theirs)
    torch.testing.assert_close(mine, original, atol=1e-5, rtol=0)
    assert original.abs().max() > 1e-4


def test_weights_are_frozen_and_travel_with_the_module(torch_model):
    network = to_torch(torch_model[2])
    assert list(network.parameters()) == []
    assert not network.training
    assert any(weight.dtype == torch.float64 for weight in network.double().buffers())


def table(name):
    rows, labels = {"wdbc": load_breast_cancer, "iris": load_iris}[name](return_X_y=True)
    return rows.astype(np.float32), labels


def sklearn_export(estimator, name):
    rows, labels = table(name)
    model = make_pipeline(StandardScaler(), estimator).fit(rows, labels)
    return model, rows, to_onnx(model, rows[:1], options={id(model): {"zipmap": False}}).SerializeToString()


def plain_cnn():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4, affine=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    module[1].running_mean.normal_()
    module[1].running_var.uniform_(0.5, 2)
    return module.eval()


def test_a_protected_cnn_is_attacked_as_the_file_that_is_served_at_any_batch_size(tmp_path):
    images = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    spec = ModelSpec(
        name="m", modality="image", shape=(1, 8, 8), task=Classification(classes=("a", "b", "c"), output="logits")
    )
    models.wrap(plain_cnn(), spec=spec, sample=images, task="classification").export(tmp_path)
    file = str(tmp_path / "model.onnx")
    network, reason = white_box(file, served(file), images)
    assert reason == ""
    assert network.graph.batch is None
    for n in (1, 2, 5):
        scores, features = network.both(torch.as_tensor(images[:n]))
        np.testing.assert_allclose(scores.detach(), deployed(file, "scores", images[:n]), atol=1e-5)
        np.testing.assert_allclose(features.detach(), deployed(file, "features", images[:n]), atol=1e-5)


def fixed_batch(size, flatten_to):
    """Four features, a linear layer and a softmax; the graph's input is declared to hold `size` rows."""
    weights = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    stored = {"w": weights, "rows": np.array(flatten_to, np.int64)}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "rows"], ["features"]),
            helper.make_node("MatMul", ["features", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["scores"], axis=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, 1, 2, 2])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [size, 3]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [size, 4]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return weights, model.SerializeToString()


@pytest.mark.parametrize(
    ("size", "flatten_to", "batch"), [(3, (3, 4), 3), (1, (1, 4), 1), (6, (6, 4), 6), (3, (-1, 4), None)]
)
def test_a_graph_that_only_runs_on_one_batch_size_is_run_on_that(size, flatten_to, batch):
    weights, source = fixed_batch(size, flatten_to)
    rows = np.random.default_rng(3).normal(size=(6, 1, 2, 2)).astype(np.float32)
    want = rows.reshape(6, 4) @ weights

    def probabilities(x):
        return Outputs(torch.softmax(torch.as_tensor(x.reshape(-1, 4) @ weights), 1).numpy())

    network, reason = white_box(source, probabilities, rows)
    assert reason == ""
    assert network.graph.batch == batch
    for n in (1, 2, 3, 5, 6):
        x = torch.tensor(rows[:n], requires_grad=True)
        scores, features = network.both(x)
        np.testing.assert_allclose(scores.detach(), torch.log_softmax(torch.as_tensor(want[:n]), 1), atol=1e-5)
        np.testing.assert_allclose(features.detach(), rows[:n].reshape(n, 4))
        (slope,) = torch.autograd.grad(scores[:, 0].sum() - scores[:, 1].sum(), x)
        np.testing.assert_allclose(slope.reshape(n, 4), np.tile(weights[:, 0] - weights[:, 1], (n, 1)), atol=1e-5)


@pytest.mark.parametrize("name", ["wdbc", "iris"])
@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(max_iter=5000), MLPClassifier((8,), max_iter=2000, tol=1e-3, random_state=0)],
)
def test_a_scikit_learn_pipeline_gives_the_same_probabilities_and_unsaturated_scores(estimator, name):
    model, rows, source = sklearn_export(estimator, name)
    network, reason = white_box(source, lambda x: Outputs(deployed(source, "probabilities", x)), rows)
    assert reason == ""
    assert network.probabilities
    x = torch.as_tensor(rows)
    np.testing.assert_allclose(network(x).exp(), model.predict_proba(rows), atol=1e-4)
    far = (x + 40 * (x - x.mean(0))).requires_grad_(True)
    scores = network(far)
    (slope,) = torch.autograd.grad(scores.gather(1, scores.argmin(1, keepdim=True)).sum(), far)
    assert (slope.abs().amax(dim=1) > 0).all()
    assert float(network.graph(far.detach())[0].max()) == 1.0  # the file's own probabilities do saturate there


def test_the_log_domain_keeps_a_gradient_where_probabilities_lose_it():
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1, 2], [50.0, -50.0])
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["scores"], axis=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    graph = to_torch(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())
    x = torch.full((1, 1), 3.0, requires_grad=True)
    (slope,) = torch.autograd.grad(Network(graph, probabilities=True)(x)[0, 1], x)
    (lost,) = torch.autograd.grad(graph(x)[0][0, 1], x)
    assert float(slope) == pytest.approx(-100)
    assert float(lost) == 0


def test_other_preprocessing_is_followed():
    rows, labels = table("iris")
    model = make_pipeline(MinMaxScaler(), Normalizer(), LogisticRegression()).fit(rows, labels)
    source = to_onnx(model, rows[:1], options={id(model): {"zipmap": False}}).SerializeToString()
    network, reason = white_box(source, lambda x: Outputs(deployed(source, "probabilities", x)), rows)
    assert reason == ""
    np.testing.assert_allclose(network(torch.as_tensor(rows)).exp(), model.predict_proba(rows), atol=1e-4)


def test_a_forest_is_refused_by_the_name_of_its_operator():
    _, rows, source = sklearn_export(RandomForestClassifier(3), "iris")
    with pytest.raises(UnsupportedOpError, match=r"ai\.onnx\.ml\.TreeEnsembleClassifier"):
        to_torch(source)
    network, reason = white_box(source, lambda x: Outputs(deployed(source, "probabilities", x)), rows)
    assert network is None
    assert "TreeEnsembleClassifier" in reason


def test_a_network_that_disagrees_with_the_deployed_model_is_not_handed_out():
    _, rows, source = sklearn_export(LogisticRegression(max_iter=5000), "iris")
    network, reason = white_box(source, lambda x: Outputs(deployed(source, "probabilities", x) + 0.01), rows)
    assert network is None
    assert "differ by 0.01" in reason
    network, reason = white_box(source, lambda x: Outputs(np.zeros((len(x), 2))), rows)
    assert network is None
    assert "shape" in reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [(lambda f: f + 0.01, "features of torch .* differ by 0.01"), (lambda f: f[:, :3], "features of shape")],
)
def test_features_that_disagree_with_the_deployed_ones_are_not_handed_out(change, reason):
    weights, source = fixed_batch(3, (-1, 4))
    rows = np.random.default_rng(3).random((6, 1, 2, 2), np.float32)

    def reference(x):
        flat = x.reshape(-1, 4)
        return Outputs(torch.softmax(torch.as_tensor(flat @ weights), 1).numpy(), change(flat))

    network, why = white_box(source, reference, rows)
    assert network is None
    assert re.search(reason, why)


def test_a_log_domain_that_decides_otherwise_is_not_handed_out(monkeypatch):
    _, rows, source = sklearn_export(LogisticRegression(max_iter=5000), "iris")
    monkeypatch.setattr(Unsaturated, "log", lambda self, name: -self.values[name].log())
    network, reason = white_box(source, lambda x: Outputs(deployed(source, "probabilities", x)), rows)
    assert network is None
    assert reason.startswith("log-domain scores of torch and the deployed model differ")


def test_resizing_with_antialias_is_refused():
    constants = (None, np.array([1, 1, 0.5, 0.5], np.float32))
    source = single("Resize", IMAGE, {"mode": "linear", "antialias": 1}, constants)
    with pytest.raises(UnsupportedOpError, match="antialias"):
        to_torch(source).run(torch.as_tensor(IMAGE))


def test_broken_and_old_files_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(MedwardError, match=r"model\.onnx: not a readable ONNX model"):
        to_torch(tmp_path / "model.onnx")
    model = onnx.load_from_string(sklearn_export(LogisticRegression(), "iris")[2])
    for opset in model.opset_import:
        opset.version = 6 if opset.domain == "" else opset.version
    with pytest.raises(UnsupportedOpError, match="opset 6 is too old"):
        to_torch(model.SerializeToString())


def test_weights_outside_the_file_are_no_network(tmp_path):
    _, source = fixed_batch(3, (-1, 4))
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load_from_string(source), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    network, reason = white_box(path, lambda x: Outputs(np.zeros((len(x), 3))), np.zeros((3, 1, 2, 2), np.float32))
    assert network is None
    assert "weights lie outside the file" in reason


def test_functions_inside_a_file_are_opened():
    weights = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    twice = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Twice", ["z"], ["scores"], domain="mine")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    source = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=9).SerializeToString()
    rows = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    network, reason = white_box(source, lambda x: Outputs(deployed(source, "scores", x)), rows)
    assert reason == ""
    np.testing.assert_allclose(network(torch.as_tensor(rows)), 2 * rows @ weights, atol=1e-5)


def single(op, inputs, attributes, constants=(), opset=18):
    """A graph of one node on `inputs`; further inputs are constants."""
    names = ["x", *(f"c{i}" if c is not None else "" for i, c in enumerate(constants))]
    stored = [onnx.numpy_helper.from_array(c, f"c{i}") for i, c in enumerate(constants) if c is not None]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["scores"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(inputs.shape))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return model.SerializeToString()


def ints(*values):
    return np.array(values, np.int64)


IMAGE = np.random.default_rng(0).normal(size=(2, 4, 7, 6)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(6, 2, 3, 3)).astype(np.float32)
FOUR = np.linspace(0.5, 2, 4).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "attributes", "constants"),
    [
        ("Conv", {"group": 2, "strides": [2, 1], "pads": [0, 1, 2, 1]}, (KERNEL,)),
        ("Conv", {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 2]}, (KERNEL, np.ones(6, np.float32))),
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, ()),
        ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]}, ()),
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, ()),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, ()),
        ("GlobalMaxPool", {}, ()),
        ("GlobalAveragePool", {}, ()),
        ("BatchNormalization", {"epsilon": 1e-3}, (FOUR, FOUR, -FOUR, FOUR)),
        ("LayerNormalization", {"axis": 2}, (np.ones((7, 6), np.float32),)),
        ("InstanceNormalization", {}, (FOUR, -FOUR)),
        ("Slice", {}, (ints(-1, 1), ints(-100, 5), ints(2, 3), ints(-2, 1))),
        ("Gather", {"axis": 1}, (ints(-1, 0, 2),)),
        ("Pad", {"mode": "reflect"}, (ints(0, 0, 1, 2, 0, 0, 2, 1),)),
        ("Pad", {}, (ints(1, 2), np.float32(3), ints(-1))),
        ("Clip", {}, (np.float32(-0.5), None)),
        ("Clip", {}, (np.float32(-0.5), np.float32(0.5))),
        ("ReduceSum", {"keepdims": 0}, (ints(1, 3),)),
        ("ReduceMean", {}, (ints(-1),)),
        ("ReduceMax", {}, ()),
        ("ReduceProd", {"keepdims": 0}, (ints(1, -1),)),
        ("ReduceL2", {}, (ints(1),)),
        ("Transpose", {"perm": [0, 2, 3, 1]}, ()),
        ("Flatten", {"axis": 2}, ()),
        ("Reshape", {}, (ints(0, -1, 6),)),
        ("Expand", {}, (ints(3, 2, 1, 1, 1),)),
        ("Unsqueeze", {}, (ints(0, -1),)),
        ("Tile", {}, (ints(1, 2, 1, 3),)),
        ("Resize", {"mode": "linear"}, (None, np.array([1, 1, 2, 2], np.float32))),
        ("LeakyRelu", {"alpha": 0.2}, ()),
        ("HardSigmoid", {}, ()),
        ("Selu", {}, ()),
        ("PRelu", {}, (FOUR.reshape(4, 1, 1),)),
        ("LogSoftmax", {"axis": 1}, ()),
        ("GatherND", {"batch_dims": 1}, (ints(3, -6, 0, 1).reshape(2, 1, 2),)),
        ("GatherElements", {"axis": 2}, (np.array([6, -7, 3] * 16, np.int64).reshape(2, 4, 3, 2),)),
        ("ScatterND", {"reduction": "add"}, (ints(1, 2, -1).reshape(1, 3), FOUR[:1, None].repeat(6, 1))),
        ("ScatterElements", {"axis": 1}, (ints(-1, 2).reshape(1, 2, 1, 1), FOUR[:2].reshape(1, 2, 1, 1))),
        ("CumSum", {"exclusive": 1, "reverse": 1}, (np.int64(2),)),
        ("Trilu", {"upper": 0}, (np.int64(1),)),
        ("Mod", {"fmod": 1}, (np.float32(0.7),)),
        ("Einsum", {"equation": "nchw->nwc"}, ()),
        ("LpNormalization", {"p": 1, "axis": 1}, ()),
        ("ReduceL1", {}, (ints(1, 2),)),
        ("ReduceLogSumExp", {"keepdims": 0}, (ints(1),)),
        ("ReduceSumSquare", {}, (ints(3),)),
        ("Sum", {}, (FOUR.reshape(4, 1, 1), np.float32(3))),
        ("Mean", {}, (FOUR.reshape(4, 1, 1), np.float32(3))),
        ("Celu", {"alpha": 0.5}, ()),
        ("Softsign", {}, ()),
        ("ThresholdedRelu", {"alpha": 0.3}, ()),
        ("LRN", {"size": 3, "bias": 2.0}, ()),
        ("DepthToSpace", {"blocksize": 2}, ()),
        ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, ()),
        ("ConvTranspose", {"strides": [2, 2], "output_padding": [1, 0]}, (KERNEL[:4],)),
        ("Resize", {}, (None, np.array([1, 1, 1.5, 0.5], np.float32))),
        ("Resize", {"mode": "linear", "axes": [3]}, (None, None, ints(9))),
        (
            "Resize",
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            (None, None, ints(2, 4, 3, 11)),
        ),
    ],
)
def test_each_operator_equals_the_deployed_runtime(op, attributes, constants):
    source = single(op, IMAGE, attributes, constants)
    mine = to_torch(source).run(torch.as_tensor(IMAGE))["scores"]
    np.testing.assert_allclose(mine, deployed(source, "scores", IMAGE), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize(
    ("op", "opset", "attributes", "constants"),
    [
        ("Softmax", 11, {}, ()),
        ("Softmax", 12, {"axis": 2}, ()),
        ("LogSoftmax", 9, {"axis": 3}, ()),
        ("Clip", 10, {"max": 0.5}, ()),
        ("Pad", 10, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 2.0}, ()),
        ("Slice", 9, {"axes": [2, 3], "starts": [1, -4], "ends": [100, -1]}, ()),
        ("Squeeze", 11, {}, ()),
        ("Unsqueeze", 11, {"axes": [0, 5]}, ()),
        ("ReduceSum", 12, {"axes": [1, 3]}, ()),
        ("Upsample", 9, {"mode": "nearest"}, (np.array([1, 1, 2, 3], np.float32),)),
        ("Upsample", 7, {"mode": "linear", "scales": [1.0, 1.0, 2.0, 2.0]}, ()),
        ("Resize", 10, {"mode": "linear"}, (np.array([1, 1, 2, 1.5], np.float32),)),
        ("BatchNormalization", 8, {}, (FOUR, FOUR, -FOUR, FOUR)),
    ],
)
def test_each_old_form_of_an_operator_equals_the_deployed_runtime(op, opset, attributes, constants):
    source = single(op, IMAGE, attributes, constants, opset)
    mine = to_torch(source).run(torch.as_tensor(IMAGE))["scores"]
    np.testing.assert_allclose(mine, deployed(source, "scores", IMAGE), atol=2e-6, rtol=2e-6)
