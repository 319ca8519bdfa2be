"""Agreement and its p-values: no class counts more than another, and no p-value is smaller than its null supports."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.ownership.agreement import (
    FEWEST_FITTED,
    balanced_agreement,
    chance_p_value,
    fitted_p_value,
    prominence,
    rank_p_value,
)

OWN = np.array([0] * 30 + [1] * 10)
shares = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_who_says_one_class_only_agrees_on_half_however_common_that_class_is():
    constant = np.stack([np.zeros(40, int), np.ones(40, int)])
    assert balanced_agreement(OWN, constant).tolist() == [0.5, 0.5]
    assert balanced_agreement(OWN, OWN[None]).tolist() == [1.0]


def test_what_was_not_answered_is_disagreement():
    some = OWN.copy()
    some[:15] = -1
    assert balanced_agreement(OWN, some[None]).tolist() == [0.75]
    some[30:] = -1  # a class of which nothing was answered
    assert balanced_agreement(OWN, some[None]).tolist() == [0.25]
    assert balanced_agreement(OWN, np.full((1, 40), -1)).tolist() == [0.0]


@given(shares, st.floats(0, 2))
def test_no_p_value_is_smaller_than_the_null_supports(null, suspect):
    p = rank_p_value(np.array(null), np.array([suspect]), np.zeros(1))
    assert 1 / (1 + len(null)) <= p <= 1
    assert (p == 1 / (1 + len(null))) == (suspect > max(null))


@given(st.integers(0, 2**31), st.floats(0.5, 1.0))
def test_agreeing_more_never_raises_a_p_value(seed, more):
    rng = np.random.default_rng(seed)
    null, suspect, inputs = rng.random((2, 12)), rng.random(2), np.array([50.0, 80.0])

    def p(one):
        return rank_p_value(*prominence(null, one, inputs), chance_p_value(one, np.array([20, 30])))

    assert p(np.maximum(suspect, more)) <= p(suspect)


def test_independent_suspects_are_claimed_as_often_as_said():
    rng, runs, claimed = np.random.default_rng(0), 4000, 0
    for _ in range(runs):
        agreements = rng.beta(2, 4, size=(2, 20))
        found = prominence(agreements[:, :-1], agreements[:, -1], np.array([100.0, 60.0]))
        claimed += rank_p_value(*found, np.zeros(2)) <= 0.05
    assert 0.04 < claimed / runs < 0.06  # 1 in 20 ranks first


def test_who_stands_out_in_one_way_alone_stands_out():
    null = np.random.default_rng(0).uniform(0.3, 0.5, size=(2, 19))
    inputs = np.array([120.0, 120.0])
    for suspect in ([0.95, 0.4], [0.4, 0.95]):
        assert rank_p_value(*prominence(null, np.array(suspect), inputs), np.zeros(2)) == pytest.approx(1 / 20)
    assert rank_p_value(*prominence(null, np.array([0.4, 0.4]), inputs), np.zeros(2)) > 0.2


def test_a_way_in_which_luck_does_as_much_is_none_in_which_one_stands_out():
    null, inputs = np.random.default_rng(0).uniform(0.2, 0.3, size=(2, 19)), np.array([120.0, 120.0])
    found = prominence(null, np.array([0.52, 0.31]), inputs)
    assert rank_p_value(*found, np.zeros(2)) == pytest.approx(1 / 20)
    assert rank_p_value(*found, np.array([0.8, 0.9])) == 1.0
    assert rank_p_value(*found, np.array([0.8, 0.0])) == pytest.approx(1 / 20)
    assert rank_p_value(*found, np.array([0.8, 0.05])) == pytest.approx(0.1), "of two ways"


@pytest.mark.parametrize("counts", [(60, 60), (100, 20), (15, 15, 15, 15), (40, 5, 75)])
def test_luck_is_as_rare_as_said_whatever_is_guessed(counts):
    """Of who draws classes and of who has a fixed list of answers; one who looks stands out."""
    rng, counts = np.random.default_rng(0), np.array(counts)
    own = np.repeat(np.arange(len(counts)), counts)
    for _ in range(5):
        shares = rng.dirichlet(np.full(len(counts), 0.5))
        drawn = rng.choice(len(counts), size=(4000, len(own)), p=shares)
        listed = np.array([rng.permutation(drawn[0]) for _ in range(4000)])
        for guessed in (drawn, listed):
            found = chance_p_value(balanced_agreement(own, guessed), counts)
            for alpha in (0.05, 0.5):
                assert np.mean(found <= alpha) <= alpha + 3 * np.sqrt(alpha / 4000)
    looked = np.where(rng.random((100, len(own))) < 0.9, own, drawn[:100])
    assert (chance_p_value(balanced_agreement(own, looked), counts) < 0.05).all()


def test_a_fitted_p_value_is_said_of_enough_models_and_doubted_where_they_contradict_it():
    rng, inputs = np.random.default_rng(0), np.array([120.0])
    normal = rng.normal(0.4, 0.05, size=(1, 40))
    fitted = fitted_p_value(normal, np.array([0.9]), inputs, np.zeros(1))
    assert fitted_p_value(normal, np.array([0.9]), inputs, np.array([0.3])).p_value == 0.3
    assert fitted.plausible
    assert fitted.p_value < 1e-4
    two_humps = np.where(rng.random((1, 40)) < 0.5, 0.1, 0.8) + rng.normal(0, 0.01, size=(1, 40))
    assert not fitted_p_value(two_humps, np.array([0.9]), inputs, np.zeros(1)).plausible
    assert fitted_p_value(normal[:, : FEWEST_FITTED - 1], np.array([0.9]), inputs, np.zeros(1)) is None
    assert fitted_p_value(np.full((1, 40), 0.4), np.array([0.9]), inputs, np.zeros(1)) is None
