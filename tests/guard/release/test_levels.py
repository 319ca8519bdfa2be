from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.release import ReleaseLevels

from medward.guard.release.quantise import Prototypes
from medward.guard.release.scores import largest_classes
from medward.guard.types import Level

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12)
LOGITS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-80, 80, width=32))
# Few distinct values, so that ties and near-ties are common.
TIED = hnp.arrays(np.float64, SHAPES, elements=st.sampled_from([0.0, 0.1, 0.4999, 0.5, 0.5001, 1.0]))


@given(scores=LOGITS | TIED, decimals=st.integers(1, 6), level=st.sampled_from([Level.FULL, Level.ROUNDED]))
def test_no_level_changes_which_classes_are_largest_logits(scores, decimals, level):
    filter_ = ReleaseLevels(output="logits", decimals=decimals)
    released = filter_.release(scores, level)
    assert (largest_classes(released) == largest_classes(scores)).all()
    assert (np.argmax(released, 1) == filter_.labels(scores)).all()


@given(scores=TIED, decimals=st.integers(1, 6), level=st.sampled_from([Level.FULL, Level.ROUNDED]))
def test_no_level_changes_which_classes_are_largest_probabilities(scores, decimals, level):
    scores = (scores + 1e-3) / (scores + 1e-3).sum(axis=1, keepdims=True)
    released = ReleaseLevels(output="probabilities", decimals=decimals).release(scores, level)
    assert (largest_classes(released) == largest_classes(scores)).all()


@given(scores=LOGITS, decimals=st.integers(1, 6))
def test_rounded_scores_are_probabilities_on_the_grid(scores, decimals):
    released = ReleaseLevels(output="logits", decimals=decimals).release(scores, Level.ROUNDED)
    assert np.allclose(released, np.round(released, decimals), atol=1e-12)
    assert (released >= 0).all()
    assert (released <= 1 + 10.0**-decimals).all()


def test_naive_rounding_would_lose_the_diagnosis():
    # Negative control: plain rounding ties 0.504 with 0.496.
    scores = np.array([[0.496, 0.504]])
    assert not (largest_classes(np.round(scores, 2)) == largest_classes(scores)).all()
    released = ReleaseLevels(output="probabilities", decimals=2).release(scores, Level.ROUNDED)
    assert released.tolist() == [[0.5, 0.51]]


@pytest.mark.parametrize("level", [Level.LABEL, Level.WITHHELD])
def test_coarse_levels_release_no_score(level):
    assert np.isnan(ReleaseLevels(output="logits").release(np.ones((3, 2)), level)).all()


@pytest.mark.parametrize(
    ("level", "offered"),
    [
        (Level.ROUNDED, [Level.ROUNDED, Level.LABEL]),
        (Level.CODES, [Level.CODES, Level.LABEL]),
        (Level.LABEL, [Level.LABEL]),
        (Level.WITHHELD, []),
    ],
)
def test_a_budget_is_offered_the_level_and_the_label_with_falling_bits(level, offered):
    book = Prototypes(np.eye(3))
    offers = ReleaseLevels(output="logits", codebook=book).offers(np.zeros((1, 3)), level)
    assert [each for each, _ in offers] == offered
    assert [bits for _, bits in offers] == sorted((bits for _, bits in offers), reverse=True)
