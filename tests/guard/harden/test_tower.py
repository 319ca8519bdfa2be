"""A tower is trained to see a changed image as it saw it before, and what writes is left as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.report_networks import VOCABULARY, encoder_decoder, llava_writer

from medward.guard.errors import MedwardError
from medward.guard.harden.robust.tower import TowerTraining, feature_distances
from medward.guard.harden.robust.training import Training
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport

WRITERS = {"encoder-decoder": encoder_decoder, "llava": llava_writer}
QUICK = TowerTraining(epsilon=0.1, steps=3, training=Training(epochs=25, batch=10, rate=3e-3, augment=None))
COARSE = np.random.default_rng(0).random((60, 1, 4, 4))
IMAGES = np.kron(COARSE, np.ones((1, 1, 4, 4))).astype(np.float32)
TRAIN, SELECTION = IMAGES[:40], IMAGES[40:]
SPEC = ModelSpec(
    name="writer",
    modality="image",
    shape=(1, 16, 16),
    task=WrittenReport(findings=("effusion",), length=8, vocabulary=VOCABULARY),
    low=0.0,
    high=1.0,
)


def calm(kind):
    """A writer of random weights, those of its tower made smaller, for the usual ones shatter every gradient."""
    writer = WRITERS[kind]()
    with torch.no_grad():
        for weight in writer.tower.parameters():
            weight.mul_(0.3 if weight.ndim > 1 else 1)
    return writer


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.fixture(scope="module", params=WRITERS)
def hardened(request):
    writer = calm(request.param)
    before = weights(writer.network)
    return writer, before, QUICK.harden(writer, SPEC, TRAIN, SELECTION, seed=0)


def test_changed_images_are_seen_nearer_to_what_they_were(hardened):
    _, _, made = hardened
    assert made.before.clean == 0
    assert made.after.attacked < 0.7 * made.before.attacked
    assert made.after.clean < 1  # what tells images apart is still there
    assert 1 <= made.epoch <= made.epochs == QUICK.training.epochs


def test_only_the_tower_of_a_copy_is_trained(hardened):
    writer, before, made = hardened
    for name, value in weights(writer.network).items():
        assert torch.equal(value, before[name]), name
    tower = {id(each) for each in made.writer.tower.parameters()}
    moved = [not torch.equal(value, before[name]) for name, value in made.writer.network.named_parameters()]
    inside = [id(value) in tower for value in made.writer.network.parameters()]
    assert any(moved)
    assert all(within or not changed for changed, within in zip(moved, inside, strict=True))
    assert made.writer.vocabulary == writer.vocabulary


def test_training_on_unchanged_images_alone_brings_nothing():
    writer = calm("encoder-decoder")
    made, idle = (
        replace(QUICK, epsilon=epsilon).harden(writer, SPEC, TRAIN, SELECTION, seed=0) for epsilon in (0.1, 1e-6)
    )
    x = torch.from_numpy(SELECTION)
    noise = 0.1 * (torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    with torch.no_grad():
        moved = {
            name: float((each.vision_states((x + noise).clamp(0, 1)) - writer.vision_states(x)).square().sum())
            for name, each in {"idle": idle.writer, "hardened": made.writer}.items()
        }
    assert moved["hardened"] < 0.8 * moved["idle"]


def test_the_same_seed_gives_the_same_weights():
    quick = replace(QUICK, training=replace(QUICK.training, epochs=1))
    first, again = (quick.harden(calm("encoder-decoder"), SPEC, TRAIN, SELECTION, seed=3) for _ in range(2))
    for name, value in weights(first.writer.network).items():
        assert torch.equal(value, again.writer.network.state_dict()[name]), name


def test_distances_are_shares_of_the_spread():
    seen = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    assert feature_distances(seen, torch.zeros(2, 1, 2), torch.tensor(10.0)).tolist() == [0.5, 0.0]


def test_what_cannot_be_trained_on_is_refused():
    writer = encoder_decoder()
    with pytest.raises(MedwardError, match="train: needs at least 20 images, got 4"):
        QUICK.harden(writer, SPEC, TRAIN[:4], SELECTION, seed=0)
    with pytest.raises(MedwardError, match="epsilon: must be a finite number above 0, got 0"):
        replace(QUICK, epsilon=0.0).harden(writer, SPEC, TRAIN, SELECTION, seed=0)
    with pytest.raises(MedwardError):
        QUICK.harden(writer, SPEC, TRAIN[:, :, :8], SELECTION, seed=0)
