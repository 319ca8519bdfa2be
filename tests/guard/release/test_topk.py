from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.release import ReleaseLevels

from medward.guard.release.topk import spread_rest
from medward.guard.types import Level

LOGITS = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12), elements=st.floats(-9, 9)
)
NAN = np.nan


def top(scores, k, output="probabilities"):
    return ReleaseLevels(output=output, top=k).release(np.asarray(scores, np.float64), Level.TOP)


def test_the_largest_leave_rounded_and_the_others_are_nan():
    np.testing.assert_array_equal(top([[0.101, 0.6, 0.05, 0.249]], 2), [[NAN, 0.6, NAN, 0.25]])


def test_all_that_tie_for_the_first_place_leave():
    np.testing.assert_array_equal(top([[0.3, 0.3, 0.3, 0.1]], 1), [[0.3, 0.3, 0.3, NAN]])


def test_classes_that_tie_for_the_last_place_leave_in_the_models_order():
    np.testing.assert_array_equal(top([[0.1, 0.7, 0.1, 0.1]], 2), [[0.1, 0.7, NAN, NAN]])


@given(scores=LOGITS, k=st.integers(1, 12))
def test_k_values_leave_none_smaller_than_a_hidden_one_and_all_as_rounded(scores, k):
    released = top(scores, k, "logits")
    rounded = ReleaseLevels(output="logits").release(scores, Level.ROUNDED)
    shown = ~np.isnan(released)
    np.testing.assert_array_equal(released[shown], rounded[shown])
    assert (shown.sum(axis=1) >= min(k, scores.shape[1])).all()
    for row, mask in zip(rounded, shown, strict=True):
        assert row[mask].min() >= row[~mask].max(initial=0.0)


@given(scores=LOGITS, k=st.integers(1, 12))
def test_a_clients_guess_at_the_rest_is_whole_and_no_larger_than_what_it_saw(scores, k):
    released = top(scores, k, "logits")
    guess = spread_rest(released)
    assert np.isfinite(guess).all()
    assert (guess.argmax(axis=1) == scores.argmax(axis=1)).all()
    for row, before in zip(guess, released, strict=True):
        assert row[np.isnan(before)].max(initial=0.0) <= np.nanmin(before)


def test_a_guess_adds_nothing_to_rows_that_are_whole_or_empty():
    rows = np.array([[0.6, 0.4], [NAN, NAN]])
    np.testing.assert_array_equal(spread_rest(rows), rows)
    np.testing.assert_allclose(spread_rest(np.array([[0.6, NAN, NAN]])), [[0.6, 0.2, 0.2]])


def test_a_guess_is_never_below_nothing_and_a_sure_class_stays_the_largest():
    guess = spread_rest(np.array([[1.0, 0.0, 0.0, NAN], [NAN, 0.0, 0.0, 1.0]]))
    np.testing.assert_array_equal(guess, [[1, 0, 0, 0], [0, 0, 0, 1]])
    assert not np.signbit(guess).any()


def test_a_guess_never_ties_with_what_was_shown():
    ten_tie = np.array([[NAN, *[0.09] * 10]])
    assert spread_rest(ten_tie).argmax(axis=1) == [1]
