"""Hardening a model with an operating point: what is trained, measured and certified is the decision at it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.faint import EPSILON, fitted, images, net

from medward.guard.errors import MedwardError
from medward.guard.harden import HARDENERS
from medward.guard.harden.losses.classes import ClassLosses, network_balanced_accuracy
from medward.guard.harden.network import trainable_copy
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import decisions

THRESHOLD = 0.02


@pytest.fixture(scope="module")
def rare(victim):
    """The network with the prior of a rare finding put into its last bias: no risk comes near one half."""
    network = copy.deepcopy(victim)
    with torch.no_grad():
        network[-1].weight *= 0.2
        network[-1].bias[:] = torch.tensor([0.0, -3.9])
    return network.eval()


def operated(threshold, output="logits", classes=2):
    return Classification(classes=tuple(map(str, range(classes))), output=output, threshold=threshold)


def logits(network, split):
    with torch.no_grad():
        return network.eval()(torch.from_numpy(split.inputs)).numpy()


def clean_at(network, split, threshold):
    decided = decisions(logits(network, split), "logits", threshold)
    return network_balanced_accuracy(torch.from_numpy(split.labels), torch.from_numpy(decided))


@pytest.mark.parametrize("name", ["pgd", "uat", "trades", "retraining"])
def test_the_certificate_measures_decisions_at_the_threshold(name, data, rare):
    hardener = replace(HARDENERS[name], epsilon=EPSILON)
    hardener = replace(hardener, training=replace(hardener.training, epochs=2, batch=32, augment=None))
    if name == "retraining":
        hardener = replace(hardener, craft_rows=20, rounds=1, pool=2)
    made = hardener.harden(rare, *data, low=0.0, high=1.0, seed=0, task=operated(THRESHOLD))
    certificate = made.certificate
    assert certificate.task.threshold == THRESHOLD
    assert certificate.before.clean == pytest.approx(clean_at(rare, data[1], THRESHOLD))
    assert certificate.after.clean == pytest.approx(clean_at(made.network, data[1], THRESHOLD))
    assert certificate.before.clean > 0.9 > 0.6 > clean_at(rare, data[1], None)
    assert certificate.after.clean > 0.8
    risks = torch.softmax(torch.from_numpy(logits(made.network, data[1])), dim=1)[:, 1].numpy()
    assert np.median(risks[data[1].labels == 0]) < THRESHOLD, "the hardened network keeps its scale of risks"


def test_by_the_largest_class_the_same_network_is_called_chance(data, rare):
    # Negative control: the first release's measure.
    hardener = replace(HARDENERS["pgd"], epsilon=EPSILON)
    hardener = replace(hardener, training=replace(hardener.training, epochs=1, batch=32, augment=None))
    certificate = hardener.harden(rare, *data, low=0.0, high=1.0, seed=0).certificate
    assert certificate.task.threshold is None
    assert certificate.before.clean <= 0.6
    assert any("hardly better than chance" in note for note in certificate.notes)


@pytest.mark.parametrize("logarithm", [False, True])
def test_what_is_trained_decides_by_its_largest_score_as_the_model_does_at_its_threshold(data, rare, logarithm):
    network = torch.nn.Sequential(rare, torch.nn.Softmax(dim=1)) if logarithm else rare
    student = trainable_copy(
        network,
        torch.from_numpy(data[0].inputs),
        "cpu",
        ClassLosses.of(operated(THRESHOLD, "probabilities" if logarithm else "logits")),
    )
    own = decisions(logits(rare, data[1]), "logits", THRESHOLD)
    assert (logits(student, data[1]).argmax(axis=1) == own).all()
    assert 0 < own.mean() < 1


@pytest.mark.parametrize(("threshold", "classes", "said"), [(0.0, 2, "got 0.0"), (0.02, 3, "got 3 classes")])
def test_a_threshold_that_cannot_be_operated_is_refused(threshold, classes, said):
    torch.manual_seed(0)
    splits = images(60, 0, classes), images(60, 1, classes)
    network = fitted(net(classes), splits[0], steps=1)
    with pytest.raises(MedwardError, match=f"^threshold: .*{said}"):
        HARDENERS["pgd"].harden(network, *splits, low=0.0, high=1.0, seed=0, task=operated(threshold, classes=classes))
