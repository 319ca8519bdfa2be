import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.attacks.intervals import (
    Interval,
    auc,
    auc_interval,
    clopper_pearson,
    median_ratio,
    paired_difference,
    rate_interval,
    surviving_share,
    worst_rate,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (1, 100, 0.0003, 0.0545),
        (83, 100, 0.7418, 0.8977),
        (5, 20, 0.0866, 0.4910),
    ],
)
def test_clopper_pearson_gives_the_published_limits(successes, n, low, high):
    interval = clopper_pearson(successes, n)
    assert interval.value == successes / n
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)


@given(st.integers(1, 500), st.data())
def test_a_rate_lies_within_its_limits_and_more_rows_narrow_them(n, data):
    successes = data.draw(st.integers(0, n))
    few, many = clopper_pearson(successes, n), clopper_pearson(4 * successes, 4 * n)
    assert 0 <= few.low <= few.value <= few.high <= 1
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5])
def test_the_exact_interval_covers_at_least_as_often_as_it_says(p):
    hits = np.random.default_rng(0).binomial(80, p, 2000)
    covered = [i.low <= p <= i.high for i in (clopper_pearson(int(k), 80) for k in hits)]
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_impossible_counts_and_infinite_limits_are_refused():
    with pytest.raises(ValueError, match="11 of 10"):
        clopper_pearson(11, 10)
    with pytest.raises(ValueError, match="finite"):
        Interval(0.5, float("nan"), 1.0, 10)


def test_auc_counts_ties_half_and_matches_the_definition():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 5, 60), rng.random(60) < 0.4
    pairs = np.subtract.outer(scores[truth], scores[~truth])
    assert auc(scores, truth) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_the_auc_bootstrap_covers_the_truth():
    rng = np.random.default_rng(1)
    expected = 0.7602  # P(N(1,1) > N(0,1)) = Phi(1 / sqrt 2)
    truth = np.repeat([True, False], 60)
    covered = 0
    for seed in range(200):
        interval = auc_interval(rng.normal(size=120) + truth, truth, seed=seed, resamples=400)
        covered += interval.low <= expected <= interval.high
    assert covered >= 180


def test_perfect_separation_of_a_few_rows_is_not_certainty():
    interval = auc_interval([1, 2, 3, 4], [False, False, True, True], seed=0)
    assert interval.value == 1
    assert interval.low < 0.2
    assert auc_interval(np.arange(2000), np.arange(2000) >= 1000, seed=0).low > 0.99


ONE_SIDE = {
    "all tie": (np.zeros(20), np.zeros(20)),
    "members tie": (np.zeros(20), np.linspace(-1, 1, 20)),
    "non-members tie": (np.linspace(-1, 1, 20), np.zeros(20)),
    "one odd row of each": (np.r_[1.0, np.zeros(19)], np.r_[1.0, np.zeros(19)]),
}


@pytest.mark.parametrize("case", ONE_SIDE)
def test_tied_scores_of_a_few_rows_are_not_certainty(case):
    few = auc_interval(np.concatenate(ONE_SIDE[case]), np.repeat([True, False], 20), seed=0)
    assert few.value == pytest.approx(0.5)
    assert few.low < 0.4
    assert few.high > 0.6
    many = auc_interval(np.repeat(np.concatenate(ONE_SIDE[case]), 20), np.repeat([True, False], 400), seed=0)
    assert few.low < many.low < 0.5 < many.high < few.high


@pytest.mark.parametrize("rare", [0.02, 0.05, 0.1])
def test_the_auc_of_nearly_tied_scores_covers_the_truth(rare):
    rng = np.random.default_rng(4)
    truth = np.repeat([True, False], 20)
    intervals = [
        auc_interval(np.r_[rng.random(20) < rare, np.zeros(20)], truth, seed=seed, resamples=200) for seed in range(200)
    ]
    assert np.mean([i.low <= 0.5 + rare / 2 <= i.high for i in intervals]) >= 0.95


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_outcomes_that_are_no_numbers_are_refused(odd):
    rows = np.r_[odd, np.zeros(9)]
    with pytest.raises(ValueError, match="1 of 10 outcomes are not finite"):
        rate_interval(rows)
    with pytest.raises(ValueError, match="1 of 10 outcomes are not finite"):
        auc_interval(rows, np.arange(10) % 2 == 0, seed=0)


def test_the_paired_difference_uses_the_pairing():
    rng = np.random.default_rng(2)
    hard = rng.random(300) < 0.5
    first, second = hard | (rng.random(300) < 0.05), hard
    paired = paired_difference(first, second, seed=0)
    shuffled = paired_difference(first, rng.permutation(second), seed=0)
    assert paired.low > 0
    assert paired.high - paired.low < (shuffled.high - shuffled.low) / 2


def test_the_paired_bootstrap_covers_the_truth():
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        first, second = rng.random(150) < 0.7, rng.random(150) < 0.5
        interval = paired_difference(first, second, seed=seed, resamples=400)
        covered += interval.low <= 0.2 <= interval.high
    assert covered >= 180


def test_the_surviving_share_is_a_ratio_of_means_with_honest_edges():
    full = np.r_[np.ones(60), np.zeros(40)]
    half = np.r_[np.ones(30), np.zeros(70)]
    share = surviving_share(half, full, seed=0)
    assert share.value == pytest.approx(0.5)
    assert share.low < 0.5 < share.high
    assert surviving_share(full, np.zeros(100), seed=0) is None
    nothing = surviving_share(np.zeros(5), full[:5], seed=0)
    assert nothing.value == 0
    assert nothing.high > 0.25, "five rows without gain do not show that no gain is left"


def test_a_share_of_a_gain_that_may_be_none_can_be_anything():
    """Noise over noise: the naive ratio, which counts a resample without gain as a large share, says "at least"."""
    rng = np.random.default_rng(5)
    for seed in range(20):
        free = rng.choice([-1.0, 0.0, 1.0], size=200, p=[0.1, 0.78, 0.12])
        mine = np.where(rng.random(200) < 0.9, free, 0.0)
        share = surviving_share(mine, free, seed=seed)
        if share is not None and paired_difference(free, np.zeros(200), seed=seed).low < 0:
            assert share.low < 0
            assert share.high == 10


def test_the_worst_of_several_rates_is_covered_however_alike_they_are():
    rng = np.random.default_rng(6)
    for rates, shared in (([0.3] * 5, False), ([0.3] * 5, True), ([0.1, 0.3, 0.2], False), ([0.0, 0.0, 0.3], True)):
        below = above = naive = 0
        for _ in range(400):
            draws = [rng.random(80)] * len(rates) if shared else rng.random((len(rates), 80))
            outcomes = [draw < each for draw, each in zip(draws, rates, strict=True)]
            worst = worst_rate(outcomes)
            below, above = below + (worst.high < 0.3), above + (worst.low > 0.3)
            naive += max(rate_interval(each).low for each in outcomes) > 0.3
        assert below <= 18, "2.5 % of 400, and three standard errors"
        assert above <= 18
        if rates == [0.3] * 5 and not shared:
            assert naive > 25, "without the correction the best of five draws is taken for the truth"


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=40), min_size=1, max_size=5), st.integers(1, 9))
def test_the_worst_rate_is_no_narrower_than_any_of_them_and_one_alone_is_itself(outcomes, among):
    worst, each = worst_rate(outcomes, among=among), [rate_interval(rows) for rows in outcomes]
    assert worst.value == max(one.value for one in each)
    assert worst.high == max(one.high for one in each)
    assert worst.low <= max(one.low for one in each) + 1e-12
    assert worst_rate(outcomes[:1]) == each[0]


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_the_same_seed_gives_the_same_interval(seed):
    rows = np.random.default_rng(seed).random((2, 40))
    assert paired_difference(*rows, seed=seed, resamples=50) == paired_difference(*rows, seed=seed, resamples=50)
    assert median_ratio(*rows, seed=seed, resamples=50) == median_ratio(*rows, seed=seed, resamples=50)


def test_the_bootstrap_is_vectorised():
    start = time.process_time()
    scores, truth = np.random.default_rng(0).normal(size=2000), np.arange(2000) % 2 == 0
    auc_interval(scores, truth, seed=0)
    paired_difference(scores > 0, truth, seed=0)
    looped = time.process_time() - start
    start = time.process_time()
    for _ in range(50):
        auc(scores, truth)
    assert looped < 400 * (time.process_time() - start), "2,000 resamples cost about as much as 2,000 AUCs"


def test_rate_reads_booleans():
    assert rate_interval([True, False, True, True]).value == 0.75
