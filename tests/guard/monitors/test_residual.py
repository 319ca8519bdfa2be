from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.monitors.noise_residuals import MOST_DEVIATIONS, NoiseResiduals, _cells


def images(n, seed, shape=(1, 24, 24)):
    """Blocks of grey with grain."""
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(0.2, 0.8, (n, shape[0], 4, 4))
    scene = blocks.repeat(-(-shape[1] // 4), axis=2).repeat(-(-shape[2] // 4), axis=3)[:, :, : shape[1], : shape[2]]
    return np.clip(scene + 0.02 * rng.normal(size=(n, *shape)), 0, 1).astype(np.float32)


def alike(a, b):
    """The share of pairs that pass for near-duplicates."""
    pairs = zip(FITTED.codes(a), FITTED.codes(b), strict=True)
    return np.mean([(int(one, 16) ^ int(other, 16)).bit_count() <= FITTED.radius for one, other in pairs])


FITTED = NoiseResiduals.fit(images(200, 0), images(150, 1))
TABLE = np.random.default_rng(0).normal(size=(300, 4)) * [1, 10, 100, 0.1]


@given(st.integers(0, 99), st.floats(-0.005, 0.005))
def test_a_small_shared_change_is_a_shared_shift(seed, size):
    change = np.random.default_rng(seed).choice([-1, 1], (1, 24, 24)) * size
    rows = images(20, seed).astype(np.float64)
    shifts = FITTED.whitened(rows + change) - FITTED.whitened(rows)
    alike = np.isclose(shifts, np.median(shifts, axis=0), atol=1e-6).all(axis=1)
    assert alike.mean() > 0.7  # the others have a number that is cut


def test_what_is_drawn_on_an_image_moves_no_number_far():
    rows = images(8, 0)
    marked = rows.copy()
    marked[:, :, 2:6, 2:6] = 1e3
    moved = (FITTED.whitened(marked) - FITTED.whitened(rows)) @ np.linalg.inv(FITTED.whitening)
    assert np.abs(moved).max() <= 2 * MOST_DEVIATIONS + 1e-3
    assert (np.abs(moved) > 0.1).mean() < 0.2, "what is drawn moves numbers where it is"


def test_the_residual_sees_grain_and_not_brightness():
    rows = images(50, 5)
    grain = np.random.default_rng(0).choice([-0.03, 0.03], rows.shape[1:]).astype(np.float32)
    before, grainy, brighter = (FITTED.whitened(rows + change) for change in (0, grain, np.float32(0.03)))
    assert np.linalg.norm(grainy - before, axis=1).mean() > 20 * np.linalg.norm(brighter - before, axis=1).mean()


def test_benign_rows_are_white_and_no_vector_is_longer_than_its_ball():
    z = FITTED.whitened(images(2000, 7))
    assert z.shape == (2000, FITTED.reference.shape[1])
    assert 0.7 < z.var() < 1.5
    assert np.linalg.norm(FITTED.vectors(images(50, 8) * 3), axis=1).max() <= FITTED.reference.shape[1] ** 0.5 + 4.001


def test_no_two_vectors_move_apart_when_cut_to_the_ball():
    a, b = images(100, 3) * 1.5, images(100, 4)
    before = np.linalg.norm(FITTED.whitened(a) - FITTED.whitened(b), axis=1)
    assert (np.linalg.norm(FITTED.vectors(a) - FITTED.vectors(b), axis=1) <= before + 1e-4).all()


def test_large_images_are_reduced_and_sketched_and_tables_standardised():
    large = NoiseResiduals.fit(images(60, 0, (3, 80, 70)), images(40, 1, (3, 80, 70)))
    assert large.reference.shape == (40, 256)
    table = NoiseResiduals.fit(TABLE[:150], TABLE[150:])
    assert table.reference.shape == (150, 1)  # four features to one number, so that no row can be computed back
    assert table.codes(TABLE[:2]) == ["", ""]
    assert np.allclose(table.reference.var(axis=0), 1, atol=0.5)


def test_the_deployed_map_is_differentiable_under_torch():
    rows = images(4, 2)
    x = torch.tensor(rows, requires_grad=True)
    z = FITTED.vectors(x, torch)
    assert np.allclose(z.detach().numpy(), FITTED.vectors(rows), atol=1e-4)
    z[:, 0].sum().backward()
    assert float(x.grad.abs().sum()) > 0


def test_codes_survive_a_perturbation_and_a_new_exposure_and_tell_images_apart():
    rows = images(100, 9)
    grain = np.random.default_rng(0).choice([-0.03, 0.03], rows.shape[1:]).astype(np.float32)
    assert alike(rows, rows + grain) > 0.9
    assert alike(rows, rows * 0.9 + 0.05) > 0.99
    assert alike(rows, rows[::-1]) < 0.1


def test_calibration_rows_take_no_part_in_the_fit():
    other = NoiseResiduals.fit(images(200, 0), images(150, 2))
    assert (other.whitening == FITTED.whitening).all()
    assert other.fingerprint != FITTED.fingerprint


def test_round_trip_and_a_missing_fit_is_refused():
    again = NoiseResiduals.from_arrays(FITTED.arrays())
    assert again.fingerprint == FITTED.fingerprint
    assert (again.vectors(images(3, 3)) == FITTED.vectors(images(3, 3))).all()
    with pytest.raises(MedwardError, match="do not fit"):
        NoiseResiduals.from_arrays({**FITTED.arrays(), "reference": np.zeros((3, 2), np.float32)})


def test_flat_images_and_constant_columns_are_no_trap():
    flat = NoiseResiduals.fit(np.full((30, 1, 6, 6), 0.5, np.float32), np.full((30, 1, 6, 6), 0.5, np.float32))
    assert np.isfinite(flat.vectors(images(3, 0, (1, 6, 6)))).all()
    table = np.column_stack([TABLE[:, :2], np.zeros(300)])
    assert np.isfinite(NoiseResiduals.fit(table[:100], table[100:]).reference).all()


@pytest.mark.parametrize("size", [3e38, -3e38, 1e20])
def test_the_largest_floats_leave_a_finite_vector(size):
    rng = np.random.default_rng(0)
    fitted = NoiseResiduals.fit(TABLE[:150], TABLE[150:])
    rows = TABLE[:3].astype(np.float32)
    rows[1] = size * rng.choice([-1, 1], 4)
    vectors = fitted.vectors(rows)
    assert np.isfinite(vectors).all()
    assert np.array_equal(vectors[[0, 2]], fitted.vectors(rows[[0, 2]]))
    assert torch.isfinite(fitted.vectors(torch.as_tensor(rows), torch)).all()


def anatomy(n, seed):
    """Images that resemble one another as radiographs do: one layout, and what is each one's own."""
    layout = images(1, 10_000)
    return (0.6 * layout + 0.4 * images(n, seed)).astype(np.float32)


BEYOND = {
    "inverted": lambda x: 1 - x,
    "brighter": lambda x: np.clip(x + 0.3, 0, 1),
    "steeper": lambda x: np.clip(3 * (x - 0.5) + 0.5, 0, 1),
    "upside down": lambda x: x[:, :, ::-1],
}


def near(codes, others, radius):
    """The share of pairs of codes that pass for near-duplicates."""
    return np.mean([(int(a, 16) ^ int(b, 16)).bit_count() <= radius for a, b in zip(codes, others, strict=True)])


@pytest.mark.parametrize("change", BEYOND)
def test_different_images_are_no_copies_however_far_from_benign_and_copies_are(change):
    fitted = NoiseResiduals.fit(anatomy(200, 0), anatomy(100, 1))
    rows = np.ascontiguousarray(BEYOND[change](anatomy(200, 2))).astype(np.float32)
    codes, radius = fitted.codes(rows), int(fitted.radius)
    assert near(codes[1:], codes[:-1], radius) < 0.02
    again = np.clip(np.roll(rows, 1, axis=3) * 1.02, 0, 1).astype(np.float32)
    again[:, :, :, 0] = rows[:, :, :, 0]
    grain = np.random.default_rng(0).normal(size=rows.shape) * 0.01
    assert near(codes, fitted.codes(again), radius) > 0.5
    assert near(codes, fitted.codes((rows + grain).astype(np.float32)), radius) > 0.9


def test_the_next_image_of_a_series_is_a_repeat_and_that_of_another_patient_is_not():
    fitted = NoiseResiduals.fit(anatomy(200, 0), anatomy(100, 1))
    rows, rng = anatomy(200, 2), np.random.default_rng(1)
    moved = np.clip(np.roll(rows, 1, axis=2) + 0.01 * rng.normal(size=rows.shape), 0, 1).astype(np.float32)
    moved[:, :, 0] = rows[:, :, 0]
    radius, tight = int(fitted.repeat_radius), int(fitted.radius)
    assert near(fitted.codes(rows), fitted.codes(moved), radius) > near(fitted.codes(rows), fitted.codes(moved), tight)
    assert near(fitted.codes(rows), fitted.codes(moved), radius) > 0.9
    for images in (rows, 1 - rows):
        assert near(fitted.codes(images[1:]), fitted.codes(images[:-1]), radius) < 0.05


def test_sides_of_planes_take_all_inverted_images_for_copies_of_one_another():
    """The negative control: what the codes were made of before."""
    rng = np.random.default_rng(0)
    fit, rows = _cells(anatomy(200, 0)), _cells(1 - anatomy(200, 2))
    normals = rng.normal(size=(64, fit.shape[1])) / fit.std(axis=0)
    sides = [each @ normals.T > normals @ fit.mean(axis=0) for each in (fit, rows)]
    radius = np.quantile((sides[0][1:] != sides[0][:-1]).sum(axis=1), 0.02)
    assert np.mean((sides[1][1:] != sides[1][:-1]).sum(axis=1) <= radius) > 0.5
