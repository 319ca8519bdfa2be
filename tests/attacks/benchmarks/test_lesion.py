"""The drawn lesions: repeatable, unequal in number, and told apart by more than their mean colour."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.datasets.lesion import CLASSES, TRAITS, draw_lesions
from medward.attacks.benchmarks.victims import accuracy, predict_labels, train_victim
from medward.guard.data.split import Split


@pytest.mark.parametrize("size", [32, 64])
def test_images_are_bounded_repeatable_and_all_different(size):
    images, labels = draw_lesions(60, size=size, seed=2)
    assert images.shape == (60, 3, size, size)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    again = draw_lesions(60, size=size, seed=2)
    assert np.array_equal(images, again[0])
    assert np.array_equal(labels, again[1])
    assert not np.array_equal(images, draw_lesions(60, size=size, seed=3)[0])
    assert len({image.tobytes() for image in images}) == 60


def test_classes_are_as_frequent_as_the_table_says():
    counts = np.bincount(draw_lesions(400, size=16, seed=1)[1])
    assert np.allclose(counts / 400, list(CLASSES.values()), atol=0.01)
    assert counts[0] > 8 * counts[-1]
    assert sum(CLASSES.values()) == pytest.approx(1)
    assert {len(ranges) for ranges in TRAITS.values()} == {len(CLASSES)}


@pytest.mark.slow
def test_a_small_network_learns_what_mean_colour_does_not_tell():
    images, labels = draw_lesions(1500, size=32, seed=4)
    data = Split(images, labels)
    test = data.take(slice(1100, None))
    task = BenchmarkTask(
        name="lesion-32",
        modality="image",
        shape=(3, 32, 32),
        low=0.0,
        high=1.0,
        classes=tuple(CLASSES),
        splits={"train": data.take(slice(0, 1000)), "selection": data.take(slice(1000, 1100))},
        source="",
    )
    victim = train_victim(task, epochs=8, seed=0)
    colour = StandardScaler().fit_transform(images.mean((2, 3)))
    linear = LogisticRegression(class_weight="balanced", max_iter=1000).fit(colour[:1000], labels[:1000])
    learned = accuracy(test.labels, predict_labels(victim, test.inputs))[1]
    assert learned > 0.5
    assert learned > accuracy(test.labels, linear.predict(colour[1100:]))[1] + 0.05
