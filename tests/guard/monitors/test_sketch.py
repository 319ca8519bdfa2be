from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.monitors.sketch import Sketch

SHAPES = st.one_of(st.tuples(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40)), st.tuples(st.integers(4, 90)))


@given(SHAPES, st.integers(1, 64), st.integers(0, 99))
def test_every_value_is_in_one_bucket_once(shape, buckets, seed):
    buckets = min(buckets, prod(shape))
    sketch = Sketch.of(shape, buckets, np.random.default_rng(seed))
    assert sorted(sketch.order[sketch.signs != 0]) == list(range(prod(shape)))
    assert set(np.abs(sketch.signs)) <= {0, 1}
    filled = (sketch.signs.reshape(-1, buckets) != 0).sum(axis=0)
    assert filled.min() >= 1
    assert filled.max() - filled.min() <= 1


def test_values_of_a_bucket_lie_together_on_an_image():
    sketch = Sketch.of((3, 32, 32), 256, np.random.default_rng(0))
    y, x = np.divmod(sketch.order.reshape(-1, 256) % 1024, 32)
    assert np.ptp(y, axis=0).max() == np.ptp(x, axis=0).max() == 1, "two by two pixels, of three channels"
    assert sorted(map(tuple, np.round(sketch.places - sketch.places.min(axis=0)))) == [
        (row, column) for row in range(16) for column in range(16)
    ]


@given(st.integers(12, 64), st.integers(12, 64))
def test_buckets_are_small_on_any_image(height, width):
    buckets = max(1, height * width // 9)
    sketch = Sketch.of((1, height, width), buckets, np.random.default_rng(0))
    y, x = np.divmod(sketch.order.reshape(-1, buckets), width)
    across = np.maximum(np.ptp(y, axis=0), np.ptp(x, axis=0))
    assert np.median(across) <= 6
    assert sketch.places.shape == (buckets, 2)


def test_columns_of_a_table_are_dealt_at_random_and_have_no_places():
    first, second = (Sketch.of((40,), 10, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(first.order, second.order)
    assert first.places.shape == (0, 2)


def test_signs_are_secret():
    first, second = (Sketch.of((1, 16, 16), 64, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.array_equal(first.order, second.order)
    assert 0.3 < (first.signs == second.signs).mean() < 0.7
