"""Private training as a hardener: what it refuses, what it certifies, and what the certificate does not claim."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.private_training import bright_images, small_cnn
from torch import nn

from medward.guard.certificate import PrivacyCertificate
from medward.guard.data.canaries import plant_canaries
from medward.guard.data.coin_flip import flip_coins, read_manifest
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.audit_rows import arrange_audit
from medward.guard.harden.losses.classes import ClassLosses
from medward.guard.harden.losses.findings import FindingLosses
from medward.guard.harden.losses.numbers import NumberLosses
from medward.guard.harden.network import state_digest
from medward.guard.harden.private import class_balance as balancing
from medward.guard.harden.private.method import PrivateTraining
from medward.guard.harden.private.randomness import Randomness
from medward.guard.harden.private.start import check_start, draw_weights
from medward.guard.harden.robust.augment import augment_images
from medward.guard.statistics.privacy_accounting import certified_mechanism, spent_epsilon
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression

QUICK = PrivateTraining(target_epsilon=8, epochs=6, optimiser="adam", rate=0.02, noise_seed=1, unit="row")
TRAIN, SELECTION = bright_images(200, 0), bright_images(80, 1)


def harden(method=QUICK, network=None, train=TRAIN, selection=SELECTION, **changes):
    named = {"low": 0.0, "high": 1.0, "seed": 0} | changes
    return method.harden(small_cnn() if network is None else network, train, selection, **named)


def fitted(train, epochs=200):
    module = small_cnn()
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    x, y = torch.from_numpy(train.inputs), torch.from_numpy(train.labels)
    for _ in range(epochs):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    return module


def noise_labels(count, seed):
    """Images of noise with labels by chance: there is nothing to learn but by heart."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (count, 1, 8, 8)).astype(np.float32)
    return Split(x, rng.permutation(np.arange(count) % 2).astype(np.int64))


def test_the_certificate_says_what_was_run_and_the_network_is_left_alone(caplog):
    network = small_cnn(norm=True)
    before = copy.deepcopy(network.state_dict())
    with caplog.at_level(logging.INFO, "medward.harden"):
        made = harden(network=network, method=replace(QUICK, epochs=15))
    certificate = made.certificate
    assert PrivacyCertificate.model_validate_json(certificate.model_dump_json()) == certificate
    assert all(torch.equal(each, network.state_dict()[name]) for name, each in before.items())
    assert certificate.hardened == state_digest(made.network) != certificate.original == state_digest(network)
    assert certificate.epsilon == spent_epsilon(certified_mechanism(certificate), certificate.delta) <= 8
    assert certificate.epsilon > 7.5
    assert (certificate.unit, certificate.units, certificate.steps) == ("row", 200, 60)
    assert certificate.other_mechanisms == (balancing.COUNT_NOISE,)
    assert certificate.measured["after"] > certificate.measured["chance"] + 0.25
    assert any("GroupNorm" in note for note in certificate.notes)
    assert any("protects nobody" in note for note in certificate.notes)
    assert any("patients of several rows" in each for each in certificate.not_covered)
    assert not any("fitted" in each for each in certificate.not_covered)
    assert "opacus" in certificate.versions
    assert not made.network.training
    assert not any(each.requires_grad for each in made.network.parameters())
    spent = [record.message for record in caplog.records if "spent of 8" in record.message]
    assert len(spent) == 15
    assert "loss" not in caplog.text


def test_secret_noise_is_not_called_a_test_and_is_another_every_time():
    method = replace(QUICK, noise_seed=None)
    first, second = harden(method), harden(method)
    assert first.certificate.hardened != second.certificate.hardened
    assert not any("protects nobody" in note for note in first.certificate.notes)
    assert harden().certificate.hardened == harden().certificate.hardened


def test_the_unit_is_the_patient_where_patients_are_known():
    data = replace(QUICK, unit=None)
    with pytest.raises(MedwardError, match=r"add train_patients \(or --patient COLUMN\), or say unit"):
        harden(data)
    with pytest.raises(MedwardError, match="whose rows are whose"):
        harden(replace(QUICK, unit="patient"))
    train, selection = bright_images(200, 2, patients=60), bright_images(80, 3, patients=40)
    certificate = harden(data, train=train, selection=selection).certificate
    assert (certificate.unit, certificate.units) == ("patient", len(np.unique(train.patients)))
    assert not any("several rows" in each for each in certificate.not_covered)
    shared = replace(selection, patients=train.patients[:80])
    with pytest.raises(MedwardError, match="patients are in train too"):
        harden(data, train=train, selection=shared)
    assert harden(train=train, selection=shared).certificate.unit == "row"


def test_a_start_that_knows_the_rows_is_refused_and_an_innocent_one_is_stated():
    train, selection = noise_labels(100, 0), noise_labels(100, 1)
    pretrained = replace(QUICK, start="pretrained", epochs=2)
    with pytest.raises(MedwardError, match="tell rows of train from rows kept apart"):
        harden(pretrained, fitted(train), train, selection)
    assert harden(replace(QUICK, epochs=2), fitted(train), train, selection).certificate.start == "fresh"
    elsewhere = fitted(bright_images(100, 5))
    certificate = harden(pretrained, elsewhere).certificate
    assert any("never fitted to" in each for each in certificate.not_covered)
    assert certificate.measured["after"] > 0.85


def test_a_start_with_another_mix_of_classes_is_innocent():
    rng = np.random.default_rng(0)
    rows = np.arange(500)
    assert (
        check_start(torch.from_numpy(rng.normal(size=500)), torch.from_numpy(rng.normal(size=300)), rows, rows[:300])
        is None
    )
    doubted = check_start(
        torch.from_numpy(rng.normal(-0.25, 1, 2000)), torch.from_numpy(rng.normal(size=2000)), *[np.arange(2000)] * 2
    )
    assert "make sure that they never saw" in doubted
    few = bright_images(200, 6)
    skewed = few.take(np.flatnonzero((few.labels == 0) | (np.arange(200) < 60)))
    harden(replace(QUICK, start="pretrained", epochs=2), fitted(bright_images(60, 5), 20), skewed)


class Stubborn(nn.Module):
    """A layer with a weight that it cannot draw."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.scale


def test_a_fresh_start_draws_every_weight_or_refuses():
    made = draw_weights(small_cnn(), seed=3)
    assert all(not torch.equal(a, b) for a, b in zip(made.parameters(), small_cnn().parameters(), strict=True))
    again = draw_weights(small_cnn(), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))
    with pytest.raises(MedwardError, match=r"layer 0 has weights \(scale\) and no reset_parameters"):
        draw_weights(nn.Sequential(Stubborn(), nn.Linear(2, 2)), seed=0)
    frozen = small_cnn()
    frozen[0].requires_grad_(False)
    assert harden(network=frozen).certificate.trained == sum(each.numel() for each in frozen.parameters())


class Halfway(nn.Module):
    """A layer that draws one of its weights anew and keeps the other."""

    def __init__(self):
        super().__init__()
        self.kept, self.drawn = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))

    def reset_parameters(self):
        nn.init.normal_(self.drawn)


def test_a_fresh_start_keeps_nothing_that_was_learned_from_rows():
    with pytest.raises(MedwardError, match=r"layer 0 has weights \(kept\) and no reset_parameters that draws them"):
        draw_weights(nn.Sequential(Halfway()), seed=0)
    with pytest.warns(FutureWarning, match="weight_norm"):
        hidden = nn.utils.weight_norm(nn.Linear(2, 2))  # whose reset_parameters writes into a copy
    with pytest.raises(MedwardError, match=r"\(weight_g, weight_v\)"):
        draw_weights(nn.Sequential(hidden), seed=0)
    norm = nn.InstanceNorm2d(1, track_running_stats=True)  # it has statistics and no weights
    norm(torch.full((2, 1, 3, 3), 5.0))
    assert float(draw_weights(nn.Sequential(norm, nn.Linear(3, 2)), seed=0)[0].running_mean) == 0


def test_a_part_needs_weights_that_are_good_already():
    with pytest.raises(MedwardError, match="weights that are already good"):
        harden(replace(QUICK, part="head"))
    certificate = harden(replace(QUICK, part="head", start="pretrained"), fitted(bright_images(100, 5))).certificate
    assert (certificate.part, certificate.trained) == ("head", 64 * 2 + 2)


def test_canaries_are_units_of_their_own_and_the_coin_flip_is_named():
    planted, canaries = plant_canaries(TRAIN, 40, seed=0)
    included = int(canaries.included.sum())
    flip = flip_coins(TRAIN, seed=0)
    certificate = harden(replace(QUICK, canaries=canaries, manifest=flip.manifest)).certificate
    assert certificate.units == 200 + included == len(planted)
    assert certificate.canaries.model_dump() == {"count": 40, "included": included, "digest": canaries.digest}
    assert certificate.manifest == read_manifest(flip.manifest).digest
    with pytest.raises(MedwardError, match="canaries"):
        harden(replace(QUICK, canaries=replace(canaries, inputs=canaries.inputs[:, :, :4])))
    assert harden().certificate.canaries is None
    crowd = plant_canaries(TRAIN, 200, seed=0)[1]
    told = [note for note in harden(replace(QUICK, canaries=crowd)).certificate.notes if "crowd out patients" in note]
    assert told[0].startswith(f"{crowd.included.sum()} of {200 + crowd.included.sum()} units trained on are canaries")
    assert not any("crowd out" in note for note in harden(replace(QUICK, canaries=canaries)).certificate.notes)


def test_that_every_unit_was_in_every_step_is_told():
    said = "every step looked at every unit"
    whole, part = (harden(replace(QUICK, batch=each, epochs=2)).certificate for each in (200, 199))
    assert (whole.sample_rate, any(said in note for note in whole.notes)) == (1, True)
    assert not any(said in note for note in part.notes)


def test_canaries_that_are_trained_on_hold_no_value_of_a_patient_to_be_hidden():
    rng = np.random.default_rng(0)
    train, apart = (Split(rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2) for _ in range(2))
    train.inputs[7] = 123.0  # one patient, larger than all in every column
    made = [
        arrange_audit(QUICK, rows, apart, canaries=30, candidates=None, seed=0)[0].canaries
        for rows in (train, train.take(np.delete(np.arange(60), 7)))
    ]
    assert np.isin(made[0].inputs, [apart.inputs.min(axis=0), apart.inputs.max(axis=0)]).all()
    assert made[0].digest == made[1].digest


def test_views_of_images_need_a_range_and_are_off_by_default():
    assert QUICK.augment is None
    certificate = harden(replace(QUICK, augment=augment_images)).certificate
    assert certificate.settings["augment"] == "augment_images"
    with pytest.raises(MedwardError, match="range is known"):
        harden(replace(QUICK, augment=augment_images), low=None)


def test_settings_that_are_no_words_of_the_method_are_refused():
    for bad, words in (
        ({"start": "old"}, "start"),
        ({"unit": "scan"}, "unit"),
        ({"class_balance": (0.5,)}, "class_balance"),
        ({"class_balance": (0.9, 0.9)}, "sum to 1"),
    ):
        with pytest.raises(MedwardError, match=words):
            harden(replace(QUICK, **bad))


def test_counts_are_noisy_and_a_patient_counts_once():
    losses = ClassLosses(classes=3)
    y = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    rows = np.arange(1000)
    shares = balancing.noisy_shares(y, rows, losses, Randomness.secret())
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.08)
    assert not np.array_equal(shares, balancing.noisy_shares(y, rows, losses, Randomness.secret()))
    owners = np.where(rows < 700, 0, rows - 699)  # one patient has all rows of the first class
    assert balancing.noisy_shares(y, owners, losses, Randomness.seeded(0))[0] < 0.2


def test_scores_learn_with_the_log_of_their_share():
    losses, scores, y = ClassLosses(classes=2), torch.randn(6, 2), torch.tensor([0, 0, 0, 0, 1, 1])
    moved = balancing.balanced_row_losses(losses, np.array([0.9, 0.1]))(scores, y)
    assert torch.allclose(moved, losses.row_losses(scores + torch.tensor([0.9, 0.1]).log(), y))
    assert torch.equal(balancing.balanced_row_losses(losses, None)(scores, y), losses.row_losses(scores, y))
    even = balancing.balanced_row_losses(losses, np.array([0.5, 0.5]))(scores, y)
    assert torch.allclose(even, losses.row_losses(scores, y))  # what is equally common is not moved


def test_shares_of_findings_and_of_numbers():
    findings = FindingLosses.of(Multilabel(findings=("a", "b"), output="logits", thresholds=(0.5, 0.5)))
    table = torch.tensor([[1.0, 0.0]] * 20 + [[0.0, 0.0]] * 60 + [[0.0, 1.0]] * 20)
    scores = torch.randn(100, 2)
    moved = balancing.balanced_row_losses(findings, np.array([0.2, 0.2]))(scores, table)
    assert torch.allclose(moved, findings.row_losses(scores + np.log(0.25), table))
    noisy = balancing.noisy_shares(table.repeat(20, 1), np.arange(2000), findings, Randomness.secret())
    assert noisy == pytest.approx([0.2, 0.2], abs=0.05)
    numbers = NumberLosses.of(Regression(quantity="age", unit="years", tolerance=5.0))
    near = balancing.balanced_row_losses(numbers, None)(torch.tensor([[1.0]]), torch.tensor([0.0]))
    assert torch.allclose(near, replace(numbers, scale=5.0).row_losses(torch.tensor([[1.0]]), torch.tensor([0.0])))
    with pytest.raises(MedwardError, match="numbers have no classes"):
        balancing.is_counted(numbers, (0.5, 0.5))


def test_a_count_is_drawn_once_for_a_checkpoint(tmp_path):
    method = replace(QUICK, noise_seed=None, checkpoint=tmp_path / "checkpoint")
    first = harden(method)
    assert harden(method).certificate.hardened == first.certificate.hardened
    with pytest.raises(MedwardError, match="is of another training, with other rows"):
        harden(method, train=bright_images(200, 8))  # of which there are as many of each class
    with pytest.raises(MedwardError, match="class counts of other rows"):
        harden(method, train=bright_images(220, 8))


def test_tables_numbers_and_signs_that_say_nothing():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    train, selection = (
        Split(x[part], 4 * x[part][:, 0].astype(np.float64)) for part in (slice(0, 300), slice(300, 400))
    )
    task = Regression(quantity="dose", unit="mg", tolerance=2.0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    method = replace(QUICK, epochs=20, rate=0.05)
    certificate = harden(method, net, train, selection, low=None, high=None, task=task).certificate
    assert certificate.other_mechanisms == ()
    assert certificate.measured["after"] > certificate.measured["chance"] + 0.2
    with pytest.raises(MedwardError, match="shape"):
        harden(method, net, train, Split(x[:50, :2], train.labels[:50]), low=None, high=None, task=task)
