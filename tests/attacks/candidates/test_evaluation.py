"""What membership scores are worth: intervals that cover, thresholds paid for, explanations that are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from medward.attacks.candidates.evaluation import (
    detectable_auc,
    either_rate_at,
    evaluate_scores,
    one_row_each,
    precision_at_prior,
    rate_at,
)
from medward.attacks.intervals import auc_gain, auc_interval


def scored(shift, n=300, seed=0, copies=1):
    """Scores of n members, `shift` above those of n others; with copies, that many alike rows of each patient."""
    rng = np.random.default_rng(seed)
    truth = np.arange(2 * n) < n
    return np.repeat(rng.normal(size=2 * n) + shift * truth, copies), np.repeat(truth, copies)


def test_a_leak_is_found_and_none_is_not():
    leaky, fair = evaluate_scores(*scored(1.0)), evaluate_scores(*scored(0.0))
    assert leaky.auc.low > 0.65
    assert fair.auc.low < 0.5 < fair.auc.high
    assert fair.flags == leaky.flags == ()
    assert leaky.detectable == pytest.approx(fair.detectable)
    assert 0.5 < fair.detectable < 0.6


def test_the_interval_of_a_rate_covers_the_rate_at_the_true_false_positive_rate():
    """By construction with 95 %; a plain Clopper-Pearson at the empirical threshold, the control, does not."""
    true = norm.sf(norm.isf(0.01) - 1.5)
    missed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = np.concatenate([rng.normal(1.5, 1, 400), rng.normal(size=1200)])
        found = rate_at(scores, np.arange(1600) < 400, 0.01, seed=seed)
        missed += not found.low <= true <= found.high
    assert missed <= 10


def test_few_nonmembers_do_not_resolve_a_small_rate():
    scores, truth = scored(3.0, n=300)
    found = evaluate_scores(scores, truth)
    assert found.true_positive_rates[0.01] is not None
    assert found.true_positive_rates[0.001] is None
    assert evaluate_scores(*scored(3.0, n=90)).true_positive_rates[0.01] is None
    assert evaluate_scores(*scored(3.0, n=90)).precision is None


def test_enough_nonmembers_show_that_members_are_named():
    scores, truth = scored(3.0, n=1000)
    assert evaluate_scores(scores, truth).true_positive_rates[0.01].low > 0.4


def test_patients_are_drawn_with_all_their_rows():
    scores, truth = scored(0.3, n=60, copies=10)
    patients = np.arange(1200) // 10
    wide, narrow = auc_interval(scores, truth, seed=0, groups=patients), auc_interval(scores, truth, seed=0)
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)
    alone = auc_interval(*scored(0.3, n=60), seed=0)
    assert (wide.low, wide.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert detectable_auc(truth, patients) == detectable_auc(scored(0.3, n=60)[1])
    kept = one_row_each(truth, patients, seed=0)
    assert len(kept) == len(np.unique(patients)) == 120


def test_a_shift_that_needs_no_model_is_flagged():
    scores, truth = scored(1.0)
    assert evaluate_scores(scores, truth, blind=scored(0.0, seed=5)[0]).flags == ()
    (flag,) = evaluate_scores(scores, truth, blind=scored(0.8, seed=5)[0]).flags
    assert flag.startswith("INVALID-SHIFT: ")


def test_what_shadows_reach_alone_is_named():
    scores, truth = scored(1.0)
    explained = evaluate_scores(scores, truth, without_target=scores + 0.05 * scored(0.0, seed=9)[0])
    assert "that explains it" in explained.flags[0]
    few, sides = scored(0.8, n=60)
    (flag,) = evaluate_scores(few, sides, without_target=scored(0.3, seed=10, n=60)[0]).flags
    assert "these few candidates do not show" in flag, "an AUC of about one half explains nothing"
    added = evaluate_scores(scores, truth, without_target=scored(0.0, seed=9)[0])
    assert added.flags == ()
    assert added.gain.low > 0.1


def test_the_gain_is_zero_for_the_same_scores_and_turns_with_them():
    scores, truth = scored(1.0)
    other = scored(0.2, seed=3)[0]
    assert auc_gain(scores, scores, truth, seed=0).value == 0
    there, back = auc_gain(scores, other, truth, seed=0), auc_gain(other, scores, truth, seed=0)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


@pytest.mark.parametrize(
    ("rates", "wanted"), [((0.9, 0.01, 0.01), 0.476), ((0.0, 0.0, 0.5), 0.0), ((1.0, 1.0, 0.5), 0.5)]
)
def test_precision_at_a_prior(rates, wanted):
    assert precision_at_prior(*rates) == pytest.approx(wanted, abs=5e-4)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_a_prior_out_of_bounds_is_refused(prior):
    with pytest.raises(ValueError, match="prior"):
        evaluate_scores(*scored(0.0, n=20), prior=prior)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-2, 2))
def test_scores_may_be_moved_and_stretched(seed, shift):
    scores, truth = scored(shift, n=120, seed=seed)
    first, second = (rate_at(each, truth, 0.05, seed=1) for each in (scores, np.exp(scores / 3) + 7))
    assert first == second
    assert 0 <= first.low <= first.value <= first.high <= 1


def tail(sign, n=2000, named=0.3, seed=3):
    """A few members are far from everybody, on one side; the others are as non-members."""
    rng = np.random.default_rng(seed)
    truth = np.arange(2 * n) < n
    scores = rng.normal(size=2 * n)
    scores[: int(named * n)] = sign * (6 + rng.random(int(named * n)))
    others = int(named * n), n
    scores[slice(*others)] += sign * -0.8  # and so that the AUC is about one half
    return scores, truth


def test_a_few_members_who_are_named_by_the_smallest_scores_are_seen_as_well():
    scores, truth = tail(sign=-1)
    found = evaluate_scores(scores, truth)
    assert found.auc.low < 0.5 < found.auc.high
    assert found.true_positive_rates[0.01].high < 0.2
    assert found.either_way.value == pytest.approx(0.3, abs=0.02)
    assert found.either_way.low > 0.25
    mirrored = evaluate_scores(-scores, truth)
    assert mirrored.either_way == found.either_way


def test_the_larger_of_both_rates_is_covered_where_there_is_no_leak():
    truth = np.arange(1000) < 500
    rng = np.random.default_rng(0)
    missed = 0
    for seed in range(200):
        found = either_rate_at(rng.normal(size=1000), truth, 0.01, seed=seed)
        missed += not found.low <= 0.01 <= found.high
    assert missed <= 10
