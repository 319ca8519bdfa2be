"""The test of a generalisation gap: found where there is one, seldom where there is none, and weak for few rows."""

from __future__ import annotations

import numpy as np

from medward.attacks.ownership.generalisation_gap import LARGEST_GAP_P, generalisation_gap_p_value


def found(rng, trained, held, rows, runs=300):
    """The share of runs in which a gap between such accuracies is found."""
    p = [generalisation_gap_p_value(rng.random(rows) < trained, rng.random(rows) < held) for _ in range(runs)]
    return np.mean(np.array(p) <= LARGEST_GAP_P)


def test_a_gap_is_found_and_none_is_found_no_more_often_than_said():
    rng = np.random.default_rng(0)
    assert found(rng, 0.98, 0.85, 300) > 0.95
    assert found(rng, 0.9, 0.9, 300) <= 0.08
    assert found(rng, 0.85, 0.98, 300) == 0.0  # one-sided


def test_few_rows_show_no_small_gap():
    assert found(np.random.default_rng(0), 0.95, 0.9, 30) < 0.2
