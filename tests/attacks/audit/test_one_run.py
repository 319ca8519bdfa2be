"""One-run bounds: the golden values, a naive sum, and never above the truth; an invalid mechanism is caught."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, ndtri
from scipy.stats import binom

from medward.attacks.audit.guesses import (
    bonferroni_bound,
    detectable_bound,
    fixed_bound,
    hull_counts,
    multi_split_bound,
    split_bound,
)
from medward.attacks.audit.one_run import one_run_bound, one_run_p_value
from medward.attacks.audit.one_run_tradeoff import (
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    one_run_tradeoff_bound,
    refutes_mu,
)

BOUNDS = {"one run": one_run_bound, "by trade-off curve": one_run_tradeoff_bound}
CHOICES = {
    "fixed": fixed_bound,
    "Bonferroni": bonferroni_bound,
    "split": lambda *args, **settings: split_bound(*args, **settings, seed=7),
}
GOLDEN = {
    "one run": {0: 0.0, 1: 1.13346, 2: 2.311945, 4: 4.395568},
    "by trade-off curve": {0: 0.0, 1: 2.164749, 2: 4.7218075, 4: 9.133752},
}


def gaussian_scores(mu, m, rng):
    included = rng.random(m) < 0.5
    return rng.normal(size=m) + mu * included, included


@pytest.mark.parametrize("shift", [0, 1, 2, 4])
@pytest.mark.parametrize("name", BOUNDS)
def test_the_golden_values_of_another_implementation(name, shift):
    """10,000 + 10,000 deterministic normals, risk .05, delta 1e-6, as in the tests of jax_privacy 2.0.0."""
    n = 10_000
    normal = ndtri(np.linspace(0, 1, n, endpoint=False) + 1 / (2 * n))
    scores, included = np.concatenate([normal + shift, normal]), np.arange(2 * n) < n
    found = bonferroni_bound(BOUNDS[name], scores, included, risk=0.05, delta=1e-6)
    assert found == pytest.approx(GOLDEN[name][shift], rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-3, 0.1])
def test_the_p_value_is_that_of_a_naive_sum(epsilon, delta):
    q = expit(epsilon)
    for m, guesses, correct in ((10, 1, 1), (10, 10, 7), (100, 10, 10), (100, 60, 31), (50, 20, 0)):
        tails = [sum(binom.pmf(k, guesses, q) for k in range(correct - i, guesses + 1)) for i in range(correct + 1)]
        steepest = max([(tail - tails[0]) / i for i, tail in enumerate(tails) if i], default=0)
        naive = min(1, tails[0] + 2 * m * delta * steepest)
        assert one_run_p_value(correct, guesses, m, epsilon, delta) == pytest.approx(naive, abs=1e-12)


def test_the_recursion_is_that_of_a_naive_loop():
    for m, guesses, correct, mu in ((100, 20, 19, 1.0), (100, 20, 15, 1.0), (1000, 200, 180, 2.0), (50, 5, 5, 0.3)):
        from scipy.stats import norm

        right, wrong = 0.05 * correct / m, 0.05 * (guesses - correct) / m
        for i in range(correct - 1, -1, -1):
            least = max(wrong, norm.cdf(norm.ppf(right) - mu))
            right, wrong = min(1, right + i / (guesses - i) * (least - wrong)), least
        assert refutes_mu(correct, guesses, m, mu, 0.05) == (right + wrong > guesses / m)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", BOUNDS)
def test_the_bound_is_seldom_above_the_truth(name, choice):
    """In 5 % of runs it may be; where numbers of guesses are fixed or all are corrected for, it is in none of 60."""
    rng = np.random.default_rng(11)
    for mu in (0.3, 1.0):
        truth = gaussian_epsilon(mu, 1e-5)
        found = [
            CHOICES[choice](BOUNDS[name], *gaussian_scores(mu, 400, rng), risk=0.05, delta=1e-5) for _ in range(30)
        ]
        assert sum(value > truth for value in found) <= (2 if choice == "split" else 0)


def test_an_invalid_mechanism_is_caught():
    """The control: it claims the epsilon of mu 0.5 and has mu 4."""
    rng, claim = np.random.default_rng(2), gaussian_epsilon(0.5, 1e-5)
    for bound in BOUNDS.values():
        found = [fixed_bound(bound, *gaussian_scores(4.0, 500, rng), risk=0.05, delta=1e-5) for _ in range(5)]
        assert min(found) > claim
    assert (
        multi_split_bound(
            one_run_tradeoff_bound, *gaussian_scores(4.0, 500, rng), risk=0.05, delta=1e-5, seed=0, splits=20
        )
        > claim
    )


def test_the_trade_off_curve_is_tighter():
    scores, included = gaussian_scores(2.0, 1000, np.random.default_rng(5))
    first, second = (fixed_bound(each, scores, included, risk=0.05, delta=1e-5) for each in BOUNDS.values())
    assert second > first + 0.5


def test_no_signal_refutes_nothing():
    rng = np.random.default_rng(3)
    drawn = [gaussian_scores(0, 300, rng) for _ in range(20)]
    assert sum(fixed_bound(one_run_tradeoff_bound, *each, risk=0.05, delta=1e-5) > 0 for each in drawn) <= 2


@pytest.mark.parametrize("bound", BOUNDS.values())
def test_all_guesses_right_is_the_most_that_can_be_shown(bound):
    """That of 100 canaries, all guessed rightly, is 3.49 for the first (Steinke et al.)."""
    most = [detectable_bound(bound, m, risk=0.05, delta=1e-5) for m in (100, 300, 1000)]
    assert most == sorted(most)
    perfect = np.arange(300, 0, -1.0), np.arange(300) < 150
    assert fixed_bound(bound, *perfect, risk=0.05, delta=1e-5) == pytest.approx(most[1])
    assert one_run_bound(100, 100, 100, risk=0.05, delta=1e-5) == pytest.approx(3.49, abs=0.01)


@pytest.mark.parametrize("mu", [0.1, 1.0, 3.0])
def test_mu_and_epsilon_go_there_and_back(mu):
    epsilon = gaussian_epsilon(mu, 1e-5)
    assert gaussian_mu(epsilon, 1e-5) == pytest.approx(mu)
    assert gaussian_delta(mu, epsilon) == pytest.approx(1e-5)


def test_a_gaussian_without_a_shift_has_no_epsilon():
    assert gaussian_epsilon(0.0, 1e-5) == 0
    with pytest.raises(ValueError, match="delta"):
        gaussian_mu(1.0, 0.0)


@pytest.mark.parametrize("counts", [(3, 2, 10), (2, 11, 10), (-1, 2, 10)])
def test_counts_that_cannot_be_are_refused(counts):
    for bound in BOUNDS.values():
        with pytest.raises(ValueError, match="correct <= guesses"):
            bound(*counts, risk=0.05, delta=1e-5)


def test_the_hull_has_both_corners_and_no_point_under_it():
    scores, included = gaussian_scores(1.0, 200, np.random.default_rng(0))
    guesses, right = hull_counts(scores, included)
    assert (guesses[0], right[0], guesses[-1], right[-1]) == (0, 0, 200, included.sum())
    slopes = np.diff(right) / np.maximum(np.diff(guesses - right), 1e-9)
    assert (np.diff(slopes) < 0).all()
