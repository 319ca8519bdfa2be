"""Findings, numbers and one column harden as classes do, against the test's own attack and beside a negative control.

What the methods train against is their own; the attack here shares no code with it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from support.faint import EPSILON
from support.faint import net as class_net
from support.faint_tasks import MONTHS, TASK, finding_images, fitted_by, number_images, outputs_net
from torch import nn
from torch.nn import functional as F

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden import HARDENERS, RobustnessCertificate
from medward.guard.harden.method import HardeningMethod
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import unpacked_findings
from medward.guard.tasks.opaque import Opaque

SMALL = 0.04  # a radius that numbers can withstand


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSigns(HardeningMethod):
    """The negative control trains on random changes of the full radius, which nobody searched for."""

    name: ClassVar = "random-signs"
    chosen_by: ClassVar = "per_input"

    def objective(self, lesson):
        def loss(network, x, y, progress):
            signs = torch.randint(0, 2, x.shape, generator=lesson.generator) * 2.0 - 1
            return lesson.losses.loss(network(lesson.ball.clip(x + signs * lesson.ball.radius)), y)

        return loss


def harden(hardener, network, splits, task, epsilon=EPSILON, epochs=12, seed=0):
    changes = {"craft_rows": 20} if hardener.name == "retraining" else {}
    training = replace(hardener.training, epochs=epochs, batch=32, rate=5e-3, augment=None)
    hardener = replace(hardener, epsilon=epsilon, training=training, **changes)
    return hardener.harden(network, *splits, low=0.0, high=1.0, seed=seed, task=task)


def attacked(network, x, loss, epsilon, steps=20):
    """Projected signed steps up `loss`, the test's own."""
    generator = torch.Generator().manual_seed(3)
    delta = epsilon * (2 * torch.rand(x.shape, generator=generator) - 1)
    for _ in range(steps):
        at = (x + delta).clamp(0, 1).requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(network(at)), at)
        delta = (delta + 0.25 * epsilon * slope.sign()).clamp(-epsilon, epsilon)
    return (x + delta).clamp(0, 1).detach()


def findings_lost(network, split, epsilon):
    """The share of findings that are decided wrongly under the attack, and without it."""
    x, truth = torch.from_numpy(split.inputs), unpacked_findings(split.labels, 3)
    y = torch.from_numpy(truth.astype(np.float32))
    changed = attacked(network, x, lambda s: F.binary_cross_entropy_with_logits(s, y, reduction="sum"), epsilon)
    with torch.no_grad():
        return [float((TASK.found(network(each).numpy()) != truth).mean()) for each in (changed, x)]


def number_moved(network, split, epsilon):
    """How far numbers move on average under the attack, and how far from the truth they are without it."""
    x = torch.from_numpy(split.inputs)
    with torch.no_grad():
        own = network(x)[:, 0]
        changed = attacked_from(network, x, own, epsilon)
        moved = (network(changed)[:, 0] - own).abs().mean()
    return float(moved), float(np.abs(own.numpy() - split.labels).mean())


def attacked_from(network, x, own, epsilon):
    with torch.enable_grad():
        return attacked(network, x, lambda s: ((s[:, 0] - own) ** 2).sum(), epsilon)


@pytest.fixture(scope="module")
def finding_data():
    return finding_images(300, 0), finding_images(150, 1)


@pytest.fixture(scope="module")
def finder(finding_data):
    y = torch.from_numpy(unpacked_findings(finding_data[0].labels, 3).astype(np.float32))
    return fitted_by(outputs_net(3), finding_data[0].inputs, y, F.binary_cross_entropy_with_logits)


@pytest.fixture(scope="module")
def number_data():
    return number_images(300, 0), number_images(150, 1)


@pytest.fixture(scope="module")
def measurer(number_data):
    y = torch.from_numpy(number_data[0].labels).float()
    network = outputs_net(1, centre=100.0, scale=10.0)
    return fitted_by(network, number_data[0].inputs, y, lambda s, y: F.mse_loss(s[:, 0], y), steps=300)


@pytest.mark.parametrize(("name", "epochs", "most"), [("pgd", 12, 0.15), ("uat", 40, 0.22)])
def test_a_hardened_network_loses_clearly_fewer_findings(name, epochs, most, finding_data, finder):
    test = finding_images(200, 2)
    undefended, clean = findings_lost(finder, test, EPSILON)
    assert undefended > 0.3
    assert clean < 0.01
    made = harden(HARDENERS[name], finder, finding_data, TASK, epochs=epochs)
    hardened, clean = findings_lost(made.network, test, EPSILON)
    assert hardened < most
    assert clean < 0.03
    kind = HARDENERS[name].chosen_by
    assert getattr(made.certificate.after, kind) > getattr(made.certificate.before, kind) + 0.1
    assert made.certificate.notes == ()


def test_findings_on_random_changes_are_lost_as_before(finding_data, finder):
    made = harden(RandomSigns(), finder, finding_data, TASK)
    assert findings_lost(made.network, finding_images(200, 2), EPSILON)[0] > 0.28
    assert any("hardening achieved nothing" in note for note in made.certificate.notes)


@pytest.mark.parametrize("name", ["pgd", "uat", "trades"])
def test_a_hardened_networks_number_moves_less(name, number_data, measurer):
    test = number_images(200, 2)
    undefended, wrong = number_moved(measurer, test, SMALL)
    assert undefended > 9
    assert wrong < 2
    made = harden(HARDENERS[name], measurer, number_data, MONTHS, epsilon=SMALL)
    hardened, wrong = number_moved(made.network, test, SMALL)
    assert hardened < 0.55 * undefended
    assert wrong < 6, "months; who always answers the mean is off by 8"
    assert made.certificate.after.universal > made.certificate.before.universal + 0.3


def test_a_number_trained_on_random_changes_moves_further_than_one_that_was_hardened(number_data, measurer):
    test = number_images(200, 2)
    control = harden(RandomSigns(), measurer, number_data, MONTHS, epsilon=SMALL).network
    hardened = harden(HARDENERS["pgd"], measurer, number_data, MONTHS, epsilon=SMALL).network
    assert number_moved(control, test, SMALL)[0] > 1.3 * number_moved(hardened, test, SMALL)[0]


class TwoColumns(nn.Module):
    """What a network of one logit or probability says, as a column for each class."""

    def __init__(self, net, first):
        super().__init__()
        self.net, self.first = net, first

    def forward(self, x):
        second = self.net(x)
        return torch.cat([self.first(second), second], dim=1)


@pytest.fixture(scope="module")
def one_logit(data):
    network = class_net(1)
    y = torch.from_numpy(data[0].labels).float()
    return fitted_by(network, data[0].inputs, y, lambda s, y: F.binary_cross_entropy_with_logits(s[:, 0], y), steps=80)


@pytest.mark.parametrize("name", HARDENERS)
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_one_logit_hardens_as_its_two_columns_do(name, threshold, data, one_logit):
    two = Classification(classes=("well", "ill"), output="logits", threshold=threshold)
    one = replace(two, one_column=True)
    pair = TwoColumns(copy.deepcopy(one_logit), torch.zeros_like)
    made = [harden(HARDENERS[name], each, data, task, epochs=2) for each, task in ((one_logit, one), (pair, two))]
    assert made[0].certificate.after == made[1].certificate.after
    ours, theirs = made[0].network.state_dict(), made[1].network.net.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(ours["5.weight"], one_logit[5].weight)


def test_a_probability_hardens_as_its_two_columns_do_and_nearly_as_its_logit(data, one_logit):
    spec = Classification(classes=("well", "ill"), output="probabilities")
    sigmoid = nn.Sequential(copy.deepcopy(one_logit), nn.Sigmoid())
    pair = TwoColumns(copy.deepcopy(sigmoid), lambda p: 1 - p)
    cases = (
        (sigmoid, replace(spec, one_column=True)),
        (pair, spec),
        (one_logit, replace(spec, output="logits", one_column=True)),
    )
    made = [harden(HARDENERS["pgd"], *each[:1], data, each[1], epochs=2) for each in cases]
    weights = [made[0].network[0][0].weight, made[1].network.net[0][0].weight, made[2].network[0].weight]
    assert torch.equal(weights[0], weights[1])
    assert torch.allclose(weights[0], weights[2], atol=0.02)


def test_sigmoids_of_findings_harden_nearly_as_their_logits(finding_data, finder):
    sigmoids = nn.Sequential(copy.deepcopy(finder), nn.Sigmoid())
    made = [
        harden(HARDENERS["pgd"], network, finding_data, replace(TASK, output=output), epochs=2)
        for network, output in ((finder, "logits"), (sigmoids, "probabilities"))
    ]
    assert torch.allclose(made[0].network[0].weight, made[1].network[0][0].weight, atol=0.02)
    assert made[0].certificate.before.clean == made[1].certificate.before.clean


@pytest.mark.parametrize("name", HARDENERS)
def test_every_method_hardens_findings_and_the_seed_decides(name, finding_data, finder):
    made = [harden(HARDENERS[name], finder, finding_data, TASK, epochs=1, seed=seed) for seed in (0, 0, 1)]
    digests = [each.certificate.hardened for each in made]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("task", ["findings", "numbers"])
def test_the_certificate_says_the_task_and_the_measure_and_survives_json(
    task, finding_data, finder, number_data, measurer
):
    network, splits, said, measure = {
        "findings": (finder, finding_data, TASK, "mean balanced accuracy of the findings"),
        "numbers": (measurer, number_data, MONTHS, "share within the tolerance"),
    }[task]
    certificate = harden(HARDENERS["pgd"], network, splits, said, epsilon=SMALL, epochs=1).certificate
    assert RobustnessCertificate.model_validate_json(certificate.model_dump_json()) == certificate
    assert (certificate.task, certificate.measure) == (said, measure)
    assert certificate.before.clean > 0.95


def test_a_certificate_from_before_tasks_is_refused_with_the_remedy(finding_data, finder):
    record = harden(HARDENERS["pgd"], finder, finding_data, TASK, epochs=1).certificate.model_dump(mode="json")
    old = {key: value for key, value in record.items() if key not in ("task", "measure")} | {"classes": 2}
    with pytest.raises(ValueError, match="written before certificates said the model's task; run medward harden again"):
        RobustnessCertificate.model_validate(old)


def test_a_network_that_is_no_better_than_the_median_is_said(number_data):
    constant = outputs_net(1, centre=60.0)
    certificate = harden(HARDENERS["pgd"], constant, number_data, MONTHS, epochs=1).certificate
    assert any(
        "hardly better than chance" in note and "share within the tolerance" in note for note in certificate.notes
    )


def test_hirano_retraining_refuses_numbers(number_data, measurer):
    with pytest.raises(MedwardError, match=r"retraining: is published for classifiers, .*--method uat or pgd"):
        harden(HARDENERS["retraining"], measurer, number_data, MONTHS, epochs=1)


WRONG = {
    "numbers for classes": (lambda x, n: Split(x, np.linspace(0, 1, n)), None, "train: labels: classes are whole"),
    "table for classes": (lambda x, n: Split(x, np.zeros((n, 3), int)), None, "train: labels: classes are whole"),
    "table for sets": (lambda x, n: Split(x, np.zeros((n, 3), int)), TASK, "train: labels: of 3 findings are sets"),
    "sets too large": (lambda x, n: Split(x, np.arange(n)), TASK, "whole numbers .* below 8"),
    "finding that is nowhere": (lambda x, n: Split(x, np.arange(n) % 4), TASK, "train: no row has the finding mass"),
    "finding everywhere": (
        lambda x, n: Split(x, np.arange(n) % 8 | 1),
        TASK,
        "every row has the finding nodule",
    ),
    "numbers that are one": (lambda x, n: Split(x, np.full(n, 3.5)), MONTHS, "train: every label is 3.5"),
    "gaps": (lambda x, n: Split(x, np.full(n, np.nan)), MONTHS, "train: labels: a regression model needs finite"),
    "opaque": (lambda x, n: Split(x, np.arange(n) % 2), Opaque(), "opaque outputs cannot be hardened, .*protect"),
    "columns": (lambda x, n: Split(x, np.arange(n) % 2), "two", r"gives scores of shape \(300, 3\).* needs \(n, 2\)"),
    "numbers of three": (lambda x, n: Split(x, np.linspace(0, 1, n)), MONTHS, "regression model gives"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_is_of_another_task_is_refused(mistake, finding_data):
    change, task, sentence = WRONG[mistake]
    task = Classification(classes=("a", "b"), output="logits") if task == "two" else task
    network = outputs_net(1 if task == MONTHS and mistake != "numbers of three" else 3)
    splits = [change(each.inputs, len(each)) for each in finding_data]
    with pytest.raises(MedwardError, match=sentence.replace("300", "256")) as caught:
        harden(HARDENERS["pgd"], network, splits, task, epochs=1)
    assert "\n" not in str(caught.value)


def test_a_plain_classification_said_or_seen_is_the_same(data, victim):
    said = Classification(classes=("well", "ill"), output="logits")
    made = [harden(HARDENERS["uat"], victim, data, task, epochs=1) for task in (None, said)]
    assert made[0].certificate.hardened == made[1].certificate.hardened
