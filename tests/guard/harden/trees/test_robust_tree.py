"""Spans, sums and splits of robust trees are what trying every place of every row gives."""

import numpy as np
import pytest

from medward.guard.harden.trees.cuts import candidate_cuts, joined_spans, row_spans, side_sums
from medward.guard.harden.trees.robust_tree import RowSlopes, grow_tree, refined_tree, worst_values

CUTS, ROOM = 6, np.array([0.4, 0.0, 1.0])


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=60), rng.integers(3, size=60), 3 * rng.normal(size=60)], axis=1).astype(np.float32)
    return x, candidate_cuts(x, CUTS), rng


def slopes(x, rng):
    return RowSlopes(
        wanted=np.where(x[:, 0] + 0.3 * rng.normal(size=len(x)) > 0, 1.0, -1.0),
        slope=rng.uniform(0.2, 1, len(x)),
        curvature=rng.uniform(0.1, 0.3, len(x)),
    )


def test_cuts_lie_between_values_and_are_filled_up(table):
    x, cuts, _ = table
    assert cuts.shape == (3, CUTS)
    assert cuts[1].tolist() == [0.5, 1.5, *[np.inf] * 4]
    assert np.isfinite(cuts[0]).all()
    assert (np.diff(cuts[0]) > 0).all()
    assert not np.isin(cuts[0], x[:, 0]).any()


def test_a_row_can_lie_where_moving_it_takes_it(table):
    x, cuts, _ = table
    spans = row_spans(x, cuts, ROOM)
    for column in range(3):
        reach = x[:, [column]] + np.linspace(-1, 1, 2001) * ROOM[column]
        for cut in np.flatnonzero(np.isfinite(cuts[column])):
            assert (spans.left(column, cut) == (reach <= cuts[column, cut]).any(axis=1)).mean() > 0.98
            assert (spans.left(column, cut) | spans.right(column, cut)).all()
            assert (spans.right(column, cut) >= (reach > cuts[column, cut]).any(axis=1)).all()


def test_sums_are_those_of_rows_that_stay_on_a_side(table):
    x, cuts, rng = table
    spans, terms, rows = row_spans(x, cuts, ROOM), rng.normal(size=(60, 2)), np.arange(0, 60, 2)
    left, right = side_sums(spans, rows, terms, CUTS)
    for column in range(3):
        for cut in range(CUTS):
            sides = spans.left(column, cut)[rows], spans.right(column, cut)[rows]
            assert left[:, column, cut] == pytest.approx(terms[rows][sides[0] & ~sides[1]].sum(axis=0))
            assert right[:, column, cut] == pytest.approx(terms[rows][sides[1] & ~sides[0]].sum(axis=0))


def worst_loss(tree, spans, given, smoothing):
    added = given.wanted * worst_values(tree, tree.reached(spans), given.wanted)
    leaves = tree.values[tree.left < 0]
    return float((-given.slope * added + given.curvature * added**2 / 2).sum() + smoothing * (leaves**2).sum() / 2)


def test_the_split_is_the_best_at_the_worst_case(table):
    x, cuts, rng = table
    spans, given, smoothing = row_spans(x, cuts, ROOM), slopes(x, rng), 1.0
    stump = grow_tree(spans, given, cuts=CUTS, depth=1, smoothing=smoothing, fewest=1)
    for _ in range(10):
        stump = refined_tree(stump, stump.reached(spans), given, smoothing)
    least = worst_loss(stump, spans, given, smoothing)
    for column in range(3):
        for cut in np.flatnonzero(np.isfinite(cuts[column])):
            other = stump.with_values(stump.values)
            other.column[0], other.cut[0], kept = column, cut, (stump.column[0], stump.cut[0])
            for low in np.linspace(-2, 2, 41):
                for high in np.linspace(-2, 2, 41):
                    assert (
                        worst_loss(other.with_values(np.array([0, low, high])), spans, given, smoothing) > least - 0.05
                    )
            other.column[0], other.cut[0] = kept


def test_a_split_that_rows_can_cross_gains_nothing(table):
    x, cuts, rng = table
    given = slopes(x, rng)
    still = grow_tree(row_spans(x, cuts, 0 * ROOM), given, cuts=CUTS, depth=1, smoothing=1.0, fewest=1)
    moved = grow_tree(row_spans(x, cuts, np.full(3, 99.0)), given, cuts=CUTS, depth=1, smoothing=1.0, fewest=1)
    assert len(still.left) == 3
    assert len(moved.left) == 1


def test_what_a_tree_adds_at_worst_is_the_worst_of_all_places(table):
    x, cuts, rng = table
    given = slopes(x, rng)
    spans = joined_spans(row_spans(x, cuts, 0 * ROOM), row_spans(x, cuts, ROOM))
    twice = RowSlopes(**{name: np.tile(getattr(given, name), 2) for name in ("wanted", "slope", "curvature")})
    tree = grow_tree(spans, twice, cuts=CUTS, depth=3, smoothing=1.0, fewest=2)
    reached = tree.reached(spans)
    tree = refined_tree(tree, reached, twice, 1.0)
    worst = given.wanted * worst_values(tree, reached, twice.wanted)[60:]
    tried = []
    for _ in range(300):
        near = row_spans((x + rng.uniform(-1, 1, x.shape) * ROOM).astype(np.float32), cuts, np.zeros(3))
        tried.append(given.wanted * (tree.values * tree.reached(near)).sum(axis=1))
    assert (np.min(tried, axis=0) >= worst - 1e-9).all()
    assert (np.min(tried, axis=0) <= worst + 1e-9).mean() > 0.9
