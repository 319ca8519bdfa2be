"""One table for every adapter: what any wrapped model, and the file it becomes, must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from medward.guard import models
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

ROWS = 12
rng = np.random.default_rng(0)
IMAGES = rng.random((ROWS, 1, 16, 16), dtype=np.float32)
TABLE = rng.normal(size=(120, 5)).astype(np.float32)
LABELS = (TABLE[:, 0] + TABLE[:, 1] > 0).astype(int) + (TABLE[:, 2] > 1)
SCORER = rng.normal(size=(5, 3)).astype(np.float32)


class Wrapped(NamedTuple):
    model: models.WrappedModel
    written: models.WrappedModel
    file: str
    sample: np.ndarray
    features: int


def image_spec(classes: int) -> ModelSpec:
    names = tuple(f"class {k}" for k in range(classes))
    return ModelSpec(
        name="m",
        modality="image",
        shape=(1, 16, 16),
        task=Classification(classes=names, output="logits"),
        low=0,
        high=1,
    )


def table_spec(output: Any) -> ModelSpec:
    return ModelSpec(
        name="m", modality="tabular", shape=(5,), task=Classification(classes=("a", "b", "c"), output=output)
    )


def cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def vit() -> nn.Module:
    torch.manual_seed(0)
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=16,
            patch_size=8,
            num_channels=1,
            num_labels=3,
        )
    )


def resnet() -> nn.Module:
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=2, layer_type="basic"
    )
    return ResNetForImageClassification(config)


def onnx_file(folder: Path, batch: int | str) -> str:
    """scores = input @ w, features = relu(input), with a dynamic or a fixed batch."""
    weights = numpy_helper.from_array(SCORER, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["out"]), helper.make_node("Relu", ["x"], ["features"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 5])],
        [
            helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 5]),
        ],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


def scorer(batch: np.ndarray) -> np.ndarray:
    return batch @ SCORER


def fitted(estimator: Any) -> Any:
    return estimator.fit(TABLE, LABELS)


CASES = {
    "torch": lambda _: (cnn(), image_spec(3), None, "model.onnx", 16),
    "torch named layer": lambda _: (cnn(), image_spec(3), "3", "model.onnx", 16),
    "torch without linear": lambda _: (
        nn.Sequential(nn.Conv2d(1, 3, 16), nn.Flatten()),
        image_spec(3),
        None,
        "model.onnx",
        0,
    ),
    "hugging face vit": lambda _: (vit(), image_spec(3), None, "model.onnx", 16),
    "hugging face resnet": lambda _: (resnet(), image_spec(2), None, "model.onnx", 8),
    "scikit-learn pipeline": lambda _: (
        fitted(make_pipeline(StandardScaler(), LogisticRegression())),
        table_spec("probabilities"),
        None,
        "model.onnx",
        0,
    ),
    "scikit-learn forest": lambda _: (
        fitted(RandomForestClassifier(5, random_state=0)),
        table_spec("probabilities"),
        None,
        "model.onnx",
        0,
    ),
    "scikit-learn hist gradient boosting": lambda _: (
        fitted(HistGradientBoostingClassifier(max_iter=3)),
        table_spec("probabilities"),
        None,
        "model.skops",
        0,
    ),
    "onnx": lambda folder: (onnx_file(folder, "n"), table_spec("logits"), None, "model.onnx", 5),
    "onnx fixed batch": lambda folder: (onnx_file(folder, 4), table_spec("logits"), None, "model.onnx", 5),
    "callable": lambda _: (scorer, table_spec("logits"), None, "entrypoint.json", 0),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Wrapped:
    folder = tmp_path_factory.mktemp("case")
    x, spec, features, file, width = CASES[request.param](folder)
    sample = IMAGES if spec.modality == "image" else TABLE[:ROWS]
    model = models.wrap(x, spec=spec, sample=sample, features=features, task="classification")
    out = folder / "out"
    out.mkdir()
    exported = model.export(out)
    assert [each.name for each in out.iterdir()] == [exported.file]
    assert exported.file == file
    data = (out / exported.file).read_bytes()
    written = models.load_model(exported.file, data, spec=model.spec, options=exported.options, allow_code=True)
    return Wrapped(model, written, file, sample, width)


def both(case: Wrapped) -> tuple[models.WrappedModel, models.WrappedModel]:
    return case.model, case.written


def test_shapes_and_dtypes(case: Wrapped) -> None:
    for model in both(case):
        outputs = model.predict(case.sample)
        assert outputs.scores.shape == (ROWS, len(model.spec.classes))
        assert outputs.scores.dtype in (np.float32, np.float64)
        assert model.spec.features == case.features
        if case.features:
            assert outputs.features is not None
            assert outputs.features.shape == (ROWS, case.features)
        else:
            assert outputs.features is None


def test_scores_depend_on_the_input(case: Wrapped) -> None:
    assert np.ptp(case.model.predict(case.sample).scores, axis=0).max() > 1e-3


def test_deterministic(case: Wrapped) -> None:
    for model in both(case):
        np.testing.assert_array_equal(model.predict(case.sample).scores, model.predict(case.sample).scores)


def test_a_row_does_not_depend_on_its_batch(case: Wrapped) -> None:
    for model in both(case):
        whole = model.predict(case.sample)
        for n in range(1, 8):
            part = model.predict(case.sample[:n])
            np.testing.assert_allclose(part.scores, whole.scores[:n], rtol=0, atol=1e-6)
            if whole.features is not None:
                np.testing.assert_allclose(part.features, whole.features[:n], rtol=0, atol=1e-6)


def test_export_equals_the_original(case: Wrapped) -> None:
    original, written = case.model.predict(case.sample), case.written.predict(case.sample)
    np.testing.assert_allclose(written.scores, original.scores, rtol=0, atol=1e-5)
    if original.features is not None:
        np.testing.assert_allclose(written.features, original.features, rtol=0, atol=1e-5)


def test_what_was_loaded_can_be_exported_again(case: Wrapped, tmp_path: Path) -> None:
    again = case.written.export(tmp_path)
    data = (tmp_path / again.file).read_bytes()
    model = models.load_model(again.file, data, spec=case.model.spec, options=again.options, allow_code=True)
    np.testing.assert_array_equal(model.predict(case.sample).scores, case.written.predict(case.sample).scores)


def test_threads_get_their_own_rows(case: Wrapped) -> None:
    from concurrent.futures import ThreadPoolExecutor

    rows = [case.sample[i : i + 1] for i in range(ROWS)]
    for model in both(case):
        alone = [model.predict(row) for row in rows]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(model.predict, rows * 3))
        for got, want in zip(together, alone * 3, strict=True):
            np.testing.assert_array_equal(got.scores, want.scores)
            if want.features is not None:
                np.testing.assert_array_equal(got.features, want.features)
