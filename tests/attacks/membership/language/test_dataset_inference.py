"""The p-value of a set of texts holds when nothing was trained on, and is small when much was."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medward.attacks.membership.language.attack import named_scores
from medward.attacks.membership.language.dataset_inference import FEWEST_UNITS, infer_dataset
from medward.guard.errors import MedwardError


def p_values(shift, runs=200, rows=60, columns=12):
    found = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        suspect, known = rng.standard_t(3, (rows, columns)) + shift, rng.standard_t(3, (rows, columns))
        found.append(infer_dataset(suspect, known, seed=seed).p_value)
    return np.array(found)


def test_under_the_null_p_values_are_uniform():
    values = p_values(0.0)
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert (values <= 0.05).mean() <= 0.09


def test_weak_scores_together_prove_membership_of_a_set():
    assert np.median(p_values(0.3, runs=30, rows=150)) < 0.01


def test_patients_with_many_texts_do_not_make_the_test_bolder():
    """Each patient's texts are copies: counted one by one they would reject far too often."""
    bold, grouped = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        whose = np.repeat(np.arange(30), 8)
        suspect, known = (rng.normal(size=(30, 4))[whose] for _ in range(2))
        bold.append(infer_dataset(suspect, known, seed=seed).p_value)
        grouped.append(infer_dataset(suspect, known, suspect_groups=whose, known_groups=whose, seed=seed).p_value)
    assert np.mean(np.array(bold) < 0.05) > 0.2
    assert np.mean(np.array(grouped) < 0.05) <= 0.12


def test_scores_without_any_spread_prove_nothing():
    assert infer_dataset(np.ones((40, 3)), np.ones((40, 3)), seed=0).p_value == 1


def test_few_texts_are_refused():
    with pytest.raises(MedwardError, match=f"needs {FEWEST_UNITS} patients or texts of each kind, got 19"):
        infer_dataset(np.zeros((40, 2)), np.zeros((19, 2)), seed=0)


def test_the_set_that_a_model_knows_by_heart_is_found_and_another_is_not(readings, unrelated, truth):
    names = ["loss", "min-k", "zlib", "min-k++"]
    for read, trained in ((readings, True), (unrelated, False)):
        rows = np.column_stack(list(named_scores(read, names).values()))
        found = infer_dataset(rows[truth], rows[~truth], seed=0)
        assert (found.p_value < 1e-4) is trained
        assert found.units == 60
