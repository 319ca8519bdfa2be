from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from medward.guard import models
from medward.guard.errors import MedwardError
from medward.guard.harden.network import trainable_copy
from medward.guard.models.torch_model import module_to_onnx
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SPEC = ModelSpec(name="m", modality="tabular", shape=(3,), task=Classification(classes=("a", "b"), output="logits"))
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 2))


def test_the_callers_module_is_left_as_it_was(tmp_path):
    module = net().train()
    module[1].eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    flags = [each.training for each in module.modules()]
    model = models.wrap(module, spec=SPEC, sample=X)
    first = model.predict(X).scores
    model.export(tmp_path)
    assert [each.training for each in module.modules()] == flags
    assert all(each.requires_grad and each.grad is None for each in module.parameters())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())
    np.testing.assert_array_equal(model.predict(X).scores, first)  # dropout is off


def test_flags_come_back_after_an_error():
    module = net().train()
    model = models.wrap(module, spec=SPEC, sample=X)
    with pytest.raises(RuntimeError):
        model.predict(X[:, :2])
    assert all(each.training for each in module.modules())


def test_features_are_the_input_of_the_last_linear_or_the_named_layers_output():
    module = net().eval()
    with torch.no_grad():
        hidden = module[:4](torch.from_numpy(X)).numpy()
        first = module[0](torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(models.wrap(module, spec=SPEC, sample=X).predict(X).features, hidden)
    np.testing.assert_allclose(models.wrap(module, spec=SPEC, sample=X, features="0").predict(X).features, first)


def test_an_unknown_layer_is_named_with_what_there_is():
    with pytest.raises(MedwardError, match=r"no layer named 'fc'; the last layers are \['0', '1'"):
        models.wrap(net(), spec=SPEC, sample=X, features="fc")


def test_a_named_layer_that_does_not_run_is_refused():
    with pytest.raises(MedwardError, match="the layer must run"):
        models.wrap(Spare(nn.Linear(4, 2)), spec=SPEC, sample=X, features="spare")


def test_a_module_that_returns_a_tuple_is_refused():
    class Two(nn.Module):
        def forward(self, x):
            return x[:, :2], x

    with pytest.raises(MedwardError, match="must return a tensor"):
        models.wrap(Two(), spec=SPEC, sample=X)


def test_an_export_that_answers_differently_is_refused_with_the_difference(tmp_path):
    class Exported(nn.Module):
        """Traced, it is another function than asked."""

        def forward(self, x):
            return x[:, :2] + (0.01 if torch.compiler.is_compiling() else 0)

    model = models.wrap(Exported(), spec=SPEC, sample=X)
    with pytest.raises(MedwardError, match=r"model.onnx: scores differ from the model's own by 0\.0"):
        model.export(tmp_path)


def test_a_module_torch_cannot_export_is_one_sentence(tmp_path):
    class Loops(nn.Module):
        def forward(self, x):
            return x[:, :2] + 0 * len(str(float(x.sum())))

    with pytest.raises(MedwardError, match=r"torch\.onnx cannot export this module"):
        models.wrap(Loops(), spec=SPEC, sample=X).export(tmp_path)


def test_the_batch_axis_of_an_exported_cnn_is_symbolic(tmp_path):
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4, affine=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    spec = ModelSpec(
        name="m", modality="image", shape=(1, 8, 8), task=Classification(classes=("a", "b"), output="logits")
    )
    images = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    models.wrap(module, spec=spec, sample=images).export(tmp_path)
    graph = onnx.load(tmp_path / "model.onnx").graph
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*graph.input, *graph.output)}
    assert shapes.keys() == {"input", "scores", "features"}
    assert all(axes[0].dim_param for axes in shapes.values())
    assert [axes[1].dim_value for axes in shapes.values()] == [1, 2, 4]


def test_exports_are_quiet_and_need_only_one_row(tmp_path, capfd):
    models.wrap(net(), spec=SPEC, sample=X[:1]).export(tmp_path)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_hugging_face_classes_and_layers():
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    labels = {0: "normal", 1: "pneumonia"}
    classifier = ResNetForImageClassification(
        ResNetConfig(
            num_channels=1,
            embedding_size=4,
            hidden_sizes=[4],
            depths=[1],
            layer_type="basic",
            id2label=labels,
        )
    )
    images = np.random.default_rng(0).random((3, 1, 16, 16), dtype=np.float32)
    spec = models.infer_spec(classifier, sample=images, low=0, high=1)
    assert (spec.classes, spec.output, spec.modality) == (("normal", "pneumonia"), "logits", "image")
    model = models.wrap(classifier, spec=spec, sample=images, features="resnet.pooler")
    classifier.eval()
    with torch.no_grad():
        want = classifier.resnet(torch.from_numpy(images)).pooler_output.flatten(1).numpy()
        logits = classifier(torch.from_numpy(images)).logits.numpy()
    np.testing.assert_allclose(model.predict(images).features, want, atol=1e-6)
    np.testing.assert_allclose(model.predict(images).scores, logits, atol=1e-6)


def test_a_hugging_face_model_without_logits_is_refused():
    from transformers import ResNetConfig, ResNetModel

    body = ResNetModel(ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic"))
    spec = ModelSpec(
        name="m", modality="image", shape=(1, 16, 16), task=Classification(classes=("a", "b"), output="logits")
    )
    with pytest.raises(MedwardError, match="ResNetModel gives no logits"):
        models.wrap(body, spec=spec, sample=np.zeros((2, 1, 16, 16), np.float32))


class Spare(nn.Module):
    """The classifier is defined first; a Linear that never runs, or runs on other rows, comes after it."""

    def __init__(self, spare):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.spare = nn.Linear(3, 4), nn.Linear(4, 2), spare

    def forward(self, x):
        return self.head(torch.relu(self.body(x)))


class Attends(Spare):
    def __init__(self):
        super().__init__(nn.MultiheadAttention(4, 2, batch_first=True))

    def forward(self, x):
        tokens = torch.relu(self.body(x))[:, None]
        return self.head(self.spare(tokens, tokens, tokens, need_weights=False)[0][:, 0])


class Prompted(Spare):
    """A Linear on the rows of a table of its own, not on the inputs, runs last."""

    def forward(self, x):
        scores = super().forward(x)
        return scores + self.spare(torch.ones(5, 3)).sum() * 0


@pytest.mark.parametrize("module", [Spare(nn.Linear(4, 2)), Attends(), Prompted(nn.Linear(3, 2))])
def test_default_features_are_the_input_of_the_last_linear_that_ran_on_the_rows(module):
    seen = []
    module.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model = models.wrap(module, spec=SPEC, sample=X)
    seen.clear()
    np.testing.assert_array_equal(model.predict(X).features, seen[-1].numpy())


def test_a_module_whose_only_linear_never_runs_has_no_features():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Conv1d(1, 2, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x[:, None]).flatten(1)

    model = models.wrap(Skips(), spec=SPEC, sample=X)
    assert (model.predict(X).features, model.spec.features) == (None, 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_module_of_another_precision_is_served_in_float32_and_left_as_it_was(dtype, tmp_path):
    module = net().to(dtype)
    model = models.wrap(module, spec=SPEC, sample=X)
    model.export(tmp_path)
    assert {each.dtype for each in module.parameters()} == {dtype}
    with torch.no_grad():
        own = module.eval()(torch.from_numpy(X).to(dtype)).double().numpy()
    np.testing.assert_allclose(model.predict(X).scores, own, atol=20 * torch.finfo(dtype).eps + 1e-6)
    assert model.predict(X).scores.dtype == np.float32


def test_a_module_that_only_double_precision_decides_so_is_refused():
    class Fine(nn.Module):
        """Its scores differ by what float32 cannot hold."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[1.0, 1 + 1e-9]] * 3, dtype=torch.float64))

        def forward(self, x):
            return (1 + x.abs()) @ self.weight

    with pytest.raises(MedwardError, match="8 of 8 decisions differ"):
        models.wrap(Fine(), spec=SPEC, sample=X)


def test_a_hugging_face_model_in_half_precision_is_served_in_float32():
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic")
    classifier = ResNetForImageClassification(config).half()
    images = np.random.default_rng(0).random((3, 1, 16, 16), dtype=np.float32)
    spec = models.infer_spec(classifier, sample=images, low=0, high=1)
    assert models.wrap(classifier, spec=spec, sample=images).predict(images).features.shape == (3, 4)
    assert classifier.dtype == torch.float16


def test_torchscript_is_protected_but_not_trained():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript
        script = torch.jit.script(net().eval())
        with torch.no_grad():
            own = script(torch.from_numpy(X)).numpy()
    model = models.as_served(models.wrap(script, spec=SPEC, sample=X))
    np.testing.assert_allclose(model.predict(X).scores, own, atol=1e-5)
    with pytest.raises(MedwardError, match="is TorchScript, which can be protected but not trained"):
        trainable_copy(script, torch.from_numpy(X), "cpu")
    with pytest.raises(MedwardError, match="TorchScript shows no layers"):
        models.wrap(script, spec=SPEC, sample=X, features="0")


class Branches(nn.Module):
    def forward(self, x):
        return x[:, :2] if x.sum() > 0 else x[:, 1:]


class Turns(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(torch.stack([x[:, :2], x[:, 1:]], 1) + 2 * torch.eye(2)).real


@pytest.mark.parametrize(
    ("module", "cause"),
    [(Branches(), r"data-dependent.*line \d+: return x\[:, :2\] if x\.sum\(\) > 0"), (Turns(), r"aten\.linalg_eig")],
)
def test_a_failed_export_says_what_failed_in_plain_text(module, cause, tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(MedwardError, match=cause) as refusal:
        module_to_onnx(module.eval(), X, path)
    assert "\x1b" not in str(refusal.value)
    assert "step" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not path.exists()
