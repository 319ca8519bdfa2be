from __future__ import annotations

import numpy as np
import pytest
from support.release import ReleaseLevels

from medward.guard.errors import MedwardError
from medward.guard.release.quantise import LEAST_ROWS, Prototypes
from medward.guard.release.scores import largest_classes
from medward.guard.types import Level


@pytest.fixture(scope="module")
def benign():
    return np.random.default_rng(0).dirichlet([0.3, 0.5, 0.4, 0.6], 600)


def nearest(book, rows):
    return book.nearest(rows, largest_classes(rows))


def error(book, rows):
    return float(((nearest(book, rows) - rows) ** 2).sum(axis=1).mean())


def test_more_codes_say_more(benign):
    errors = [error(Prototypes.fit(benign, size), benign) for size in (1, 4, 16)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_every_class_has_its_codes_and_no_more_than_asked(benign):
    owners = Prototypes.fit(benign, 6).codes.argmax(axis=1)
    assert sorted(set(owners)) == [0, 1, 2, 3]
    assert np.bincount(owners).max() <= 6


def test_what_leaves_is_a_code_the_closest_of_its_class(benign):
    book = Prototypes.fit(benign, 6)
    rows = benign[:50]
    for row, released in zip(rows, nearest(book, rows), strict=True):
        own = book.codes[book.codes.argmax(axis=1) == row.argmax()]
        assert released.tolist() in own.tolist()
        assert ((released - row) ** 2).sum() == pytest.approx(((own - row) ** 2).sum(axis=1).min())


def test_a_code_hides_any_single_row(benign):
    rows = np.concatenate([np.tile([[0.8, 0.2, 0.0, 0.0]], (LEAST_ROWS, 1)), [[0.4, 0.3, 0.2, 0.1]]])
    for size in (1, 2, 8):
        apart = np.abs(Prototypes.fit(rows, size).codes[:, None] - rows).sum(axis=2)
        assert apart[:, -1].min() > 0.1


def test_a_class_seen_too_rarely_and_a_tie_get_a_label_only():
    rows = np.array([[0.9, 0.1, 0.0]] * LEAST_ROWS + [[0.1, 0.8, 0.1]] * (LEAST_ROWS - 1))
    released = nearest(Prototypes.fit(rows, 3), np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.45, 0.45, 0.1]]))
    assert np.isnan(released).all(axis=1).tolist() == [False, True, True]


def test_noise_within_a_cell_averages_to_nothing_new(benign):
    # Negative control: the same noise does recover rounded scores to far below their unit.
    book, rng = Prototypes.fit(benign, 2), np.random.default_rng(1)
    truth = book.codes[0] + [0.0137, -0.0137, 0, 0]
    noisy = truth + rng.normal(0, 0.01, (400, 4)) * [1, 0, 0, -1]
    assert len(np.unique(nearest(book, noisy), axis=0)) == 1
    rounded = ReleaseLevels(output="probabilities").release(noisy, Level.ROUNDED)
    assert abs(rounded.mean(axis=0)[0] - truth[0]) < 0.002


def test_arrays_read_back_the_same_and_fitting_is_deterministic(benign):
    book = Prototypes.fit(benign, 5)
    np.testing.assert_array_equal(Prototypes.from_arrays(book.arrays()).codes, Prototypes.fit(benign, 5).codes)


@pytest.mark.parametrize("codes", [[[0.5, 0.5]], [[np.nan, 1.0]], [[-0.1, 1.1]], [0.2, 0.8]])
def test_arrays_that_are_no_codes_are_refused(codes):
    with pytest.raises(MedwardError, match="protect the model again"):
        Prototypes.from_arrays({"codes": np.array(codes)})


def test_the_level_codes_needs_a_codebook():
    with pytest.raises(MedwardError, match="no codebook"):
        ReleaseLevels(output="probabilities").release(np.array([[0.6, 0.4]]), Level.CODES)
