"""Each bound against answers that are really given: never below them, and not far above."""

from __future__ import annotations

from itertools import product
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.release import ReleaseLevels

from medward.guard.release.capacity import full_bits, label_bits, rounded_bits, text_bits, top_bits
from medward.guard.release.quantise import Prototypes
from medward.guard.types import Level


def lattice(classes, cells):
    """Every row of `classes` multiples of 1 / cells that sums to 1."""
    rows = [row for row in product(range(cells + 1), repeat=classes - 1) if sum(row) <= cells]
    return np.array([(*row, cells - sum(row)) for row in rows]) / cells


def given_rows(classes, cells, level, **settings):
    """How many different rows leave for a fine lattice of probabilities, and around it."""
    rows = lattice(classes, cells)
    nudged = rows + np.random.default_rng(0).normal(0, 1e-4, rows.shape)
    both = np.clip(np.concatenate([rows, nudged]), 0, None)
    released = ReleaseLevels(output="probabilities", **settings).release(both / both.sum(axis=1, keepdims=True), level)
    return len(np.unique(np.nan_to_num(np.round(released, 6), nan=-1), axis=0))


@pytest.mark.parametrize(
    ("classes", "decimals", "cells", "slack"),
    [(2, 1, 4000, 1.7), (2, 2, 40000, 1.7), (3, 1, 200, 1.0), (3, 2, 400, 1.2), (4, 1, 60, 1.6)],
)
def test_rounded_rows_are_no_more_than_counted_and_not_far_fewer(classes, decimals, cells, slack):
    seen = log2(given_rows(classes, cells, Level.ROUNDED, decimals=decimals))
    assert seen <= rounded_bits(classes, decimals) <= seen + slack


def every_row(classes, units):
    """The rows that rounding to `units` can give, raised winners included, by the proof's own description."""
    rows = set()
    for n in product(range(units + 1), repeat=classes):
        if not units - classes / 2 <= sum(n) <= units + sum(map(bool, n)) / 2:
            continue
        rows.add(n)
        tied = [place for place, value in enumerate(n) if value == max(n)]
        for chosen in product((0, 1), repeat=len(tied)):
            if 0 < sum(chosen) < len(tied):
                raised = dict(zip(tied, chosen, strict=True))
                rows.add(tuple(value + raised.get(place, 0) for place, value in enumerate(n)))
    return rows


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_count_covers_raised_winners_and_is_close(classes):
    exact = log2(len(every_row(classes, 10)))
    assert exact <= rounded_bits(classes, 1) <= exact + 0.6


def test_counting_rows_that_sum_to_one_would_be_too_few():
    # Negative control: rounded rows need not sum to 1.
    assert given_rows(4, 60, Level.ROUNDED, decimals=1) > len(lattice(4, 10))


@pytest.mark.parametrize("top", [1, 2, 3])
def test_top_rows_are_no_more_than_counted(top):
    seen = log2(given_rows(4, 60, Level.TOP, decimals=1, top=top))
    assert seen <= top_bits(4, 1, top) <= seen + 2.5


@given(classes=st.integers(2, 20), decimals=st.integers(1, 6), top=st.integers(1, 20))
def test_a_coarser_level_carries_no_more(classes, decimals, top):
    label, shown = label_bits(classes), top_bits(classes, decimals, top)
    rounded, finer = rounded_bits(classes, decimals), rounded_bits(classes, decimals + 1)
    assert label < shown <= rounded < finer
    if decimals <= 5:
        assert rounded < full_bits(classes)


def test_each_level_is_counted_with_its_settings():
    book = Prototypes.fit(np.random.default_rng(0).dirichlet([1.0] * 4, 400), 4)
    release, scores = ReleaseLevels(output="logits", codebook=book), np.zeros((1, 4), np.float32)
    bits = {level.label: release.bits(scores, level) for level in Level}
    assert list(bits.values()) == sorted(bits.values(), reverse=True)
    assert bits["full"] == 128
    assert release.bits(scores.astype(np.float64), Level.FULL) == 256
    assert bits["codes"] == log2(len(book.codes) + 4)
    assert (bits["label"], bits["withheld"]) == (2, 1)


@given(tokens=st.integers(0, 50), vocabulary=st.integers(1, 300))
def test_texts_up_to_a_length_are_all_counted_within_a_bit(tokens, vocabulary):
    texts = sum(vocabulary**length for length in range(tokens + 1))
    assert log2(texts) <= text_bits(tokens, vocabulary) + 1e-9
    assert text_bits(tokens, vocabulary) <= log2(texts) + 1


@pytest.mark.parametrize("threshold", [0.003, 0.02, 0.0205, 0.5, 0.97])
@pytest.mark.parametrize(("decimals", "cells"), [(1, 2000), (2, 20000)])
@pytest.mark.parametrize(("level", "top"), [(Level.ROUNDED, 3), (Level.TOP, 1), (Level.TOP, 2)])
def test_at_a_threshold_exactly_as_many_answers_leave_as_are_counted(threshold, decimals, cells, level, top):
    rows = lattice(2, cells)
    release = ReleaseLevels(output="probabilities", decimals=decimals, top=top, threshold=threshold)
    released = np.nan_to_num(release.release(rows, level), nan=-1)
    answers = np.unique(np.column_stack([release.labels(rows), released]), axis=0)  # a label leaves beside the scores
    assert log2(len(answers)) == pytest.approx(release.bits(rows, level))


def test_at_a_threshold_codes_and_labels_are_no_more_than_counted():
    rows = lattice(2, 4000)
    book = Prototypes.fit(rows, 4, 0.02)
    release = ReleaseLevels(output="probabilities", codebook=book, threshold=0.02)
    for level in (Level.CODES, Level.LABEL):
        released = np.nan_to_num(release.release(rows, level), nan=-1)
        answers = np.unique(np.column_stack([release.labels(rows), released]), axis=0)
        assert 1 < len(answers) <= 2 ** release.bits(rows, level)
    assert set(np.unique(book.codes[:, 1] >= 0.02)) == {False, True}
