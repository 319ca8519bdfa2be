"""Rényi scores, against loops that spell the formulas out, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.attacks.membership.multimodal.augmented_divergence import augmented_divergence_score
from medward.attacks.membership.multimodal.max_renyi import (
    LARGEST_PERCENTS,
    RENYI_ORDERS,
    largest_mean,
    max_renyi_score,
    renyi_entropies,
)
from medward.attacks.membership.multimodal.modified_renyi import MODIFIED_ORDERS, modified_renyi_score
from medward.guard.errors import MedwardError


def predictions(seed, rows=30, words=11, sharp=1.0):
    return np.random.default_rng(seed).dirichlet(np.full(words, sharp), rows)


def naive_entropy(row, alpha):
    p = [min(max(float(each), 1e-10), 1 - 1e-10) for each in row]
    if alpha == 0.5:
        return 2 * math.log(sum(math.sqrt(each) for each in p))
    if alpha == 1:
        return -sum(each * math.log(each) for each in p)
    if alpha == 2:
        return -math.log(sum(each**2 for each in p))
    return -math.log(max(p))


def naive_modified(row, token, alpha):
    p = [min(max(float(each), 1e-10), 1 - 1e-10) for each in row]
    y, a = p[token], abs(1 - alpha)
    others = [each for place, each in enumerate(p) if place != token]
    if a == 0:
        return -((1 - y) * math.log(y) + sum(each * math.log(1 - each) for each in others))
    total = (1 - y) * y**a - (1 - y) + sum(each * (1 - each) ** a - each for each in others)
    return -total / a


@pytest.mark.parametrize("alpha", RENYI_ORDERS)
@pytest.mark.parametrize("percent", [*LARGEST_PERCENTS, 25])
def test_max_renyi_is_the_formula_of_a_loop(alpha, percent):
    p = predictions(1)
    ordered = sorted((naive_entropy(row, alpha) for row in p), reverse=True)
    kept = ordered[: max(1, len(p) * percent // 100)]
    assert max_renyi_score(p, alpha=alpha, percent=percent) == pytest.approx(-sum(kept) / len(kept), rel=1e-10)


@pytest.mark.parametrize("alpha", MODIFIED_ORDERS)
@pytest.mark.parametrize("sharp", [1.0, 0.01])
def test_modified_renyi_is_the_formula_of_a_loop(alpha, sharp):
    p, tokens = predictions(2, sharp=sharp), np.random.default_rng(3).integers(0, 11, 30)
    spelled = [naive_modified(row, token, alpha) for row, token in zip(p, tokens, strict=True)]
    assert modified_renyi_score(p, tokens, alpha=alpha) == pytest.approx(-np.mean(spelled), rel=1e-8)


def test_augmented_divergence_is_the_mean_of_a_loop():
    p, after = predictions(4), np.stack([predictions(seed) for seed in range(5, 9)])
    naive = np.mean(
        [sum(a * math.log(a / b) for a, b in zip(*pair, strict=True)) for q in after for pair in zip(p, q, strict=True)]
    )
    assert augmented_divergence_score(p, after) == pytest.approx(-naive, rel=1e-9)
    assert augmented_divergence_score(p, np.stack([p])) == 0


@given(st.integers(2, 40), st.floats(0.01, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_entropy_falls_with_alpha_and_lies_between_none_and_all(words, sharp, seed):
    p = np.random.default_rng(seed).dirichlet(np.full(words, sharp), 8)
    found = np.stack([renyi_entropies(p, alpha) for alpha in (0.3, *RENYI_ORDERS[:3], 7.0, math.inf)])
    assert (np.diff(found, axis=0) <= 1e-6).all()
    assert (found >= -1e-9).all()
    assert (found <= math.log(words) + 1e-6).all()
    np.testing.assert_allclose(renyi_entropies(np.full((1, words), 1 / words), 2.0), math.log(words))


@given(st.integers(0, 2**32 - 1), st.sampled_from(RENYI_ORDERS), st.sampled_from(LARGEST_PERCENTS))
@settings(max_examples=30, deadline=None)
def test_scores_do_not_depend_on_the_order_of_words_or_of_positions(seed, alpha, percent):
    rng = np.random.default_rng(seed)
    p = predictions(seed)
    words, rows = rng.permutation(11), rng.permutation(30)
    own = max_renyi_score(p, alpha=alpha, percent=percent)
    assert max_renyi_score(p[rows][:, words], alpha=alpha, percent=percent) == pytest.approx(own, rel=1e-12)
    tokens = rng.integers(0, 11, 30)
    moved = np.argsort(words)[tokens]
    alike = modified_renyi_score(p[rows][:, words], moved[rows], alpha=0.5)
    assert alike == pytest.approx(modified_renyi_score(p, tokens, alpha=0.5), rel=1e-12)


def test_sure_predictions_of_the_true_word_score_highest():
    tokens = np.arange(11)
    right, wrong = np.eye(11), np.roll(np.eye(11), 1, axis=1)
    even = np.full((11, 11), 1 / 11)
    for alpha in MODIFIED_ORDERS:
        scores = [modified_renyi_score(p, tokens, alpha=alpha) for p in (right, even, wrong)]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(0, abs=1e-6)
    assert max_renyi_score(right, alpha=1, percent=100) > max_renyi_score(even, alpha=1, percent=100)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: renyi_entropies(predictions(0), 0), "alpha must be above 0"),
        (lambda: renyi_entropies(np.full((2, 3), np.nan), 1), "without NaN"),
        (lambda: renyi_entropies(np.zeros((0, 3)), 1), "needs rows"),
        (lambda: largest_mean(np.ones(3), 101), "between 0 and 100"),
        (lambda: modified_renyi_score(predictions(0), np.zeros(30, int), alpha=math.inf), "finite"),
        (lambda: modified_renyi_score(predictions(0), np.full(30, 11), alpha=1), "below 11"),
        (lambda: augmented_divergence_score(predictions(0), predictions(0)), "changes"),
    ],
)
def test_what_is_no_prediction_is_refused(ask, says):
    with pytest.raises(MedwardError, match=says):
        ask()
