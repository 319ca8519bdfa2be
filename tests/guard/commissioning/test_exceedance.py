"""The exceedance test: exact for exchangeable values, and it does find what lies above."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.commissioning.exceedance import (
    STAND_INS,
    corrected_p_value,
    exceedance_p_value,
    exceedance_tail,
    shared_value_p_value,
    stand_ins,
)


@given(batch=st.integers(1, 4), benign=st.integers(1, 5), data=st.data())
@settings(max_examples=40)
def test_the_tail_is_that_of_all_ways_to_divide_the_values(batch, benign, data):
    place, above = data.draw(st.integers(1, benign)), data.draw(st.integers(0, batch))
    hits = 0
    ways = list(combinations(range(benign + batch), batch))
    for mine in ways:
        others = sorted(set(range(benign + batch)) - set(mine))
        hits += sum(value > others[benign - place] for value in mine) >= above
    assert exceedance_tail(above, batch, place, benign) == pytest.approx(hits / len(ways))


@pytest.mark.parametrize("kind", ["normal", "coarse", "constant"])
def test_exchangeable_values_are_found_no_more_often_than_stated(kind):
    rng = np.random.default_rng(1)
    draw = {
        "normal": lambda n: rng.normal(size=n),
        "coarse": lambda n: rng.integers(4, size=n).astype(float),
        "constant": np.ones,
    }[kind]
    found = np.array([exceedance_p_value(draw(12), np.sort(draw(60))) for _ in range(3000)])
    for level in (0.05, 0.01):
        assert (found <= level).mean() <= level + 3 * math.sqrt(level / 3000)


def test_quantiles_in_the_place_of_many_values_are_not_less_cautious():
    rng = np.random.default_rng(2)
    found = np.array([exceedance_p_value(rng.normal(size=20), stand_ins(rng.normal(size=700))) for _ in range(3000)])
    assert (found <= 0.05).mean() <= 0.05 + 3 * math.sqrt(0.05 / 3000)


def test_a_shift_and_a_few_far_values_are_found():
    rng = np.random.default_rng(3)
    benign = np.sort(rng.normal(size=100))
    few = np.concatenate([rng.normal(size=14), np.full(6, 9.0)])
    assert exceedance_p_value(rng.normal(size=20) + 2, benign) < 1e-5
    assert exceedance_p_value(few, benign) < 1e-3
    assert exceedance_p_value(rng.normal(size=20) - 2, benign) == 1


def test_nothing_is_found_of_nothing():
    assert exceedance_p_value(np.empty(0), np.ones(9)) == exceedance_p_value(np.ones(9), np.empty(0)) == 1
    assert corrected_p_value([], 0) == 1


def test_a_value_that_a_batch_shares_is_as_likely_as_choices_say():
    rare = shared_value_p_value(3, 4, 0, 6)  # all three of the ten rows that hold it are among four
    assert rare == pytest.approx(math.comb(7, 1) / math.comb(10, 4) * 10 / 3)
    assert shared_value_p_value(3, 4, 5, 6) > 0.5


def test_stand_ins_are_all_of_few_values_and_quantiles_of_many():
    assert stand_ins(np.array([3.0, 1.0, 2.0])).tolist() == [1, 2, 3]
    many = stand_ins(np.random.default_rng(0).normal(size=500))
    assert len(many) == STAND_INS
    assert (np.diff(many) > 0).all()
