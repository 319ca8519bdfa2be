"""Copies within a split and across two, beside rows that repeat by nature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.data.overlap import Overlap, distinct_rows, measure_overlap, repeats_by_nature
from medward.guard.data.split import Split


def natural(inputs):
    first, counts = distinct_rows(inputs)
    return repeats_by_nature(inputs[first], counts)


def yes_no(n, answers, seed=0, share=0.5):
    return (np.random.default_rng(seed).random((n, answers)) < share).astype(np.float32)


def alike(n, seed=0):
    """Ten answers that mostly agree."""
    rng = np.random.default_rng(seed)
    return ((rng.random((n, 1)) < 0.5) ^ (rng.random((n, 10)) < 0.1)).astype(np.float32)


def one_hot(n, questions, levels, seed=0):
    chosen = np.random.default_rng(seed).integers(0, levels, (n, questions))
    return np.eye(levels, dtype=np.float32)[chosen].reshape(n, -1)


def measured(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 10)).astype(np.float32)


def images(n, seed=0):
    return np.kron(np.random.default_rng(seed).random((n, 1, 8, 8)), np.ones((3, 3))).astype(np.float32)


def drawn(rows, n, seed=1):
    """Rows chosen again and again, as one balances classes."""
    return rows[np.random.default_rng(seed).integers(0, len(rows), n)]


DISCRETE = {
    "five answers": yes_no(400, 5),
    "eight answers": yes_no(800, 8),
    "rare answers": yes_no(800, 8, share=0.05),
    "one answer": yes_no(400, 1),
    "answers that go together": alike(800),
    "one of thirty": one_hot(800, 1, 30),
    "three of two": one_hot(800, 3, 2),
    "five of four": one_hot(800, 5, 4),
    "ages": np.random.default_rng(0).integers(20, 90, (800, 1)).astype(np.float32),
}
COPIED = {
    "measured thrice": np.repeat(measured(200), 3, axis=0),
    "measured twice": np.repeat(measured(200), 2, axis=0),
    "measured, drawn again": drawn(measured(200), 800),
    "one measured among answers": drawn(np.column_stack([measured(200)[:, :1], yes_no(200, 6)]), 800),
    "images twice": np.repeat(images(150), 2, axis=0),
    "images drawn again": drawn(images(150), 500),
    "five answers thrice": np.repeat(yes_no(133, 5), 3, axis=0),
    "eight answers twice": np.repeat(yes_no(266, 8), 2, axis=0),
    "ages thrice": np.repeat(DISCRETE["ages"][:266], 3, axis=0),
    "seventeen times": np.repeat(one_hot(60, 5, 4), 17, axis=0),
    "some of them nine times": np.concatenate([one_hot(200, 6, 4), np.repeat(one_hot(100, 6, 4, seed=1), 9, axis=0)]),
    "nine measured, drawn again": drawn(measured(9), 500),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_rows_of_few_answers_repeat_by_nature(name):
    assert natural(DISCRETE[name])


@pytest.mark.parametrize("name", COPIED)
def test_copies_do_not(name):
    assert not natural(COPIED[name])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 30), answers=st.integers(1, 9), share=st.floats(0.1, 0.9))
def test_independent_draws_are_hardly_ever_taken_for_copies(seed, answers, share):
    assert natural(yes_no(500, answers, seed, share))


def test_a_patient_s_equal_rows_count_once():
    rows, patients = np.repeat(measured(50), 4, axis=0), np.repeat(np.arange(50), 4)
    first, counts = distinct_rows(rows, patients)
    assert (len(first), set(counts)) == (50, {1})
    assert set(distinct_rows(rows)[1]) == {4}


@pytest.mark.parametrize("make", [measured, images])
def test_copies_across_splits_are_counted_and_fresh_rows_are_not(make):
    train, fresh = make(400), make(300, seed=1)
    assert measure_overlap(Split(train), Split(fresh)) == Overlap()
    mixed = fresh.copy()
    mixed[:210] = drawn(train, 210)
    found = measure_overlap(Split(train), Split(mixed))
    assert found == Overlap(copies=0.7)
    assert found.sentence("train", "holdout") == "70% of the rows of holdout are copies of rows that are also in train"
    assert measure_overlap(Split(train), Split(train[::-1])).copies == 1.0


def test_two_draws_of_few_answers_share_rows_by_nature_and_copies_beyond_that_are_seen():
    train, fresh = yes_no(400, 12), yes_no(400, 12, seed=1)
    assert measure_overlap(Split(train), Split(fresh)) == Overlap()
    assert measure_overlap(Split(yes_no(400, 5)), Split(yes_no(300, 5, seed=1))) == Overlap()
    fresh[:280] = train[:280]
    assert measure_overlap(Split(train), Split(fresh)).copies > 0.7
    assert measure_overlap(Split(yes_no(400, 5)), Split(yes_no(400, 5))).copies == 1.0, "the same file twice"


def test_copies_are_seen_although_train_was_augmented_with_copies_of_its_own():
    train = np.repeat(measured(200), 3, axis=0)
    assert measure_overlap(Split(train), Split(measured(200))).copies == 1.0


def test_a_few_copies_are_an_accident():
    train, fresh = measured(400), measured(400, seed=1)
    fresh[:4] = train[:4]
    assert measure_overlap(Split(train), Split(fresh)) == Overlap()


def greyer(x):
    return x + np.float32(1 / 255)


def coded_again(x):
    return np.round(x * 60) / np.float32(60)


@pytest.mark.parametrize("change", [greyer, coded_again])
def test_images_that_were_encoded_again_are_near_copies(change):
    train, fresh = images(400), images(300, seed=1)
    fresh[:150] = change(train[:150])
    found = measure_overlap(Split(train), Split(fresh))
    assert found.copies == 0
    assert 0.45 < found.near <= 0.55
    assert "near copies of images" in found.sentence("train", "test")


def test_patients_in_two_splits_are_counted_where_they_are_known():
    one, other = Split(measured(100), None, np.arange(100)), Split(measured(50, 1), None, np.arange(90, 140))
    assert measure_overlap(one, other) == Overlap(patients=0.2)
    assert (
        measure_overlap(one, other).sentence("train", "test")
        == "20% of the rows of test are of patients who are also in train"
    )
    assert measure_overlap(one, Split(measured(50, 1))) == Overlap()
    assert Overlap().sentence("train", "test") == ""
