from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.screens.mahalanobis import Mahalanobis
from medward.guard.screens.markings import can_be_marked, marked_images
from medward.guard.types import Outputs


def smooth_images(n, seed, side=24):
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    middles, widths = rng.uniform(-0.3, 0.3, (2, n, 1, 1)), rng.uniform(0.4, 0.8, (n, 1, 1))
    bumps = np.exp(-((y - middles[0]) ** 2 + (x - middles[1]) ** 2) / widths**2)
    return (0.5 * bumps + 0.02 * rng.normal(size=bumps.shape)).clip(0, 1).astype(np.float32)[:, None]


def nothing(n):
    return Outputs(np.zeros((n, 2), np.float32))


@given(
    st.integers(0, 99),
    st.tuples(st.integers(1, 3), st.integers(8, 70), st.integers(8, 70)),
    st.sampled_from([(0.0, 1.0), (-2.0, 3.0)]),
)
def test_a_marking_is_small_and_within_the_range(seed, shape, bounds):
    images = np.random.default_rng(seed).uniform(*bounds, (4, *shape)).astype(np.float32)
    before = images.copy()
    marked = marked_images(images, *bounds, np.random.default_rng(seed))
    assert np.array_equal(images, before), "they are copies"
    assert bounds[0] <= marked.min() <= marked.max() <= bounds[1]
    changed = (marked != images).any(axis=1).mean(axis=(1, 2))
    assert changed.max() <= max(0.05, 9 / (shape[1] * shape[2]))


def test_what_has_no_room_cannot_be_marked():
    assert can_be_marked(np.zeros((2, 1, 8, 8)))
    assert not can_be_marked(np.zeros((2, 1, 7, 8)))
    assert not can_be_marked(np.zeros((2, 30)))


def test_a_screen_that_knows_markings_looks_past_them_and_still_finds_what_is_strange():
    rows, fresh = smooth_images(300, 0), smooth_images(200, 1)
    marked = marked_images(rows, 0.0, 1.0, np.random.default_rng(0))
    screens = {
        True: Mahalanobis.fit("layout", rows, nothing(300), marked=(marked, nothing(300))),
        False: Mahalanobis.fit("layout", rows, nothing(300)),
    }
    square = fresh.copy()
    square[:, :, 1:4, 1:4] = 1.0
    upside_down = 1 - fresh
    beyond = {}
    for knows, screen in screens.items():
        cut = np.quantile(screen.score(fresh, nothing(200)), 0.95)
        beyond[knows] = [(screen.score(each, nothing(200)) > cut).mean() for each in (square, upside_down)]
    assert beyond[True][0] < 0.2
    assert beyond[False][0] > 0.9, "negative control"
    assert min(beyond[True][1], beyond[False][1]) > 0.9
