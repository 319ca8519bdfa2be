"""Whitening: shrunk to the diagonal, and however wide the rows the same distances without a square of the width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf

from medward.guard.profile import Profile, forward_batches
from medward.guard.screens.mahalanobis import Mahalanobis
from medward.guard.screens.whitening import MIN_VARIANCE, fit_whitening, shrunk_covariance, whiten
from medward.guard.types import Outputs


def rows_of(n, d, seed=0):
    """Correlated columns of all sizes, some constant, some equal."""
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + rng.normal(size=(n, d))) * rng.uniform(0.01, 2, d)
    rows[:, : d // 8], rows[:, d // 8 : d // 4] = 0, rows[:, d // 4 : d // 4 + d // 4 - d // 8]
    return rows - rows.mean(axis=0)


def dense(rows):
    """The whitening by the covariance written out, symmetric in scaled coordinates as the wide form is."""
    values, vectors = np.linalg.eigh(shrunk_covariance(rows))
    return vectors / np.sqrt(values)


def test_shrinkage_keeps_the_directions_in_which_benign_data_hardly_vary():
    # Two nearly equal columns: their difference is what gives a perturbation away.
    rng = np.random.default_rng(0)
    common = rng.normal(size=(200, 1))
    rows = np.hstack([common, common + 0.02 * rng.normal(size=(200, 1)), rng.normal(size=(200, 3))])
    covariance = shrunk_covariance(rows - rows.mean(0))
    difference = np.array([1, -1, 0, 0, 0]) / np.sqrt(2)
    assert difference @ covariance @ difference < 0.01
    ledoit = ledoit_wolf(rows)[0]
    assert difference @ covariance @ difference < difference @ ledoit @ difference


def test_with_fewer_rows_than_dimensions_the_covariance_is_invertible_and_mostly_diagonal():
    noise = np.random.default_rng(0).normal(size=(20, 50))
    covariance = shrunk_covariance(noise - noise.mean(0))
    assert np.linalg.eigvalsh(covariance).min() > 0.01
    off = ~np.eye(50, dtype=bool)
    assert np.abs(covariance[off]).sum() < 0.5 * np.abs(np.cov(noise.T)[off]).sum()


@pytest.mark.parametrize(("n", "d"), [(30, 31), (30, 32), (40, 200), (60, 60)])
def test_however_wide_the_rows_whitening_is_that_of_the_shrunk_covariance(n, d):
    """With more columns than rows it is found without the covariance; constant and equal columns included."""
    rows = rows_of(n, d)
    root = whiten(np.eye(d), fit_whitening(rows))
    assert np.allclose(root @ root.T @ shrunk_covariance(rows), np.eye(d), atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 24), d=st.integers(1, 80), seed=st.integers(0, 1000))
def test_distances_are_those_of_the_covariance_written_out(n, d, seed):
    rows = rows_of(n, d, seed)
    fresh = 3 * np.random.default_rng(seed + 1).normal(size=(5, d))
    own = (whiten(fresh, fit_whitening(rows)) ** 2).sum(axis=1)
    assert np.allclose(own, ((fresh @ dense(rows)) ** 2).sum(axis=1), rtol=1e-6)


@given(n=st.integers(2, 24), d=st.integers(1, 80))
def test_what_is_kept_grows_with_the_width_and_its_shape_says_what_it_is(n, d):
    shape = fit_whitening(rows_of(n, d)).shape
    assert shape[1] == d
    assert shape[0] == d if d <= n + 1 else shape[0] <= n + 1 < d


def test_narrow_rows_are_whitened_by_the_matrix_itself():
    rows, fresh = rows_of(60, 12), np.random.default_rng(1).normal(size=(7, 12))
    assert (whiten(fresh, fit_whitening(rows)) == fresh @ dense(rows)).all()


def test_independent_wide_rows_are_only_scaled():
    """Negative control: where shrinkage leaves the diagonal alone, no direction takes anything away."""
    noise = np.random.default_rng(0).normal(size=(20, 400))
    noise -= noise.mean(axis=0)
    whitening = fit_whitening(noise)
    variances = np.maximum((noise**2).mean(axis=0), MIN_VARIANCE)
    assert np.allclose(whitening[0], 1 / np.sqrt(variances))
    assert np.allclose(whiten(noise, whitening), noise / np.sqrt(variances))


def test_a_wide_whitening_is_differentiated_as_it_stands():
    whitening = torch.from_numpy(fit_whitening(rows_of(10, 40)))
    point = torch.randn(1, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: (whiten(x, whitening) ** 2).sum(), point)


def test_a_profile_of_wide_rows_written_square_answers_as_the_narrow_form():
    """Profiles on disk from before hold a matrix however wide the rows."""
    rows = rows_of(60, 300).astype(np.float32)
    outputs = Outputs(rows[:, :2])
    screen = Mahalanobis.fit("rows", rows, outputs)
    arrays = screen.arrays()
    assert arrays["whitening"].shape[0] < 62
    square = Mahalanobis.from_arrays("rows", {**arrays, "whitening": whiten(np.eye(300), arrays["whitening"])})
    assert np.allclose(square.score(rows, outputs), screen.score(rows, outputs), atol=1e-5)


def test_a_wide_row_is_as_strange_alone_as_in_a_batch(linear_model):
    rows = rows_of(260, 3000).astype(np.float32)
    model = replace(linear_model, weights=np.ones((3000, 3), np.float32))
    profile = Profile.fit(model, rows, risk=0.05, secret=0)
    together = profile.strangeness(rows, forward_batches(model, rows))
    alone = [profile.strangeness(row[None], forward_batches(model, row[None]))[0] for row in rows]
    assert np.abs(together - alone).max() < 1e-4, "of scores whose benign 95th percentile is 1"
