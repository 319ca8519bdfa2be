"""Distances between real and generated features against closed forms, with two samples of one distribution beside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.poisoning.metrics.frechet_distance import frechet_distance
from medward.attacks.poisoning.metrics.kernel_distance import kernel_distance
from medward.attacks.poisoning.metrics.precision_recall import generator_coverage
from medward.attacks.poisoning.metrics.real_floor import real_floor
from medward.guard.errors import MedwardError


def gaussian(rows, seed, mean=0.0, spread=1.0, width=4):
    return np.random.default_rng(seed).normal(mean, spread, (rows, width))


def exact(rows, mean, covariance, seed):
    """Rows whose mean and covariance are exactly those asked for."""
    drawn = gaussian(rows, seed, width=len(mean))
    drawn -= drawn.mean(axis=0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_a_sample_to_itself_is_zero():
    rows = gaussian(200, 0)
    assert frechet_distance(rows, rows[::-1]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_the_closed_form_of_commuting_covariances():
    real = exact(50, np.zeros(3), np.diag([1.0, 4.0, 9.0]), 1)
    made = exact(60, np.array([1.0, 0.0, 2.0]), np.diag([4.0, 4.0, 1.0]), 2)
    by_hand = (1 + 4) + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert frechet_distance(real, made) == pytest.approx(by_hand)
    assert frechet_distance(made, real) == pytest.approx(by_hand)


def test_frechet_distance_is_that_of_covariances_that_do_not_commute():
    left, right = np.array([[2.0, 1.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])
    real, made = exact(40, np.zeros(2), left, 3), exact(40, np.zeros(2), right, 4)
    product = left @ right  # 2 x 2: tr sqrt(M) = sqrt(tr M + 2 sqrt(det M))
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(real, made) == pytest.approx(3 + 4 - 2 * root)


def test_kernel_distance_is_unbiased_for_one_distribution_and_the_biased_form_is_not():
    pairs = [(gaussian(30, 2 * i), gaussian(30, 2 * i + 1)) for i in range(200)]
    found = np.array([kernel_distance(*pair) for pair in pairs])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))
    assert (found < 0).any()
    biased = np.array(
        [
            np.mean([((a @ b.T / 4 + 1) ** 3).mean() * s for a, b, s in [(x, x, 1), (y, y, 1), (x, y, -2)]]) * 3
            for x, y in pairs
        ]
    )
    assert biased.mean() > 3 * biased.std() / np.sqrt(len(biased))


def test_kernel_distance_by_hand():
    real, made = np.array([[0.0], [1.0]]), np.array([[2.0], [0.0]])
    assert kernel_distance(real, made) == pytest.approx(1 + 1 - 2 * (1 + 1 + 27 + 1) / 4)


@given(st.floats(0.5, 3))
def test_both_distances_see_a_shift_above_the_floor(shift):
    real, made = gaussian(200, 5), gaussian(200, 6, mean=shift)
    for distance in (frechet_distance, kernel_distance):
        floor = real_floor(distance, real, seed=0)
        assert distance(real, made) > floor.mean + 3 * floor.deviation
        assert floor.rows == 100


def test_a_second_sample_of_one_distribution_is_near_the_floor():
    real, same = gaussian(400, 7), gaussian(200, 8)
    for distance in (frechet_distance, kernel_distance):
        floor = real_floor(distance, real, seed=1)
        assert abs(distance(real[:200], same) - floor.mean) < 5 * floor.deviation


def test_a_generator_that_lost_a_mode_keeps_precision_and_half_of_recall():
    modes = np.concatenate([gaussian(300, 9), gaussian(300, 10, mean=50)])
    one = gaussian(300, 11)
    found = generator_coverage(modes, one)
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    turned = generator_coverage(one, modes)
    assert (turned.precision, turned.recall) == (found.recall, found.precision)


def test_a_generator_of_something_else_has_neither():
    found = generator_coverage(gaussian(50, 12), gaussian(50, 13, mean=100))
    assert (found.precision, found.recall) == (0, 0)


def test_coverage_by_hand():
    real, made = np.array([[0.0], [1.0], [10.0]]), np.array([[0.5], [12.0], [100.0]])
    found = generator_coverage(real, made, neighbours=1)  # reach of the real: 1, 1, 9; of the made: 11.5, 11.5, 88
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == 1.0


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, generator_coverage])
def test_features_that_do_not_compare_are_refused(distance):
    for real, made in ((gaussian(5, 0), gaussian(5, 0, width=3)), (gaussian(1, 0), gaussian(5, 0)), (np.ones(3),) * 2):
        with pytest.raises(MedwardError, match="two matrices of 2 rows or more"):
            distance(real, made)


def test_more_neighbours_than_rows_are_refused():
    with pytest.raises(MedwardError, match="fewer than the rows"):
        generator_coverage(gaussian(3, 0), gaussian(9, 0))
