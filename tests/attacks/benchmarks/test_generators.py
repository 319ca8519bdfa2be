"""Generators and the classifier under federated training: repeatable, in range, better after learning."""

import numpy as np
import pytest
import torch
from support.federated_images import spotted_images

from medward.attacks.benchmarks.federated_classifier import FederatedClassifier
from medward.attacks.benchmarks.generators.diffusion import ConditionalDiffusion
from medward.attacks.benchmarks.generators.gan import ConditionalGan
from medward.guard.errors import MedwardError

SMALL = {"channels": 1, "size": 16, "classes": 2, "batch": 16}
GAN = ConditionalGan(**SMALL, width=8)
DIFFUSION = ConditionalDiffusion(**SMALL, width=8, times=50, steps=5, rate=4e-3)
CLASSIFIER = FederatedClassifier(**SMALL, rate=3e-3)
ROWS, LABELS = spotted_images(48, 0), np.arange(6) % 2


@pytest.mark.parametrize("model", [GAN, DIFFUSION, CLASSIFIER], ids=lambda each: each.name)
def test_the_same_seed_gives_the_same_arrays_and_another_gives_others(model):
    start = model.initial(3)
    kept = [array.copy() for array in start]
    torch.manual_seed(1)
    first = model.learn(start, ROWS, None, 5)
    torch.manual_seed(2)  # what else is drawn does not matter
    again, other = model.learn(start, ROWS, None, 5), model.learn(start, ROWS, None, 6)
    assert all(map(np.array_equal, first.parameters, again.parameters))
    assert first.metrics == again.metrics
    assert not all(map(np.array_equal, first.parameters, other.parameters))
    assert all(map(np.array_equal, start, kept))
    assert [(a.shape, a.dtype) for a in first.parameters] == [(a.shape, a.dtype) for a in start]
    assert all(map(np.array_equal, start, model.initial(3)))
    assert not all(map(np.array_equal, start, model.initial(4)))


@pytest.mark.parametrize("model", [GAN, DIFFUSION], ids=lambda each: each.name)
def test_images_are_in_range_and_follow_their_noise_and_their_class(model):
    parameters = model.learn(model.initial(0), ROWS, None, 0).parameters
    images = model.images(parameters, LABELS, 7)
    assert images.shape == (6, 1, 16, 16)
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.array_equal(images, model.images(parameters, LABELS, 7))
    assert not np.array_equal(images, model.images(parameters, LABELS, 8))
    assert not np.array_equal(images, model.images(parameters, 1 - LABELS, 7))


@pytest.mark.parametrize("model", [DIFFUSION, CLASSIFIER], ids=lambda each: each.name)
def test_learning_lowers_the_loss(model):
    parameters, losses = model.initial(0), []
    for seed in range(6):
        learned = model.learn(parameters, ROWS, None, seed)
        parameters = learned.parameters
        losses.append(learned.metrics["mean-loss"])
    assert losses[-1] < 0.6 * losses[0]
    assert learned.memory is None


def test_a_gan_comes_near_its_rows_and_keeps_its_discriminator():
    model = ConditionalGan(**{**SMALL, "batch": 8}, width=8, rate=1e-3, epochs=8)
    start = model.initial(0)
    first = model.learn(start, ROWS, None, 0)
    second = model.learn(first.parameters, ROWS, first.memory, 1)
    fresh = model.learn(first.parameters, ROWS, None, 1)
    real = ROWS.inputs.mean(axis=0)
    far, near = (
        np.abs(model.images(each, np.arange(64) % 2, 0).mean(axis=0) - real).mean()
        for each in (start, second.parameters)
    )
    assert near < 0.3 * far
    assert second.metrics != fresh.metrics  # the memory matters
    assert set(second.metrics) == {"loss", "mean-loss"}


def test_a_trained_classifier_decides_and_a_fresh_one_does_not():
    test, parameters = spotted_images(100, 8), CLASSIFIER.initial(0)
    model = FederatedClassifier(**SMALL, rate=3e-3, epochs=12)
    learned = model.learn(parameters, ROWS, None, 0).parameters
    assert (model.decide(learned, test.inputs) == test.labels).mean() > 0.95
    assert abs((model.decide(parameters, test.inputs) == test.labels).mean() - 0.5) < 0.2
    assert model.features(learned, test.inputs).shape == (100, 64)


def test_a_falling_rate_ends_another_way():
    falling = FederatedClassifier(**SMALL, rate=3e-3, falling=True)
    start = CLASSIFIER.initial(0)
    one, other = (each.learn(start, ROWS, None, 0).parameters for each in (CLASSIFIER, falling))
    assert not all(map(np.array_equal, one, other))


@pytest.mark.parametrize("kind", [ConditionalGan, ConditionalDiffusion])
@pytest.mark.parametrize("size", [8, 28])
def test_sides_that_cannot_be_halved_are_refused(kind, size):
    with pytest.raises(MedwardError, match=f"power of two, 16 or more, got {size}"):
        kind(channels=1, size=size, classes=2)


def test_settings_that_cannot_be_built_are_refused():
    with pytest.raises(MedwardError, match="multiple of 8"):
        ConditionalDiffusion(channels=1, size=16, classes=2, width=12)
    with pytest.raises(MedwardError, match="steps from 1 to times"):
        ConditionalDiffusion(channels=1, size=16, classes=2, times=10, steps=11)
    with pytest.raises(MedwardError, match="batch: must be 8 or more"):
        FederatedClassifier(channels=1, size=16, classes=2, batch=4)
    with pytest.raises(MedwardError, match="needs 8 rows or more"):
        CLASSIFIER.learn(CLASSIFIER.initial(0), ROWS.take(slice(0, 7)), None, 0)
