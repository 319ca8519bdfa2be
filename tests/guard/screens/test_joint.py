"""The joint screen: rows whose columns were drawn one by one stand out where columns depend on one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.screens.fused import FusedScreen
from medward.guard.screens.joint import (
    FEW_VALUES,
    INVENTED,
    JOINT,
    JointScreen,
    column_codes,
    logistic_weights,
    normal_rows,
    shuffled_rows,
)
from medward.guard.types import Outputs


def dependent(n, seed, columns=6):
    """Columns that follow from two hidden numbers, by curves that leave no linear trace in half of them."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2))
    curved = [hidden[:, j % 2] ** 2 if j % 2 else hidden[:, 0] * (1 + j) for j in range(columns)]
    return (np.stack(curved, axis=1) + 0.05 * rng.normal(size=(n, columns))).astype(np.float32)


def independent(n, seed, columns=6):
    return np.random.default_rng(seed).normal(size=(n, columns)).astype(np.float32)


def nothing(rows):
    return Outputs(np.zeros((len(rows), 2), np.float32))


def above(screen, benign, made):
    """How often a made row scores higher than a benign one."""
    scores = [screen.score(rows, nothing(rows)) for rows in (benign, made)]
    return float((scores[1][:, None] > scores[0]).mean())


@pytest.mark.parametrize("make", [shuffled_rows, normal_rows])
def test_rows_that_were_invented_column_by_column_stand_out(make):
    fit, fresh = dependent(200, 0), dependent(300, 1)
    screen = JointScreen.fit(fit, nothing(fit), seed=0)
    made = make(fit, 300, np.random.default_rng(2)).astype(np.float32)
    assert above(screen, fresh, made) > 0.95


def test_of_columns_that_are_independent_nothing_tells_shuffled_rows():
    """The negative control: there is nothing to see, and a screen that saw something would be wrong."""
    fit, fresh = independent(200, 0), independent(300, 1)
    screen = JointScreen.fit(fit, nothing(fit), seed=0)
    made = shuffled_rows(fit, 300, np.random.default_rng(2)).astype(np.float32)
    assert abs(above(screen, fresh, made) - 0.5) < 0.08


def test_dependence_without_correlation_is_seen_by_it_and_not_by_a_distance():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 600)
    ring = np.stack([np.cos(angle), np.sin(angle), rng.normal(size=600)], axis=1).astype(np.float32)
    fit, fresh = ring[:300], ring[300:]
    made = shuffled_rows(fit, 300, rng).astype(np.float32)
    assert above(JointScreen.fit(fit, nothing(fit), seed=0), fresh, made) > 0.65
    distance = FusedScreen.fit(("rows",), fit, nothing(fit)).screens[0]
    assert above(distance, fresh, made) < 0.58


def test_a_column_of_a_few_values_has_a_law_of_its_own():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(0, 3, 300), rng.normal(size=300)]).astype(np.float32)
    screen = JointScreen.fit(rows, nothing(rows), seed=0)
    between = rows.copy()
    between[:, 0] += 0.5
    assert screen.coded.tolist() == [0]
    assert above(screen, rows, between) > 0.9


def test_torch_sees_what_numpy_sees_and_has_gradients():
    rows = dependent(120, 0)
    screen = JointScreen.fit(rows, nothing(rows), seed=0)
    tensor = torch.tensor(rows, requires_grad=True)
    outputs = Outputs(torch.zeros(len(rows), 2))
    scores = screen.score(tensor, outputs, torch)
    np.testing.assert_allclose(scores.detach().numpy(), screen.score(rows, nothing(rows)), rtol=1e-3, atol=1e-3)
    scores.sum().backward()
    assert (tensor.grad.abs().sum(dim=1) > 0).all()


def test_what_was_fitted_is_read_back_in_the_fused_screen():
    rows = dependent(120, 0)
    fused = FusedScreen.fit(("rows", JOINT), rows, nothing(rows), seed=3)
    again = FusedScreen.from_arrays(fused.arrays())
    np.testing.assert_array_equal(fused.strangeness(rows, nothing(rows)), again.strangeness(rows, nothing(rows)))
    other = FusedScreen.fit(("rows", JOINT), rows, nothing(rows), seed=4)
    assert (other.strangeness(rows, nothing(rows)) != fused.strangeness(rows, nothing(rows))).any(), (
        "the seed is secret"
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(20, 60), st.sampled_from(["constant", "huge", "codes", "plain"]))
def test_scores_are_finite_for_any_table(columns, n, kind):
    rng = np.random.default_rng(columns * n)
    rows = rng.normal(size=(n, columns)).astype(np.float32)
    if kind == "constant":
        rows[:, 0] = 7
    if kind == "huge":
        rows *= 1e30
    if kind == "codes":
        rows = rng.integers(0, 2, size=(n, columns)).astype(np.float32)
    screen = JointScreen.fit(rows, nothing(rows), seed=0)
    far = np.concatenate([rows, rows * 1e6, np.zeros_like(rows)])
    assert np.isfinite(screen.score(far, nothing(far))).all()


def test_a_wide_table_is_fitted_without_a_square_of_its_width():
    rows = np.random.default_rng(0).normal(size=(60, 3000)).astype(np.float32)
    screen = JointScreen.fit(rows, nothing(rows), seed=0)
    assert screen.whitening.shape[0] < 100
    assert len(screen.weights) < 200
    assert np.isfinite(screen.score(rows, nothing(rows))).all()


def test_codes_are_the_values_of_a_column():
    codes = column_codes(np.array([[1.0, 0.0], [3.0, 0.0], [1.0, 0.0]]))
    assert codes.shape == (2, FEW_VALUES)
    assert set(codes[0]) == {1.0, 3.0}
    assert set(codes[1]) == {0.0}


def test_the_regression_weighs_both_sides_alike():
    rng = np.random.default_rng(0)
    side = np.arange(INVENTED * 100) >= 100
    shown = np.column_stack([np.ones(len(side)), rng.normal(size=len(side))])
    assert abs(float((shown @ logistic_weights(shown, side)).mean())) < 0.3
