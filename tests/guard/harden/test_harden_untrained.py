"""An untrained network is read by its labels and by how it is made, never by where its scores happen to lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.folder import harden
from medward.guard.harden.network import state_digest
from medward.guard.harden.output_range import are_bounded
from medward.guard.harden.private.method import PrivateTraining
from medward.guard.harden.task import network_task, plain_classification, said_task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel

SAMPLE = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CLASSES = np.arange(64) % 2
FINDINGS = np.stack([CLASSES, np.arange(64) % 3 == 0], axis=1).astype(int)


def untrained(columns=2, end=None):
    """A CNN with BatchNorm as it is drawn, of which all scores happen to lie in [0.2, 0.8]."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = nn.Linear(4, columns)
    with torch.no_grad():
        head.weight.mul_(0.01)
        head.bias.copy_(torch.linspace(0.2, 0.7, columns))
    return nn.Sequential(*layers, head, *([end] if end else [])).eval()


def task_of(network, labels, **said):
    return network_task(network, SAMPLE, said_task(None, **said), labels, None)


def test_scores_that_happen_to_lie_in_the_unit_interval_are_read_by_the_labels():
    network = untrained()
    scores = network(SAMPLE)
    assert ((scores > 0) & (scores < 1)).all(), "what the test is about"
    one_right = Classification(classes=("0", "1"), output="logits")
    assert task_of(network, CLASSES) == one_right == plain_classification(network, SAMPLE, "cpu")
    assert task_of(network, FINDINGS) == Multilabel(findings=("0", "1"), output="logits", thresholds=(0.5, 0.5))
    assert task_of(untrained(1), CLASSES, classes=("a", "b")).output == "logits"


def test_what_is_made_to_lie_there_is_still_seen():
    assert task_of(untrained(end=nn.Sigmoid()), FINDINGS).output == "probabilities"
    assert task_of(untrained(end=nn.Softmax(1)), CLASSES).output == "probabilities"
    assert task_of(untrained(1, nn.Sigmoid()), CLASSES, classes=("a", "b")).output == "probabilities"
    with pytest.raises(MedwardError, match=r"multi-label model \(all its 2 scores lie in \[0, 1\]"):
        task_of(untrained(end=nn.Sigmoid()), CLASSES)


@pytest.mark.parametrize("head", [nn.Identity(), nn.Sigmoid(), nn.Softmax(1)])
def test_scores_are_bounded_by_the_last_layer_alone(head):
    network = untrained(end=head)
    before = state_digest(network)
    assert are_bounded(network, SAMPLE) is not isinstance(head, nn.Identity)
    assert state_digest(network) == before
    nn.init.zeros_(network[5].weight)
    nn.init.zeros_(network[5].bias)
    assert are_bounded(network, SAMPLE) is not isinstance(head, nn.Identity), "a last layer of zeros is none"


@pytest.mark.parametrize(
    ("columns", "labels", "said"), [(2, CLASSES, {}), (2, FINDINGS, {}), (1, CLASSES, {"classes": "ab"})]
)
def test_an_untrained_network_with_batchnorm_is_trained_privately_and_written(columns, labels, said, tmp_path):
    method = PrivateTraining(target_epsilon=8, unit="row", epochs=1, noise_seed=1)
    said = {name: tuple(value) for name, value in said.items()}
    data = {
        "train": Split(SAMPLE.numpy(), labels),
        "selection": Split(SAMPLE.numpy()[::-1].copy(), labels[::-1].copy()),
    }
    certificate, _ = harden(untrained(columns), data, tmp_path / "out", method, low=0.0, high=1.0, **said)
    assert certificate.task.kind == ("multilabel" if labels is FINDINGS else "classification")
    assert certificate.task.output == "logits"
    assert (tmp_path / "out" / "original.onnx").exists()
