"""Slices: the same rows stand for the same parts, however a sequence is padded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.membership.multimodal.slices import SLICE_NAMES, find_slices
from medward.guard.errors import MedwardError

IDS = np.array([1, 99, 99, 99, 5, 6, 7, 8, 9])


def test_rows_are_those_before_a_word_and_those_of_the_image_itself():
    found = find_slices(IDS, 99, 3, special=(1,))
    assert found["image"].rows.tolist() == [1, 2, 3]
    assert found["image"].tokens.size == 0
    assert (found["instruction"].rows.tolist(), found["instruction"].tokens.tolist()) == ([3, 4], [5, 6])
    assert (found["description"].rows.tolist(), found["description"].tokens.tolist()) == ([5, 6, 7], [7, 8, 9])


def test_a_word_before_the_image_belongs_to_the_instruction_but_nothing_predicts_the_first():
    found = find_slices(np.array([4, 5, 99, 6, 7]), 99, 1)
    assert found["instruction"].tokens.tolist() == [5, 6]
    assert found["instruction"].rows.tolist() == [0, 2]
    assert not find_slices(np.array([99, 7]), 99, 1)["instruction"].rows.size


@given(st.integers(0, 5), st.integers(0, 5))
def test_padding_moves_rows_and_changes_nothing_else(left, right):
    padded = np.concatenate([np.zeros(left, int), IDS, np.zeros(right, int)])
    mask = np.concatenate([np.zeros(left, bool), np.ones(len(IDS), bool), np.zeros(right, bool)])
    plain, found = find_slices(IDS, 99, 3, special=(1,)), find_slices(padded, 99, 3, special=(1,), mask=mask)
    for name in SLICE_NAMES:
        np.testing.assert_array_equal(found[name].rows, plain[name].rows + left)
        np.testing.assert_array_equal(found[name].tokens, plain[name].tokens)


def test_unmasked_padding_would_be_read_as_words():
    """The negative control: without the mask the padding counts as the description."""
    padded = np.concatenate([IDS, np.zeros(3, int)])
    assert find_slices(padded, 99, 3)["description"].tokens.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("image", "described", "says"), [(98, 3, "image token"), (99, 6, "after"), (99, 20, "after")])
def test_a_sequence_without_these_parts_is_refused(image, described, says):
    with pytest.raises(MedwardError, match=says):
        find_slices(IDS, image, described)
