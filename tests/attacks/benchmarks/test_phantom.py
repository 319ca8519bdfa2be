"""The phantom: repeatable, balanced, and a finding that must be looked for."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.attacks.benchmarks.victims import accuracy, predict_labels, train_victim
from medward.guard.data.split import Split


@pytest.mark.parametrize("size", [32, 64])
def test_images_are_bounded_repeatable_and_all_different(size):
    images, labels = draw_phantoms(40, size=size, seed=2)
    assert images.shape == (40, 1, size, size)
    assert images.dtype == np.float32
    assert 0 <= images.min() < 0.1
    assert 0.9 < images.max() <= 1
    assert np.bincount(labels).tolist() == [20, 20]
    assert np.array_equal(images, draw_phantoms(40, size=size, seed=2)[0])
    assert not np.array_equal(images, draw_phantoms(40, size=size, seed=3)[0])
    assert len({image.tobytes() for image in images}) == 40


def test_lungs_are_darker_than_the_mediastinum():
    images = draw_phantoms(60, seed=0)[0][:, 0]
    lungs = np.concatenate([images[:, 24:36, 16:24], images[:, 24:36, 42:50]], axis=2)
    assert (lungs.mean((1, 2)) < images[:, 24:36, 30:34].mean((1, 2)) - 0.1).all()


def test_brightness_alone_does_not_give_the_class_away():
    images, labels = draw_phantoms(600, seed=1)
    assert abs(roc_auc_score(labels, images.mean((1, 2, 3))) - 0.5) < 0.1


@pytest.mark.slow
def test_a_small_network_learns_the_finding_where_a_linear_model_on_pixels_does_not():
    images, labels = draw_phantoms(1200, size=32, seed=4)
    data = Split(images, labels)
    splits = {"train": data.take(slice(0, 800)), "selection": data.take(slice(800, 900))}
    test = data.take(slice(900, None))
    task = BenchmarkTask(
        name="phantom-32",
        modality="image",
        shape=(1, 32, 32),
        low=0.0,
        high=1.0,
        classes=("clear", "opacity"),
        splits=splits,
        source="",
    )
    victim = train_victim(task, epochs=12, seed=0)
    linear = LogisticRegression(C=1e-3, max_iter=1000).fit(images[:800].reshape(800, -1), labels[:800])
    learned = accuracy(test.labels, predict_labels(victim, test.inputs))[0]
    assert learned > 0.75
    assert learned > linear.score(test.inputs.reshape(300, -1), test.labels)
