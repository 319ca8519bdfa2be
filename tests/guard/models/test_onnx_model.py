from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from medward.guard import models
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SPEC = ModelSpec(name="m", modality="tabular", shape=(64,), task=Classification(classes=("a", "b"), output="logits"))
X = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(64, 2)).astype(np.float32)


def graph(outputs=("scores",), kind=TensorProto.FLOAT):
    weights = numpy_helper.from_array(W.astype(helper.tensor_dtype_to_np_dtype(kind)), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], [name]) for name in outputs]
    shapes = [helper.make_tensor_value_info(name, kind, ["n", 2]) for name in outputs]
    inputs = [helper.make_tensor_value_info("x", kind, ["n", 64])]
    made = helper.make_graph(nodes, "g", inputs, shapes, [weights])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(folder, model, **options):
    path = folder / "m.onnx"
    onnx.save(model, path, **options)
    return path


def test_scores_are_the_graphs(tmp_path):
    model = models.wrap(write(tmp_path, graph(("out",))), spec=SPEC, sample=X)
    np.testing.assert_allclose(model.predict(X).scores, X @ W, rtol=1e-5, atol=1e-5)
    assert models.infer_spec(tmp_path / "m.onnx", sample=X, output="logits").classes == ("0", "1")


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_float_types_are_fed_as_they_are(tmp_path, kind):
    model = models.wrap(write(tmp_path, graph(kind=kind)), spec=SPEC, sample=X)
    np.testing.assert_allclose(model.predict(X).scores, X @ W, rtol=0.05, atol=0.05)
    assert model.predict(X).scores.dtype in (np.float32, np.float64)


def test_weights_outside_the_file_are_taken_in_when_it_is_protected_and_refused_when_served(tmp_path, monkeypatch):
    own = models.wrap(write(tmp_path, graph()), spec=SPEC, sample=X).predict(X).scores
    path = write(tmp_path, graph(), save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)  # where onnxruntime would look
    np.testing.assert_array_equal(models.as_served(models.wrap(path, spec=SPEC, sample=X)).predict(X).scores, own)
    data = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(MedwardError, match="weights lie outside the file"):
        models.load_model("model.onnx", data, spec=SPEC, options={}, allow_code=False)


def test_corrupt_files_are_one_sentence(tmp_path):
    path = tmp_path / "m.onnx"
    for data in (b"", b"garbage", graph().SerializeToString()[:-40]):
        path.write_bytes(data)
        with pytest.raises(MedwardError, match=r"m\.onnx"):
            models.wrap(path, spec=SPEC, sample=X)
    with pytest.raises(MedwardError, match="cannot read the model"):
        models.wrap(tmp_path / "absent.onnx", spec=SPEC, sample=X)


def test_several_outputs_need_a_usual_name(tmp_path):
    with pytest.raises(MedwardError, match="name the score output one of"):
        models.wrap(write(tmp_path, graph(("left", "right"))), spec=SPEC, sample=X)
    model = models.wrap(write(tmp_path, graph(("left", "logits"))), spec=SPEC, sample=X, features="left")
    assert model.spec.features == 2
    with pytest.raises(MedwardError, match="no output named 'absent'"):
        models.wrap(tmp_path / "m.onnx", spec=SPEC, sample=X, features="absent")


def test_one_thread_per_call(tmp_path):
    model = models.wrap(write(tmp_path, graph()), spec=SPEC, sample=X)
    assert model.session.get_session_options().intra_op_num_threads == 1


def test_recorded_names_must_exist(tmp_path):
    data = graph().SerializeToString()
    with pytest.raises(MedwardError, match="no output named 'other'"):
        models.load_model("model.onnx", data, spec=SPEC, options={"input": "x", "scores": "other"}, allow_code=False)
