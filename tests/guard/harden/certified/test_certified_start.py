"""What certified training starts from: weights as given, weights drawn anew, or a network of ours behind a front."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden import HARDENERS
from medward.guard.harden.certified.architecture import certified_network
from medward.guard.harden.certified.start import fresh_weights
from medward.guard.harden.folder import harden
from medward.guard.preparation import Preparation

BRIEF = replace(
    HARDENERS["certified"], training=replace(HARDENERS["certified"].training, epochs=2, batch=32, augment=None)
)


def test_fresh_weights_are_others_and_what_is_frozen_stays(victim):
    network = copy.deepcopy(victim)
    network[0].weight.requires_grad_(False)
    network[0].bias.requires_grad_(False)
    made = fresh_weights(network)
    assert torch.equal(made[0].weight, network[0].weight)
    assert not torch.equal(made[5].weight, network[5].weight)
    assert torch.equal(made[1].running_mean, torch.zeros(8))
    assert not torch.equal(network[1].running_mean, torch.zeros(8))


class Weighing(nn.Module):
    """A layer that does not know how to draw its weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x * self.weight


def test_a_layer_that_cannot_draw_its_weights_is_named(victim):
    with pytest.raises(MedwardError, match=r"start: Weighing cannot draw its weights anew, .*start from those"):
        fresh_weights(nn.Sequential(copy.deepcopy(victim), Weighing()))


def test_a_fresh_start_is_noted_and_the_other_is_not(victim, data):
    given = {"low": 0.0, "high": 1.0, "seed": 0}
    fresh, trained = (replace(BRIEF, start=start).harden(victim, *data, **given) for start in ("fresh", "trained"))
    assert [any("drawn anew" in note for note in made.certificate.notes) for made in (fresh, trained)] == [True, False]
    assert fresh.certificate.hardened != trained.certificate.hardened
    assert fresh.certificate.original == trained.certificate.original


def test_a_network_of_ours_stands_behind_the_front_of_the_one_it_replaces(victim, data, tmp_path):
    method = replace(BRIEF, architecture="small", epsilon=0.01)
    certificate, _ = harden(
        victim,
        {"train": data[0], "selection": data[1]},
        tmp_path / "out",
        method,
        low=0.0,
        high=1.0,
        prepare=Preparation(mean=(0.5,), std=(0.25,)),
    )
    weights = torch.load(tmp_path / "out" / "weights.pt", weights_only=True)
    x = torch.from_numpy(data[1].inputs)
    ours = certified_network((x - 0.5) / 0.25, 2).eval()
    ours.load_state_dict(weights)
    with torch.no_grad():
        expected = ours((x - 0.5) / 0.25).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    np.testing.assert_allclose(session.run(["scores"], {"input": data[1].inputs})[0], expected, atol=1e-4)
    assert any("a network of Medward's, small, was trained" in note for note in certificate.notes)


def test_tables_have_a_network_of_ours_too():
    torch.manual_seed(1)
    x = torch.randn(300, 4) * torch.tensor([1.0, 100.0, 0.01, 1.0]) + torch.tensor([0.0, 500.0, 0.0, 3.0])
    split = Split(x.numpy(), (x[:, 1] > 500).long().numpy())
    network = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    method = replace(BRIEF, architecture="small", epsilon=0.1, training=replace(BRIEF.training, epochs=20))
    made = method.harden(network, split.take(slice(0, 200)), split.take(slice(200, 300)), low=None, high=None, seed=0)
    assert made.certificate.after.clean > 0.9
    assert made.certificate.certified_shares[1].after > 0.7


def test_large_images_are_averaged_down_first():
    assert not any(isinstance(each, nn.AvgPool2d) for each in certified_network(torch.rand(2, 1, 28, 28), 2))
    large = certified_network(torch.rand(2, 3, 224, 224), 4, width=2)
    (pool,) = (each for each in large if isinstance(each, nn.AvgPool2d))
    assert pool.kernel_size == [7, 7]
    assert large(torch.rand(5, 3, 224, 224)).shape == (5, 4)
    with pytest.raises(MedwardError, match=r"ours take rows of one to four axes, got \(1, 2, 3, 4, 5\)"):
        certified_network(torch.rand(2, 1, 2, 3, 4, 5), 2)
