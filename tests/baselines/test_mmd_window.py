import numpy as np
import pytest
from baselines.mmd_window import MmdWindow, batch, kernel, two_batches, within

RNG = np.random.default_rng(0)
BENIGN = RNG.normal(size=(400, 3))
WINDOW = 40


@pytest.fixture(scope="module")
def rule():
    return MmdWindow.fit(BENIGN, window=WINDOW, seed=1)


def run(rule, rows):
    state, alarms = rule.start(), []
    for row in rows:
        state, over = rule.step(state, row, 0)
        alarms.append(over)
    return alarms


def test_the_estimate_is_unbiased_and_no_row_is_its_own_pair():
    rows = RNG.normal(size=(6, 2))
    gram = kernel(rows, rows, (1.0,))
    by_hand = np.mean([gram[i, j] for i in range(6) for j in range(6) if i != j])
    assert within(np.ones((1, 6)), gram)[0] == pytest.approx(by_hand)
    # A row that was asked twice is a pair of different queries.
    twice = kernel(rows[[0, 0, 1]], rows[[0, 0, 1]], (1.0,))
    assert within(np.array([[2, 1]]), gram[:2, :2])[0] == pytest.approx(within(np.ones((1, 3)), twice)[0])


def test_the_kernel_is_the_mean_of_gaussians():
    value = kernel(np.zeros((1, 2)), np.array([[3.0, 4.0]]), (5.0, 10.0))
    assert value[0, 0] == pytest.approx((np.exp(-0.5) + np.exp(-0.125)) / 2)


def test_about_one_benign_window_in_twenty_is_above_the_threshold_for_a_single_batch(rule):
    rows = np.random.default_rng(2).normal(size=(200 * WINDOW, 3))
    alarms = np.array(run(rule, rows))
    assert alarms.sum() <= 0.05 * 200 + 3 * np.sqrt(200 * 0.05)


def test_it_judges_full_windows_only_and_forgets_between_them(rule):
    far = np.full((3 * WINDOW, 3), 2.0) + RNG.normal(size=(3 * WINDOW, 3))
    assert np.flatnonzero(run(rule, far)).tolist() == [WINDOW - 1, 2 * WINDOW - 1, 3 * WINDOW - 1]
    half = np.concatenate([far[: WINDOW - 1], BENIGN[: WINDOW + 1]])
    assert run(rule, half)[WINDOW - 1], "the window that a thief filled but for one"
    assert not run(rule, far[: WINDOW - 1])[-1]


def test_a_thief_of_few_queries_is_lost_in_a_window(rule):
    rng = np.random.default_rng(3)
    mixed = BENIGN[rng.integers(len(BENIGN), size=20 * WINDOW)]
    mixed[::20] += 6.0
    assert np.sum(run(rule, mixed)) < 20


def test_counts_of_known_rows_give_what_the_rows_give(rule):
    rng = np.random.default_rng(4)
    pool = rng.normal(size=(30, 3))
    rows = rng.integers(30, size=WINDOW)
    picks = rng.integers(len(rule.bank), size=(1, 20))
    counts = np.bincount(rows, minlength=30)[None].astype(float)
    short = rule.scores(counts, kernel(pool, pool, rule.widths), rule.cross(pool), picks)
    full = pool[rows]
    long = rule.scores(np.ones((1, WINDOW)), kernel(full, full, rule.widths), rule.cross(full), picks)
    assert short == pytest.approx(long)


def test_batches_share_no_row_where_there_are_enough():
    first, second = two_batches(10, 5, RNG)
    assert sorted([*first, *second]) == list(range(10))
    assert len(set(batch(10, 10, RNG))) == 10
    assert len(batch(10, 12, RNG)) == 12
