"""The law of an operating point: whatever leaves, a client who compares it with the threshold decides as the model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.release import ReleaseLevels

from medward.guard.release.quantise import Prototypes
from medward.guard.release.rounding import round_keeping_winners
from medward.guard.release.scores import largest_classes, probabilities
from medward.guard.release.temperature import temper_scores
from medward.guard.tasks.decision import decisions, threshold_odds
from medward.guard.types import Level

SHOWN = (Level.FULL, Level.ROUNDED, Level.TOP, Level.CODES)


def codebook_for(threshold, seed, temperature):
    positive = np.clip(np.random.default_rng(seed).beta(0.5, 3, 120), 1e-4, 1 - 1e-4)
    rows = temper_scores(np.stack([1 - positive, positive], axis=1), "probabilities", temperature, threshold)
    return Prototypes.fit(rows, 4, threshold)


@st.composite
def operated(draw):
    """Rows of scores of either kind, many within a few units of the last place of their threshold."""
    threshold = draw(st.floats(1e-4, 1 - 1e-4) | st.sampled_from([0.005, 0.02, 0.0205, 0.1, 0.5, 0.995]))
    output = draw(st.sampled_from(["logits", "probabilities"]))
    near = st.integers(-3, 3)
    if output == "probabilities":
        beside = near.map(lambda steps: min(max(threshold + steps * math.ulp(threshold), 0.0), 1.0))
        positive = np.array(draw(st.lists(st.floats(0, 1) | beside | st.just(threshold), min_size=1, max_size=6)))
        off = draw(st.sampled_from([0.0, 1e-7, -1e-4]))  # a model's rows need not sum to 1 exactly
        scores = np.clip(np.stack([1 - positive + off, positive], axis=1), 0, 1)
    else:
        border = threshold_odds(threshold)
        beside = near.map(lambda steps: border + steps * max(math.ulp(border), 1e-16))
        gap = np.array(draw(st.lists(st.floats(-60, 60) | beside, min_size=1, max_size=6)))
        base = draw(st.sampled_from([0.0, 0.0, 3.0, -40.0]))
        scores = np.stack([np.full_like(gap, base), base + gap], axis=1)
    dtype = draw(st.sampled_from([np.float64, np.float64, np.float32]))
    return scores.astype(dtype), output, threshold


@st.composite
def filters(draw, threshold, output):
    temperature = draw(st.sampled_from([1.0, 1.0, 0.05, 0.7, 3.0, 20.0]))
    return ReleaseLevels(
        output=output,
        decimals=draw(st.integers(1, 6)),
        top=draw(st.integers(1, 3)),
        temperature=temperature,
        codebook=codebook_for(threshold, draw(st.integers(0, 5)), temperature),
        threshold=threshold,
    )


def read(released, labels, output, threshold):
    """What a client decides ``(n,)``: by the positive class's score where it is shown, else by the label."""
    hidden = np.isnan(released[:, 1])
    return np.where(hidden, labels, decisions(np.nan_to_num(released), output, threshold))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), case=operated(), level=st.sampled_from(Level))
def test_whatever_leaves_decides_as_the_model_does(data, case, level):
    scores, output, threshold = case
    release = data.draw(filters(threshold, output))
    own = decisions(scores, output, threshold)
    assert (release.labels(scores) == own).all()
    released, kind = release.release(scores, level), output if level is Level.FULL else "probabilities"
    assert (read(released, own, kind, threshold) == own).all()
    only_first = np.isnan(released[:, 1]) & ~np.isnan(released[:, 0])
    assert (own[only_first] == 0).all(), "a positive finding is hidden"
    again = release.release(scores[-1:], level)
    np.testing.assert_array_equal(released[-1:], again)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), case=operated())
def test_what_leaves_reads_as_probabilities_near_the_models_own(data, case):
    scores, output, threshold = case
    release = data.draw(filters(threshold, output))
    unit = 10.0**-release.decimals
    likely = temper_scores(scores, output, release.temperature, threshold)
    released = release.release(scores, Level.ROUNDED)
    assert (released >= 0).all()
    assert np.abs(released.sum(axis=1) - 1).max() < 1e-9
    assert np.abs(released - np.round(released, release.decimals)).max() < 1e-12
    assert np.abs(released - likely).max() <= 1.5 * unit + 1e-9, "a step to the right side is one unit at most"


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.3])
def test_scores_do_leave_and_keep_their_order(threshold):
    positive = np.linspace(0.001, 0.999, 300)
    scores = np.stack([1 - positive, positive], axis=1)
    for temperature in (0.5, 1.0, 4.0):
        book = codebook_for(threshold, 0, temperature)
        release = ReleaseLevels(
            output="probabilities", temperature=temperature, codebook=book, threshold=threshold, decimals=3
        )
        for level in SHOWN:
            released = release.release(scores, level)[:, 1]
            shown = released[~np.isnan(released)]
            assert len(np.unique(shown)) >= 3, level
            assert (np.diff(shown) >= 0).all(), level


@pytest.mark.parametrize("threshold", [0.02, 0.3])
def test_temperature_one_is_the_models_own_probability(threshold):
    scores = np.random.default_rng(0).normal(0, 3, (50, 2))
    np.testing.assert_allclose(
        temper_scores(scores, "logits", 1.0, threshold), probabilities(scores, "logits"), atol=1e-12
    )


def test_at_one_half_temperature_is_the_ordinary_one():
    scores = np.random.default_rng(0).normal(0, 3, (50, 2))
    np.testing.assert_allclose(
        temper_scores(scores, "logits", 4.0, 0.5), temper_scores(scores, "logits", 4.0), atol=1e-12
    )


RISKS = np.array([0.004, 0.012, 0.016, 0.019, 0.0195, 0.0204, 0.021, 0.3, 0.45])
ROWS = np.stack([1 - RISKS, RISKS], axis=1)


@pytest.mark.parametrize(
    "broken",
    [
        lambda rows: round_keeping_winners(rows, largest_classes(rows), 2),
        lambda rows: temper_scores(rows, "probabilities", 4.0),
        lambda rows: ReleaseLevels(output="probabilities", codebook=Prototypes.fit(rows.repeat(6, 0), 1)).release(
            rows, Level.CODES
        ),
        lambda rows: np.eye(2)[ReleaseLevels(output="probabilities").labels(rows)],
    ],
    ids=["rounding that keeps the largest class", "temperature", "codes of the largest class", "argmax label"],
)
def test_the_rules_of_the_largest_class_break_the_law(broken):
    # Negative control: each of these was what left before.
    own = decisions(ROWS, "probabilities", 0.0198)
    assert (read(broken(ROWS), own, "probabilities", 0.0198) != own).any()
