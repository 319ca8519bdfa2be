"""The blind gate fires when members and non-members differ without a model, and seldom otherwise.

It reads a 95 % interval, so about one fair split in forty fires; seeds here are of fair splits that do not.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer

from medward.attacks.candidates.blind import blind_flags, blind_scores, row_statistics
from medward.attacks.intervals import auc
from medward.attacks.membership import LossThreshold
from medward.guard.data.split import Split

HALF = np.arange(200) < 100


def flags(rows, truth, seed=0):
    return blind_flags(blind_scores(rows, truth, seed=seed), rows, truth, seed=seed)


def shuffled(seed):
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))[:200]
    return Split(x[order].astype(np.float32), y[order].astype(np.int64))


def test_splits_by_a_coin_flip_seldom_fire():
    assert sum(bool(flags(shuffled(seed), HALF)) for seed in range(6)) <= 1


def test_a_shift_in_one_column_fires():
    rows = shuffled(0)
    shifted = rows.inputs.copy()
    shifted[HALF, 3] *= 1.5
    (flag,) = flags(Split(shifted, rows.labels), HALF)
    assert flag.startswith("INVALID-SHIFT: members and non-members differ without the model (blind AUC 0.")


def test_a_shift_in_the_labels_fires():
    rows = shuffled(0)
    order = np.argsort(rows.labels, kind="stable")
    assert flags(Split(np.zeros((200, 2), np.float32), rows.labels[order]), HALF)


def test_another_scanner_fires():
    rng = np.random.default_rng(1)
    images = rng.random((200, 1, 12, 10)).astype(np.float32)
    assert not flags(Split(images), HALF)
    images[HALF] = images[HALF] * 0.9 + 0.02
    assert flags(Split(images), HALF)


def test_one_patient_with_many_rows_is_not_a_shift():
    """Forty rows of one patient per side are alike; told apart by patient there is nothing to see."""
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(10), 20)
    rows = Split(rng.normal(size=(10, 3))[patients].astype(np.float32), None, patients)
    assert flags(Split(rows.inputs), HALF)
    assert not flags(rows, HALF)


def test_the_interval_counts_patients():
    patients = np.repeat(np.arange(10), 20)
    scores = np.repeat([0.9, 0.2, 0.6, 0.5, 0.8, 0.7, 0.3, 0.4, 0.5, 0.1], 20)
    truth = patients % 2 == 0
    rows = np.zeros((200, 1), np.float32)
    assert blind_flags(scores, Split(rows), truth, seed=0)
    assert not blind_flags(scores, Split(rows, None, patients), truth, seed=0)


def test_too_few_candidates_are_not_judged():
    truth = np.arange(8) < 4
    assert not blind_scores(Split(np.arange(8.0)[:, None]), truth, seed=0).any()


def test_image_statistics_are_finite_and_see_the_label():
    images = np.random.default_rng(0).random((3, 2, 5, 40))
    with_labels = row_statistics(Split(images, np.array([0, 1, 2])))
    assert np.isfinite(with_labels).all()
    np.testing.assert_array_equal(with_labels[:, -1], [0, 1, 2])


def test_an_attack_carries_the_flag_and_the_blind_scores(coin_flip, target_of):
    brighter = Split(coin_flip.members.inputs * 0.8, coin_flip.members.labels)
    data = type(coin_flip)(
        craft=coin_flip.craft, test=coin_flip.test, members=brighter, nonmembers=coin_flip.nonmembers
    )
    flat = target_of(lambda inputs: np.zeros((len(inputs), 10)))
    result = LossThreshold().run(flat, data, seed=0)
    assert auc(result.outcome, result.truth) == 0.5
    assert auc(result.baseline, result.truth) > 0.8
    assert any("differ without the model" in flag for flag in result.flags)


def test_an_axis_of_length_one_has_no_neighbours_along_it():
    for shape in ((12, 1, 50), (1, 50, 1), (3, 1, 1)):
        images = np.random.default_rng(0).random((60, *shape)).astype(np.float32)
        seen = row_statistics(Split(images))
        assert np.isfinite(seen).all()
        assert seen.std(axis=0).max() > 0
