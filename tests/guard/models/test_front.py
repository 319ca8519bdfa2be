"""What stands before a model's first layer: every kind of model answers its own ``(x - mean) / std``, reshaped."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from torch import nn

from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard import models
from medward.guard.errors import MedwardError
from medward.guard.models.front import as_model_takes, normalisation
from medward.guard.models.onnx_front import read_graph
from medward.guard.preparation import Preparation
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

TASK = Classification(classes=("a", "b"), output="logits")
ROWS = 24
rng = np.random.default_rng(0)
IMAGES, SIGNALS = rng.random((ROWS, 3, 8, 8), np.float32), rng.random((ROWS, 1, 3, 20), np.float32)
VOLUMES, TABLE = rng.random((ROWS, 2 * 4, 6, 6), np.float32), rng.random((ROWS, 3), np.float32)
MEAN, STD = (0.2, 0.5, 0.9), (0.1, 0.5, 2.0)


def spec_of(rows: np.ndarray, mean: tuple = (), std: tuple = (), sent: tuple | None = None) -> ModelSpec:
    return ModelSpec(
        name="m",
        modality="image" if rows.ndim == 4 else "tabular",
        shape=rows.shape[1:],
        task=TASK,
        low=0,
        high=1,
        sent=sent,
        prepare=Preparation(mean=mean, std=std),
    )


CASES = {
    "image": (IMAGES, spec_of(IMAGES, MEAN, STD), lambda x: (x - col(MEAN, 2)) / col(STD, 2)),
    "image, one for all": (IMAGES, spec_of(IMAGES, (0.4,), (0.2,)), lambda x: (x - 0.4) / 0.2),
    "signal": (
        SIGNALS,
        spec_of(SIGNALS, MEAN, STD, (3, 20)),
        lambda x: (x.reshape(-1, 3, 20) - col(MEAN, 1)) / col(STD, 1),
    ),
    "volume": (
        VOLUMES,
        spec_of(VOLUMES, MEAN[:2], STD[:2], (2, 4, 6, 6)),
        lambda x: (x.reshape(-1, 2, 4, 6, 6) - col(MEAN[:2], 3)) / col(STD[:2], 3),
    ),
    "volume as it is": (VOLUMES, spec_of(VOLUMES, (), (), (2, 4, 6, 6)), lambda x: x.reshape(-1, 2, 4, 6, 6)),
    "table": (TABLE, spec_of(TABLE, MEAN, STD), lambda x: (x - np.array(MEAN)) / np.array(STD)),
}


def col(values: tuple, axes: int) -> np.ndarray:
    return np.array(values).reshape(-1, *[1] * axes)


def network(spec: ModelSpec, seed: int = 0) -> nn.Module:
    """Takes rows of the model's own shape, tells channels apart, and has layers of the rank of these."""
    torch.manual_seed(seed)
    axes, channels = len(spec.row_shape) - 1, spec.row_shape[0]
    if axes == 0:
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
    pool = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[axes]
    return nn.Sequential(conv(channels, 4, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def own(net: nn.Module, rows: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.tensor(rows, dtype=torch.float32)).numpy()


def file_of(net: nn.Module, rows: np.ndarray, path: Path) -> str:
    """The module as the user exports it: it takes rows of its own shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            net,
            (torch.tensor(rows[:2], dtype=torch.float32),),
            str(path),
            dynamo=False,
            input_names=["x"],
            output_names=["scores"],
            dynamic_axes={"x": {0: "n"}, "scores": {0: "n"}},
        )
    return str(path)


def given_as(kind: str, net: nn.Module, rows: np.ndarray, folder: Path) -> object:
    if kind == "torch":
        return net
    if kind == "TorchScript":
        return torch.jit.trace(net, torch.tensor(rows[:2], dtype=torch.float32))
    if kind == "ONNX":
        return file_of(net, rows, folder / "m.onnx")
    name = f"front_{folder.name}".replace("-", "_")
    torch.save(net, folder / "net.pt")
    (folder / f"{name}.py").write_text(
        f"import torch\nnet = torch.load({str(folder / 'net.pt')!r}, weights_only=False)\n"
        "def score(batch):\n    with torch.no_grad():\n"
        "        return net(torch.tensor(batch, dtype=torch.float32)).numpy()\n"
    )
    sys.path.insert(0, str(folder))
    return f"{name}:score"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["torch", "TorchScript", "ONNX", "function"])
@pytest.mark.parametrize("case", CASES)
def test_the_bundle_answers_as_the_model_does_behind_its_front(case, kind, tmp_path):
    rows, spec, front = CASES[case]
    net, taken = network(spec), front(rows)
    wanted = own(net, taken)
    model = models.wrap(given_as(kind, net, taken, tmp_path), spec=spec, sample=rows, task="classification")
    served = models.as_served(model)
    for each in (model, served):
        np.testing.assert_allclose(each.predict(rows).scores, wanted, rtol=0, atol=1e-5)
    assert np.abs(wanted - own(net, taken + 0.1)).max() > 1e-3  # what stands before it matters
    if kind != "function":
        assert served.session.get_inputs()[0].shape[1:] == [*spec.shape]
        found, reason = white_box(served.data, served.predict, rows, spec=spec)
        assert found is not None, reason
        x = torch.tensor(rows[:2], requires_grad=True)
        found(x).sum().backward()
        assert float(x.grad.abs().max()) > 0


@given(
    channels=st.integers(1, 4),
    slices=st.integers(1, 3),
    one=st.booleans(),
    values=st.lists(st.floats(0.1, 3), min_size=8, max_size=8),
)
@settings(max_examples=40, deadline=None)
def test_slices_of_a_channel_are_normalised_alike(channels, slices, one, values):
    n = 1 if one else channels
    mean, std = tuple(values[:n]), tuple(values[4 : 4 + n])
    rows = np.arange(2 * channels * slices * 6, dtype=np.float64).reshape(2, channels * slices, 2, 3)
    spec = spec_of(rows, mean, std, (channels, slices, 2, 3))
    wanted = (rows.reshape(2, channels, slices, 2, 3) - col(mean, 3)) / col(std, 3)
    np.testing.assert_allclose(as_model_takes(rows, spec), wanted)


def test_nothing_stands_before_a_model_of_which_nothing_is_said(tmp_path):
    spec, rows = spec_of(IMAGES), IMAGES
    assert normalisation(spec) is None
    path = Path(file_of(network(spec), rows, tmp_path / "m.onnx"))
    assert models.wrap(str(path), spec=spec, sample=rows, task="classification").data == path.read_bytes()


@pytest.mark.parametrize(
    ("rows", "mean", "sent", "words"),
    [
        (IMAGES, (0.1, 0.2), None, "3 channels, got 2"),
        (SIGNALS, (0.1, 0.2), (3, 20), "3 leads, got 2"),
        (VOLUMES, MEAN, (2, 4, 6, 6), "2 channels, got 3"),
        (TABLE, (0.1, 0.2), None, "3 columns, got 2"),
    ],
)
def test_a_mean_of_other_channels_is_refused(rows, mean, sent, words):
    spec = spec_of(rows, mean, mean, sent)
    with pytest.raises(MedwardError, match=words):
        models.wrap(nn.Identity(), spec=spec, sample=rows)


def test_an_estimator_is_not_normalised_for():
    fitted = LogisticRegression().fit(TABLE, np.arange(ROWS) % 2)
    spec = replace(spec_of(TABLE, MEAN, STD), task=replace(TASK, output="probabilities"))
    with pytest.raises(MedwardError, match="Pipeline"):
        models.wrap(fitted, spec=spec, sample=TABLE)


@pytest.mark.parametrize("again", ["a bundle's file", "a front that was put"])
def test_a_file_that_normalises_is_not_normalised_twice(again, tmp_path):
    rows, spec, front = CASES["image"]
    net = network(spec)
    x = net if again == "a bundle's file" else file_of(net, rows, tmp_path / "m.onnx")
    served = models.as_served(models.wrap(x, spec=spec, sample=rows, task="classification"))
    (tmp_path / "n.onnx").write_bytes(served.data)
    with pytest.raises(MedwardError, match="normalises its rows itself"):
        models.wrap(str(tmp_path / "n.onnx"), spec=spec, sample=rows)
    plain = replace(spec, prepare=Preparation())
    found = models.wrap(str(tmp_path / "n.onnx"), spec=plain, sample=rows, task="classification").predict(rows).scores
    np.testing.assert_allclose(found, own(net, front(rows)), rtol=0, atol=1e-5)


def whole_file(folder: Path, kind: int, opset: int = 17) -> str:
    """Scores of a table of whole numbers: their sum and its negative."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["scores"]),
    ]
    weights = np.array([[1, -1], [2, -2], [-3, 3]], np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    (folder / "w.onnx").write_bytes(model.SerializeToString())
    return str(folder / "w.onnx")


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT64, TensorProto.INT32, TensorProto.INT8])
def test_whole_number_inputs_are_rounded_to_and_attacked_by_gradient(kind, opset, tmp_path):
    rows = rng.integers(0, 100, (ROWS, 3)).astype(np.float32)
    spec = replace(spec_of(rows), high=100)
    path = whole_file(tmp_path, kind, opset)
    session = onnxruntime.InferenceSession(path)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    served = models.as_served(models.wrap(path, spec=spec, sample=rows))
    for x in (rows, rows * 0.737):
        wanted = session.run(None, {"x": np.rint(x).astype(dtype)})[0]
        np.testing.assert_array_equal(served.predict(x).scores, wanted)
    network_found, reason = white_box(served.data, served.predict, rows, spec=spec)
    assert network_found is not None, reason
    x = torch.tensor(rows[:2], requires_grad=True)
    network_found(x)[:, 0].sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[1, 2, -3]] * 2)


@pytest.mark.parametrize(
    ("rows", "change", "words"),
    [
        (TABLE, {}, "hold fractions"),
        (np.ones((ROWS, 3), np.float32), {"low": None, "high": None}, "would wrap around"),
        (np.ones((ROWS, 3), np.float32), {"high": 300}, "0 to 255; the range said is 0 to 300"),
        (np.ones((ROWS, 3), np.float32), {"prepare": Preparation(mean=(0.5,), std=(0.5,))}, "leave them out"),
    ],
)
def test_what_a_file_of_bytes_cannot_take_is_refused(rows, change, words, tmp_path):
    with pytest.raises(MedwardError, match=words):
        models.wrap(whole_file(tmp_path, TensorProto.UINT8), spec=replace(spec_of(rows), **change), sample=rows)


def test_weights_beside_a_file_are_taken_in(tmp_path):
    rows = np.ones((ROWS, 3), np.float32)
    path = Path(whole_file(tmp_path, TensorProto.INT64))
    wanted = onnxruntime.InferenceSession(str(path)).run(None, {"x": rows.astype(np.int64)})[0]
    onnx.save_model(onnx.load(path), str(path), save_as_external_data=True, location="w.data", size_threshold=0)
    assert (tmp_path / "w.data").is_file()
    data = read_graph(path)
    (tmp_path / "w.data").unlink()
    np.testing.assert_array_equal(onnxruntime.InferenceSession(data).run(None, {"x": rows.astype(np.int64)})[0], wanted)
    with pytest.raises(MedwardError, match="weights lie in other files"):
        read_graph(path)
    with pytest.raises(MedwardError, match="weights lie outside the file"):  # what is served reads nothing beside it
        models.load_model("model.onnx", path.read_bytes(), spec=spec_of(rows), options={}, allow_code=False)
