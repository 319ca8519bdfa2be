"""Training with bounds certifies decisions that training without them does not, whatever the task; and says so."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.faint import EPSILON, images, net
from support.faint_tasks import MONTHS, TASK, finding_images, fitted_by, number_images, outputs_net
from torch import nn
from torch.nn import functional as F

from medward.guard.certificate import PER_ANSWER, certificate_sentence
from medward.guard.errors import MedwardError
from medward.guard.harden import HARDENERS
from medward.guard.harden.certified.bounds import certified_decisions, certified_share, check_bounds
from medward.guard.harden.losses.base import ScoreBounds
from medward.guard.harden.losses.classes import ClassLosses
from medward.guard.harden.losses.numbers import NumberLosses
from medward.guard.harden.losses.table import losses_of
from medward.guard.harden.network import Rows, Scoring
from medward.guard.harden.robust.inner import TrainingBall
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.regression import Regression

RADIUS = EPSILON / 2
WITHOUT_BOUNDS = 1 - 1e-9  # of the loss are of rows as they are


def harden(network, splits, task=None, *, epsilon=RADIUS, epochs=15, seed=0, rate=5e-3, **changes):
    method = HARDENERS["certified"]
    training = replace(method.training, epochs=epochs, batch=32, rate=rate, augment=None)
    method = replace(method, epsilon=epsilon, training=training, **changes)
    return method.harden(network, *splits, low=0.0, high=1.0, seed=seed, task=task)


def judged(network, split, task=None, epsilon=RADIUS):
    """The share of rows whose decision is certified, on rows that neither trained nor chose."""
    losses = ClassLosses() if task is None else losses_of(task)
    rows = Rows.of(split, "test", 0, 1, losses)
    return certified_share(Scoring(network, losses), rows, TrainingBall.around(rows.x, epsilon, 0.0, 1.0))


@pytest.fixture(scope="module")
def made(data, victim):
    return harden(victim, data)


def test_it_certifies_decisions_and_keeps_accuracy(made, data, victim):
    test = images(200, 2)
    assert judged(victim, test) < 0.05
    assert judged(made.network, test) > 0.85
    assert made.certificate.after.clean > 0.9
    assert made.certificate.notes == ()


def test_the_control_the_same_training_without_bounds_certifies_hardly_anything(made, data, victim):
    control = harden(victim, data, clean=WITHOUT_BOUNDS)
    test = images(200, 2)
    assert judged(control.network, test) < judged(made.network, test) - 0.5
    assert any("hardening achieved nothing" in note for note in control.certificate.notes)


def test_no_attack_of_the_tests_own_changes_a_certified_decision(made):
    test = images(200, 3)
    rows = Rows.of(test, "test", 0, 1)
    ball = TrainingBall.around(rows.x, RADIUS, 0.0, 1.0)
    changed = certified_decisions(Scoring(made.network), rows, ball)[1]
    with torch.no_grad():
        own = made.network(rows.x).argmax(1)
    delta = torch.zeros_like(rows.x)
    for _ in range(20):
        at = (rows.x + delta).clamp(0, 1).requires_grad_(True)
        (slope,) = torch.autograd.grad(F.cross_entropy(made.network(at), own, reduction="sum"), at)
        delta = (delta + 0.25 * RADIUS * slope.sign()).clamp(-RADIUS, RADIUS)
    with torch.no_grad():
        fooled = made.network((rows.x + delta).clamp(0, 1)).argmax(1) != own
    assert not (fooled & ~changed).any()
    assert (~changed).float().mean() > 0.8


def test_the_certificate_says_what_is_promised_and_for_how_many(made):
    c = made.certificate
    assert c.guarantee == PER_ANSWER
    assert [each.radius for each in c.certified_shares] == pytest.approx([RADIUS / 2, RADIUS, 2 * RADIUS])
    after = [each.after for each in c.certified_shares]
    assert after == sorted(after, reverse=True)
    assert after[1] > 0.85 > 0.05 > c.certified_shares[1].before
    assert c.after.certified <= c.after.per_input <= c.after.clean
    assert f"of which no change takes away {c.after.certified:.3f}; certified answer by answer" in certificate_sentence(
        c
    )


def test_one_logit_at_an_operating_point_certifies_as_its_two_columns(data):
    y = torch.from_numpy(data[0].labels).float()
    network = fitted_by(
        net(1), data[0].inputs, y, lambda s, y: F.binary_cross_entropy_with_logits(s[:, 0], y), steps=80
    )
    task = Classification(classes=("well", "ill"), output="logits", threshold=0.2, one_column=True)
    sigmoid = nn.Sequential(copy.deepcopy(network), nn.Sigmoid())
    found = [harden(network, data, task), harden(sigmoid, data, replace(task, output="probabilities"))]
    shares = [each.certificate.certified_shares[1].after for each in found]
    assert judged(network, images(200, 2), task) < 0.1
    assert min(shares) > 0.8
    assert shares[0] == pytest.approx(shares[1], abs=0.1)


def test_findings_are_certified_each_beyond_its_threshold():
    splits = finding_images(300, 0), finding_images(150, 1)
    network = outputs_net(3)
    before = judged(fitted_findings(network, splits[0]), finding_images(200, 2), TASK)
    found = harden(network, splits, TASK)
    assert judged(found.network, finding_images(200, 2), TASK) > max(0.7, before + 0.5)
    assert found.certificate.after.clean > 0.95


def fitted_findings(network, split):
    losses = losses_of(TASK)
    y = losses.targets(split.labels)
    return fitted_by(copy.deepcopy(network), split.inputs, y, lambda s, y: F.binary_cross_entropy_with_logits(s, y))


def test_numbers_are_certified_within_their_tolerance():
    splits, epsilon = (number_images(300, 0), number_images(150, 1)), 0.02
    y = torch.from_numpy(splits[0].labels).float()
    network = outputs_net(1, centre=100.0, scale=10.0)
    network = fitted_by(network, splits[0].inputs, y, lambda s, y: F.mse_loss(s[:, 0], y), steps=300)
    found = harden(network, splits, MONTHS, epsilon=epsilon, margin=1.0)
    test = number_images(200, 2)
    assert judged(network, test, MONTHS, epsilon) < 0.05
    assert judged(found.network, test, MONTHS, epsilon) > 0.8


def test_what_is_trained_is_what_is_deployed(made, victim):
    assert torch.equal(made.network[1].running_mean, victim[1].running_mean)
    assert not torch.equal(made.network[1].weight, victim[1].weight)


@pytest.mark.parametrize("task", ["classes", "probabilities", "findings", "numbers"])
def test_a_network_of_ours_takes_the_users_place_only_when_asked(task, data):
    splits, said = {
        "classes": (data, None),
        "probabilities": (data, Classification(classes=("well", "ill"), output="probabilities")),
        "findings": ((finding_images(200, 0), finding_images(100, 1)), replace(TASK, output="probabilities")),
        "numbers": ((number_images(300, 0), number_images(150, 1)), MONTHS),
    }[task]
    columns = {"findings": 3, "numbers": 1}.get(task, 2)
    last = {"probabilities": [nn.Softmax(1)], "findings": [nn.Sigmoid()]}.get(task, [])
    unbounded = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, columns), *last)
    with pytest.raises(MedwardError, match=r"GELU has no interval bound here; .* or ours, with --architecture small"):
        harden(unbounded, splits, said, epochs=1)
    radius = RADIUS / 2
    found = harden(unbounded, splits, said, architecture="small", epsilon=radius, epochs=25, rate=2e-3)
    assert not any(isinstance(each, nn.GELU) for each in found.network.modules())
    assert found.certificate.certified_shares[1].after > 0.5
    assert found.certificate.certified_shares[1].before is None
    assert found.certificate.before.certified is None
    assert found.certificate.settings["architecture"] == "small"
    assert any("a network of Medward's" in note for note in found.certificate.notes)


def test_an_architecture_that_there_is_not_and_shares_that_cannot_be_are_refused(data, victim):
    with pytest.raises(MedwardError, match="architecture: there is no 'huge'; there are own, small, wide"):
        harden(victim, data, architecture="huge")
    with pytest.raises(MedwardError, match="clean: must be a share from 0 to below 1, got 1"):
        harden(victim, data, clean=1.0)
    with pytest.raises(MedwardError, match="margin: must be a number above 0, got 0"):
        harden(victim, data, margin=0.0)


class Counting(nn.Module):
    """A network that does something else each time, which no graph shows."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) + 10.0 * self.calls


def test_a_network_that_leaves_its_bounds_is_refused(victim):
    x = torch.rand(4, 1, 8, 8)
    ball, generator = TrainingBall.around(x, 0.01, 0.0, 1.0), torch.Generator().manual_seed(0)
    check_bounds(Scoring(victim), x, ball, generator)
    with pytest.raises(MedwardError, match="scores leave the bounds that its layers show"):
        check_bounds(Scoring(Counting(victim)), x, ball, generator)


def deep_network(layers):
    """Convolutions with batch normalisation that has seen rows, as a trained network has."""
    torch.manual_seed(0)
    block = [[nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()] for _ in range(layers)]
    first = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()]
    made = nn.Sequential(*first, *(each for part in block for each in part), nn.Flatten(), nn.Linear(8 * 64, 2))
    with torch.no_grad():
        for _ in range(20):
            made(torch.from_numpy(images(100, 0).inputs))
    return made.eval()


def test_a_network_that_bounds_cannot_train_is_refused_before_it_is_trained(data):
    started = []

    class Watched(nn.Sequential):
        def train(self, mode=True):
            started.append(mode)
            return super().train(mode)

    with pytest.raises(MedwardError, match=r"times as wide as scores of different rows .* --architecture small"):
        harden(Watched(deep_network(12)), data, epochs=50)
    assert not any(started)
    harden(Watched(deep_network(1)), data, epochs=1)
    assert any(started), "a network that bounds can train is seen to be trained"
    assert harden(deep_network(1), data, epochs=1).certificate.epochs == 1
    ours = harden(deep_network(12), data, epochs=1, architecture="small")
    assert ours.certificate.settings["architecture"] == "small"


def test_tables_have_settings_of_their_own():
    usual = HARDENERS["certified"]
    assert (usual.for_tables().epsilon, usual.for_tables().margin) == (0.25, 1.5)
    assert usual.margin == 2.5
    assert HARDENERS["pgd"].for_tables().epsilon == 1.0


def test_the_worst_scores_of_classes_stand_at_the_operating_point():
    raw = ScoreBounds(torch.tensor([[0.0, -1.0]]), torch.tensor([[0.5, 1.0]]), torch.tensor([[[0.0, 0.8], [1.2, 0.0]]]))
    losses = ClassLosses.of(Classification(classes=("a", "b"), output="logits", threshold=0.75))
    read = losses.read_bounds(raw)
    odds = float(np.log(3))
    assert read.low[0].tolist() == pytest.approx([0.0, -1 - odds])
    assert losses.worst_scores(read, torch.tensor([0]))[0].tolist() == pytest.approx([0.0, 0.8 - odds])
    assert losses.worst_scores(read, torch.tensor([1]))[0].tolist() == pytest.approx([1.2 + odds, 0.0])
    ends = losses.read_bounds(ScoreBounds(raw.low, raw.high))
    assert losses.worst_scores(ends, torch.tensor([0]))[0].tolist() == pytest.approx([0.0, 1.0 - odds])


def test_the_worst_number_is_the_farther_end_or_the_one_over_a_cut_point():
    losses = NumberLosses.of(Regression(quantity="age", tolerance=6.0, unit="months", cut_points=(5.5,)))
    bounds = ScoreBounds(torch.tensor([[1.0], [1.0], [4.0]]), torch.tensor([[5.2], [6.0], [5.0]]))
    assert losses.worst_scores(bounds, torch.tensor([4.0, 5.0, 4.9]))[:, 0].tolist() == [1.0, 6.0, 4.0]
