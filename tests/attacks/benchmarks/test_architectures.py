"""Every architecture: logits from any image size it promises, as many weights as it says, and it learns."""

import numpy as np
import pytest
import torch
from torch import nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.networks.architectures import ARCHITECTURES, FULL, SMALL, build_network
from medward.attacks.benchmarks.victims import accuracy, classifier_spec, predict_labels, train_victim
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.models import wrap

PUBLISHED = {  # weights at 3x224x224 and 1,000 classes, as the papers' reference implementations count them
    "resnet50": 25_557_032,
    "seresnet50": 28_088_024,
    "densenet121": 7_978_856,
    "efficientnet-b0": 5_288_548,
    "vit-b16": 86_567_656,
    "convnext-tiny": 28_589_128,
    "vgg16": 14_723_136 + 513_000 - 4_224,  # convolutions with their norms, one linear layer, no convolution biases
}


def weights(network):
    return sum(parameter.numel() for parameter in network.parameters())


def spots(n, seed):
    """Class 1 has a bright centre; mirroring, shifting and relighting leave that as it is."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.2, 0.5, (n, 1, 28, 28)).astype(np.float32)
    labels = np.arange(n) % 2
    images[labels == 1, :, 9:19, 9:19] += 0.4
    return Split(images, labels)


@pytest.fixture(scope="module")
def task():
    return BenchmarkTask(
        name="spots",
        modality="image",
        shape=(1, 28, 28),
        low=0.0,
        high=1.0,
        classes=("even", "spot"),
        splits={"train": spots(320, 0), "selection": spots(64, 1), "test": spots(100, 2)},
        source="",
    )


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (1, 32, 48)])
@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_gives_logits_row_by_row_and_shows_its_input_a_gradient(name, shape):
    torch.manual_seed(0)
    network = build_network(name, shape, 3).eval()
    assert 50_000 <= weights(network) <= 300_000
    x = torch.rand(4, *shape, requires_grad=True)
    logits = network(x)
    assert logits.shape == (4, 3)
    assert torch.allclose(logits[:1], network(x[:1]), atol=1e-4)
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (slope != 0).float().mean() > 0.9


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_standardises_its_input_and_ends_in_one_linear_layer(name):
    with torch.device("meta"):
        network = build_network(name, (3, 64, 64), 5)
    layers = list(network)
    assert isinstance(layers[0], nn.BatchNorm2d)
    assert not layers[0].affine
    assert isinstance(layers[-1], nn.Linear)
    assert layers[-1].out_features == 5


@pytest.mark.parametrize("name", FULL)
def test_a_full_size_network_has_the_weights_of_its_paper(name):
    with torch.device("meta"):
        network = build_network(name, (3, 224, 224), 1000)
        assert network(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert weights(network) == PUBLISHED[name]


@pytest.mark.parametrize(
    "name", [each if each in ("cnn", "resnet", "vit") else pytest.param(each, marks=pytest.mark.slow) for each in SMALL]
)
def test_every_small_architecture_learns_a_plain_task(name, task):
    victim = train_victim(task, architecture=name, epochs=12, seed=0)
    test = task.splits["test"]
    assert accuracy(test.labels, predict_labels(victim, test.inputs))[0] > 0.9


def becomes_a_white_box(name, task, folder):
    spec = classifier_spec(task, "logits")
    torch.manual_seed(0)
    model = wrap(build_network(name, task.shape, 2).eval(), spec=spec, sample=task.splits["test"].inputs[:4])
    network, reason = white_box(folder / model.export(folder).file, model.predict, task.splits["test"].inputs[:4])
    return network is not None, reason


@pytest.mark.slow
def test_the_last_of_the_families_becomes_a_white_box_as_onnx(task, tmp_path):
    assert becomes_a_white_box("convnext", task, tmp_path) == (True, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_small_architecture_becomes_a_white_box_as_onnx(name, task, tmp_path):
    assert becomes_a_white_box(name, task, tmp_path) == (True, "")


def test_what_cannot_be_built_is_said():
    with pytest.raises(MedwardError, match="'alexnet' is not known; there are cnn, resnet"):
        build_network("alexnet", (1, 28, 28), 2)
    with pytest.raises(MedwardError, match=r"'vit' takes images \(C, H, W\), got shape \(30,\)"):
        build_network("vit", (30,), 2)
    with pytest.raises(MedwardError, match="'resnet50' needs images of at least 32 pixels"):
        build_network("resnet50", (1, 28, 28), 2)
