"""The extractor is fixed and named; synthetic rows teach what they hold, and shuffled labels teach nothing."""

from dataclasses import replace

import numpy as np
import pytest
from support.federated_images import spotted_images

from medward.attacks.poisoning.metrics.domain_extractor import train_extractor
from medward.attacks.poisoning.metrics.frechet_distance import frechet_distance
from medward.attacks.poisoning.metrics.real_floor import real_floor
from medward.attacks.poisoning.metrics.train_on_synthetic import few_real_curve, rows_of_each_class, train_on_synthetic
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError

HELD_OUT, TEST = spotted_images(96, 1), spotted_images(200, 2)


@pytest.fixture(scope="module")
def extractor():
    return train_extractor(HELD_OUT, 0, epochs=4)


def test_the_extractor_is_the_same_for_a_seed_and_another_for_another(extractor):
    again, other = train_extractor(HELD_OUT, 0, epochs=4), train_extractor(HELD_OUT, 1, epochs=4)
    assert extractor.digest == again.digest != other.digest
    assert np.array_equal(extractor.features(TEST.inputs), again.features(TEST.inputs))
    assert extractor.digest[:12] in extractor.label
    assert extractor.label.startswith("domain FID (64-d")


def test_features_do_not_depend_on_the_other_images(extractor):
    whole = extractor.features(TEST.inputs)
    assert whole.shape == (200, 64)
    assert np.allclose(extractor.features(TEST.inputs[:7]), whole[:7], atol=1e-5)


def test_features_tell_broken_images_from_real_ones(extractor):
    real = extractor.features(TEST.inputs)
    floor = real_floor(frechet_distance, real, seed=0)
    fresh = frechet_distance(real[:100], extractor.features(spotted_images(100, 9).inputs))
    broken = frechet_distance(real[:100], extractor.features(1 - TEST.inputs[100:]))
    assert fresh < floor.mean + 5 * floor.deviation < broken


def test_an_extractor_of_one_class_is_refused():
    with pytest.raises(MedwardError, match="2 classes or more, got 1"):
        train_extractor(HELD_OUT.take(np.flatnonzero(HELD_OUT.labels == 0)), 0)


def test_synthetic_rows_teach_what_they_hold_and_shuffled_labels_do_not():
    good = train_on_synthetic(spotted_images(96, 3), TEST, seed=0, steps=40)
    rows = spotted_images(96, 3)
    shuffled = replace(rows, labels=np.random.default_rng(0).permutation(rows.labels))
    bad = train_on_synthetic(shuffled, TEST, seed=0, steps=40)
    assert good.accuracy > 0.95
    assert abs(bad.balanced - 0.5) < 0.3


def test_few_real_rows_help_where_synthetic_ones_teach_the_opposite():
    wrong = spotted_images(16, 4)
    wrong = replace(wrong, labels=1 - wrong.labels)
    points = few_real_curve(spotted_images(200, 5), wrong, TEST, [0, 48], seed=0, steps=40)
    assert [point.real_per_class for point in points] == [0, 48]
    assert points[0].alone is None
    assert points[0].with_synthetic.accuracy < 0.2
    assert points[1].alone.accuracy > 0.9
    assert points[1].with_synthetic.accuracy > points[0].with_synthetic.accuracy + 0.3


def test_fewer_rows_are_among_more():
    labels = np.array([0, 1] * 10)
    few, more = rows_of_each_class(labels, 2, 3), rows_of_each_class(labels, 5, 3)
    assert set(few) < set(more)
    assert np.bincount(labels[few]).tolist() == [2, 2]
    with pytest.raises(MedwardError, match="11 of each class are asked for, and one has 10"):
        rows_of_each_class(labels, 11, 3)


def test_too_few_rows_to_learn_from_are_refused():
    with pytest.raises(MedwardError, match="needs 8 rows or more"):
        train_on_synthetic(Split(TEST.inputs[:4], TEST.labels[:4]), TEST, seed=0)
