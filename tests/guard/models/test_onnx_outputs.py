"""One rule for which output of an ONNX file is what, and one sentence where no rule can tell."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from medward.attacks.whitebox.onnx.to_torch import to_torch
from medward.guard import models
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

rng = np.random.default_rng(0)
X = rng.normal(size=(6, 5)).astype(np.float32)
WEIGHTS = {width: rng.normal(size=(5, width)).astype(np.float32) for width in (1, 2, 4)}
LABEL, SEQUENCE = "label", "sequence"


def spec(output="logits", classes=("a", "b")):
    return ModelSpec(name="m", modality="tabular", shape=(5,), task=Classification(classes=classes, output=output))


def file(folder, outputs):
    """Outputs by name: a width, 0 for one number a row, a label, or "softmax" of two columns; each another matrix."""
    nodes, infos, weights = [], [], []
    for i, (name, kind) in enumerate(outputs.items()):
        width = 2 if isinstance(kind, str) else max(kind, 1)
        weights.append(numpy_helper.from_array(WEIGHTS[width] * (i + 1), f"w{i}"))
        nodes.append(
            helper.make_node("MatMul", ["x", f"w{i}"], [f"{name}_raw" if kind in (0, LABEL, "softmax") else name])
        )
        if kind == LABEL:
            nodes.append(helper.make_node("ArgMax", [f"{name}_raw"], [name], axis=1, keepdims=0))
        elif kind == "softmax":
            nodes.append(helper.make_node("Softmax", [f"{name}_raw"], [name], axis=-1))
        elif kind == 0:
            nodes.append(helper.make_node("Flatten", [f"{name}_raw"], [f"{name}_flat"], axis=0))
            nodes.append(helper.make_node("Squeeze", [f"{name}_flat"], [name]))
        shape = ["n"] if kind in (0, LABEL) else ["n", width]
        infos.append(
            helper.make_tensor_value_info(name, TensorProto.INT64 if kind == LABEL else TensorProto.FLOAT, shape)
        )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])]
    graph = helper.make_graph(nodes, "g", inputs, infos, weights)
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.mark.parametrize(
    ("outputs", "output", "said", "scores", "features"),
    [
        ({"anything": 2}, "logits", None, "anything", None),
        ({"pooled": 4, "logits": 2}, "logits", None, "logits", None),
        ({"logits": 2, "pooled": 4}, "logits", "pooled", "logits", "pooled"),
        ({"features": 4, "output": 2}, "logits", None, "output", "features"),
        ({"logits": 2, "probabilities": "softmax"}, "logits", None, "logits", None),
        ({"logits": 2, "probabilities": "softmax"}, "probabilities", None, "probabilities", None),
        ({"probabilities": "softmax", "logits": 2}, "logits", None, "logits", None),
        ({"label": LABEL, "probabilities": "softmax"}, "probabilities", None, "probabilities", None),
        ({"label": LABEL, "probabilities": "softmax", "logits": 2}, "logits", None, "logits", None),
        ({"Logits": 2, "probs": "softmax"}, "probabilities", None, "probs", None),
        ({"output": 2, "embedding": 4}, "logits", None, "output", None),
        ({"embedding": 4, "output": 2}, "logits", "embedding", "output", "embedding"),
        ({"output": 2, "uncertainty": 1}, "logits", None, "output", None),
    ],
)
def test_the_guard_a_loaded_bundle_and_the_attacks_take_the_same_outputs(
    tmp_path, outputs, output, said, scores, features
):
    path = file(tmp_path, outputs)
    model = models.wrap(path, spec=spec(output), sample=X, features=said)
    assert (model.scores, model.features) == (scores, features)
    exported = model.export(tmp_path)
    loaded = models.load_model("model.onnx", model.data, spec=model.spec, options=exported.options, allow_code=False)
    assert (loaded.scores, loaded.features) == (scores, features)
    network = to_torch(tmp_path / "model.onnx", exported.options)
    assert (network.scores, network.features) == (scores, features)


@pytest.mark.parametrize("names", [{}, {"input": "x"}])
def test_a_card_without_names_is_read_as_a_file_is(tmp_path, names):
    data = Path(file(tmp_path, {"embedding": 4, "output": 2})).read_bytes()
    assert models.load_model("model.onnx", data, spec=spec(), options=names, allow_code=False).scores == "output"


@pytest.mark.parametrize(
    ("outputs", "said", "message"),
    [
        ({"scores": 0}, None, r"'scores' has one number per input, shape .*two classes, name both with --classes"),
        ({"scores": 1}, None, r"'scores' has one number per input.*if a quantity, say --task regression"),
        ({"risk": 0}, None, "'risk' has one number per input"),
        ({"scores": 0, "hidden": 2}, None, "'scores' has one number per input"),
        ({"label": LABEL}, None, "scores are a floating-point matrix.*label: tensor"),
        ({"left": 2, "right": 2}, None, "could all be the scores; choose one with --output-key, or name"),
        ({"scores": 2, "label": LABEL}, "label", "features must be floating-point numbers"),
    ],
)
def test_where_no_output_or_several_could_be_the_scores_the_remedy_is_named(tmp_path, outputs, said, message):
    path = file(tmp_path, outputs)
    with pytest.raises(MedwardError, match=message):
        models.wrap(path, spec=spec(), sample=X, features=said)


def test_the_output_that_is_chosen_is_served_and_attacked(tmp_path):
    path = file(tmp_path, {"left": 2, "right": 2})
    model = models.wrap(path, spec=spec(), sample=X, output_key="right")
    np.testing.assert_allclose(model.predict(X).scores, X @ WEIGHTS[2] * 2, rtol=1e-5)
    exported = model.export(tmp_path)
    assert models.as_served(model).scores == "right"
    assert to_torch(tmp_path / exported.file, exported.options).scores == "right"


@pytest.mark.parametrize(("key", "message"), [("absent", "no output named 'absent'"), ("label", "floating-point")])
def test_an_output_that_cannot_be_chosen_is_refused(tmp_path, key, message):
    with pytest.raises(MedwardError, match=message):
        models.wrap(file(tmp_path, {"scores": 2, "label": LABEL}), spec=spec(), sample=X, output_key=key)


@given(st.permutations(["pooled", "logits", "label", "extra"]))
def test_the_order_of_outputs_changes_nothing(tmp_path_factory, order):
    kinds = {"pooled": 4, "logits": 2, "label": LABEL, "extra": 2}
    path = file(tmp_path_factory.mktemp("order"), {name: kinds[name] for name in order})
    assert models.wrap(path, spec=spec(), sample=X, features="pooled").scores == "logits"
    assert models.describe_model(path) == {"shape": (5,), "classes": ("0", "1"), "columns": True}


IMAGES = rng.random((4, 3, 6, 5), dtype=np.float32)


def image_spec(shape=(3, 6, 5)):
    return ModelSpec(
        name="m", modality="image", shape=shape, task=Classification(classes=("a", "b"), output="logits"), low=0, high=1
    )


def image_file(folder, nodes, sizes, kind=TensorProto.FLOAT):
    weights = {
        "kernel": rng.normal(size=(2, 3, 3, 3)),
        "flat": rng.normal(size=(90, 2)),
        "channels": rng.normal(size=(3, 2)),
    }
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, sizes)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])],
        [each for each in stored if any(each.name in node.input for node in nodes)],
    )
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


TURN = helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2])


def conv(of):
    return [
        helper.make_node("Conv", [of, "kernel"], ["seen"]),
        helper.make_node("GlobalAveragePool", ["seen"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["scores"]),
    ]


CHANNELS_LAST = [TURN, *conv("first")]
FLATTENS = [helper.make_node("Flatten", ["x"], ["rows"]), helper.make_node("MatMul", ["rows", "flat"], ["scores"])]
AVERAGES = [
    helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
    helper.make_node("MatMul", ["mean", "channels"], ["scores"]),
]


@pytest.mark.parametrize(
    ("nodes", "sizes", "message"),
    [
        (
            CHANNELS_LAST,
            ["n", 6, 5, 3],
            r"takes rows of shape \(6, 5, 3\), the data's are \(3, 6, 5\); it takes channels",
        ),
        (CHANNELS_LAST, ["n", None, None, 3], r"takes rows of shape \(any, any, 3\).*perm = \[0, 2, 3, 1\] first"),
        (CHANNELS_LAST, ["n", "h", "w", "c"], r"runs on rows of shape \(6, 5, 3\) only, the data's are \(3, 6, 5\)"),
        (conv("x"), ["n", 3, 8, 8], r"takes rows of shape \(3, 8, 8\), the data's are \(3, 6, 5\); give rows"),
        (
            [helper.make_node("MatMul", ["x", "channels"], ["scores"])],
            ["n", 3],
            r"takes rows of shape \(3\), the data's are \(90\)",
        ),
        (FLATTENS, ["n", "a", "b", "c"], r"alike, with other answers; declare its sizes: python -m onnxruntime"),
    ],
)
def test_images_in_another_layout_are_refused_with_both_shapes_and_a_remedy(tmp_path, nodes, sizes, message):
    with pytest.raises(MedwardError, match=message) as refusal:
        models.wrap(image_file(tmp_path, nodes, sizes), spec=image_spec(), sample=IMAGES)
    assert "ONNXRuntimeError" not in str(refusal.value)


@pytest.mark.parametrize(
    ("nodes", "sizes"),
    [
        (conv("x"), ["n", 3, 6, 5]),
        (conv("x"), ["n", "c", "h", "w"]),
        (conv("x"), [1, 3, None, None]),
        (AVERAGES, ["n", "c", "h", "w"]),
        (FLATTENS, ["n", 3, 6, 5]),
    ],
)
def test_images_in_the_files_own_layout_are_served(tmp_path, nodes, sizes):
    assert (
        models.wrap(image_file(tmp_path, nodes, sizes), spec=image_spec(), sample=IMAGES).predict(IMAGES).scores.any()
    )


def test_the_remedy_for_channels_last_works(tmp_path):
    back = helper.make_node("Transpose", ["x"], ["last"], perm=[0, 2, 3, 1])
    turn = helper.make_node("Transpose", ["last"], ["first"], perm=[0, 3, 1, 2])
    path = image_file(tmp_path, [back, turn, *conv("first")], ["n", 3, None, None])
    assert models.wrap(path, spec=image_spec(), sample=IMAGES).predict(IMAGES).scores.any()


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT64])
def test_fractions_for_an_input_of_whole_numbers_are_refused_with_a_remedy(tmp_path, kind):
    cast = helper.make_node("Cast", ["x"], ["first"], to=TensorProto.FLOAT)
    path = image_file(tmp_path, [cast, *conv("first")], ["n", 3, 6, 5], kind)
    with pytest.raises(MedwardError, match=r"hold fractions such as .*give whole numbers"):
        models.wrap(path, spec=image_spec(), sample=IMAGES)


def test_a_file_that_fails_says_why_without_onnxruntimes_own_codes(tmp_path):
    nodes = [helper.make_node("Flatten", ["x"], ["rows"]), helper.make_node("MatMul", ["rows", "channels"], ["scores"])]
    with pytest.raises(MedwardError, match=r"does not run on rows of shape \(3, 6, 5\): .*MatMul") as refusal:
        models.wrap(image_file(tmp_path, nodes, ["n", "c", "h", "w"]), spec=image_spec(), sample=IMAGES)
    assert not re.search(r"ONNXRuntimeError|onnxruntime_src|\n", str(refusal.value))


def test_a_batch_size_hidden_inside_a_file_is_named(tmp_path):
    shape = numpy_helper.from_array(np.array([1, 90], np.int64), "shape")
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["rows"]),
        helper.make_node("MatMul", ["rows", "flat"], ["scores"]),
    ]
    path = image_file(tmp_path, nodes, ["n", 3, 6, 5])
    model = onnx.load(path)
    model.graph.initializer.append(shape)
    onnx.save(model, path)
    with pytest.raises(MedwardError, match=r"runs on one row but not on two.*declare a batch of 1"):
        models.wrap(path, spec=image_spec(), sample=IMAGES)
