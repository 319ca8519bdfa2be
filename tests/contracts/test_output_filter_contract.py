"""What every output filter promises, one table over all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.release import ReleaseLevels

from medward.guard.release.quantise import Prototypes
from medward.guard.release.scores import largest_classes, probabilities
from medward.guard.release.temperature import temper_scores
from medward.guard.types import Level


def codebook_for(classes):
    rng = np.random.default_rng(classes)
    return Prototypes.fit(rng.dirichlet(np.full(classes, 0.4), 40 * classes), 4)


BOOKS = {classes: codebook_for(classes) for classes in range(2, 21)}


def at(level, **settings):
    def release(scores, output):
        return ReleaseLevels(output=output, codebook=BOOKS[scores.shape[1]], **settings).release(scores, level)

    return release


FILTERS = {
    "full": at(Level.FULL),
    "rounded to 1": at(Level.ROUNDED, decimals=1),
    "rounded to 6": at(Level.ROUNDED, decimals=6),
    "rounded, hot": at(Level.ROUNDED, temperature=20.0),
    "rounded, cold": at(Level.ROUNDED, temperature=0.05),
    "top 1": at(Level.TOP, top=1, decimals=1),
    "top 3": at(Level.TOP, top=3),
    "codes": at(Level.CODES),
    "label": at(Level.LABEL),
    "withheld": at(Level.WITHHELD),
    "hot": lambda scores, output: temper_scores(scores, output, 20.0),
    "cold": lambda scores, output: temper_scores(scores, output, 0.05),
}
SCORELESS = {"label", "withheld"}
SHAPES = st.tuples(st.integers(1, 6), st.integers(2, 20))


@st.composite
def scored(draw):
    """Rows of scores and their kind: wide and huge logits, ties, gaps of one bit, certainties."""
    shape = draw(SHAPES)
    kind = draw(st.sampled_from(["logits", "tied", "gaps", "certain", "flat"]))
    if kind == "logits":
        return draw(hnp.arrays(np.float32, shape, elements=st.floats(-1000, 1000, width=32))), "logits"
    if kind == "tied":
        return draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([-1000.0, 0.0, 0.5, 1000.0]))), "logits"
    if kind == "certain":
        labels = draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
        return np.eye(shape[1])[labels], "probabilities"
    steps = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 3)))
    near = np.full(shape, 1 / shape[1])
    if kind == "gaps":
        return near + steps * np.spacing(near), "probabilities"
    return probabilities(steps.astype(np.float64), "logits"), "probabilities"


def kept(scores, released):
    """Per row: are the largest of what left the largest there were? True where no score left."""
    nothing = np.isnan(released).all(axis=1)
    return nothing | (largest_classes(np.nan_to_num(released, nan=-np.inf)) == largest_classes(scores)).all(axis=1)


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=60, deadline=None)
@given(case=scored())
def test_the_set_of_largest_classes_is_kept(name, case):
    assert kept(case[0], FILTERS[name](*case)).all()


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=25, deadline=None)
@given(case=scored())
def test_an_input_gets_the_same_answer_again_and_in_any_batch(name, case):
    scores, output = case
    once = FILTERS[name](scores, output)
    np.testing.assert_array_equal(once, FILTERS[name](scores.copy(), output))
    np.testing.assert_array_equal(once[-1:], FILTERS[name](scores[-1:], output))


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "full"])
@settings(max_examples=40, deadline=None)
@given(case=scored())
def test_what_leaves_still_reads_as_probabilities(name, case):
    scores, output = case
    released = FILTERS[name](scores, output)
    unit = 0.1 if name.endswith("1") else 0.01
    shown = ~np.isnan(released)
    assert (released[shown] >= 0).all()
    assert (released[shown] <= 1 + unit).all()
    whole = released[shown.all(axis=1)]
    assert (np.abs(whole.sum(axis=1) - 1) <= unit * 1.5 * scores.shape[1]).all()


@pytest.mark.parametrize("name", [name for name in FILTERS if name not in SCORELESS])
def test_scores_do_leave_where_one_class_leads_clearly(name):
    assert not np.isnan(FILTERS[name](np.eye(4) * 3, "logits")).all(axis=1).any()


@pytest.mark.parametrize(
    "broken",
    [
        lambda scores: np.round(probabilities(scores, "logits"), 1),
        lambda scores: np.random.default_rng(0).permuted(scores, axis=1),
        lambda scores: np.eye(scores.shape[1])[scores.argmax(axis=1)],
    ],
    ids=["plain rounding", "shuffled", "first of a tie"],
)
def test_the_contract_notices_a_filter_that_moves_the_decision(broken):
    scores = np.array([[0.01, 0.0, -9.0], [0.0, 0.01, -9.0], [1.0, 1.0, 0.0]])
    assert not kept(scores, broken(scores)).all()
