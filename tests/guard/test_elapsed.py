"""Time that counts for what expires, whatever a clock says in between."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from medward.guard.accounts.clock import LONGEST, Elapsed, SteadyClock, elapsed_time

YEARS = 3650 * 86400.0
times = st.floats(-1e12, 1e12) | st.sampled_from([math.nan, math.inf, -math.inf])


def said(*readings):
    """What `SteadyClock` makes of a clock that says `readings`."""
    left = iter(readings)
    clock = SteadyClock(lambda: next(left))
    return [clock() for _ in readings]


@given(readings=st.lists(times, max_size=30))
def test_it_never_goes_back_and_no_reading_moves_it_by_more_than_a_day(readings):
    shown = said(1e9, *readings)
    assert all(0 <= after - before <= LONGEST * (1 + 1e-9) for before, after in pairwise(shown))


@given(steps=st.lists(st.floats(0, LONGEST), max_size=30))
def test_it_is_the_clock_where_that_does_not_jump(steps):
    readings = [1e9]
    for step in steps:
        readings.append(readings[-1] + step)
    assert all(math.isclose(*pair, abs_tol=1e-3) for pair in zip(said(*readings), readings, strict=True))


def test_a_jump_there_and_back_costs_a_day_and_clocks_that_differ_a_little_cost_nothing():
    assert said(1e9, 1e9 + YEARS, 1e9, 1e9 + 5)[-1] == 1e9 + LONGEST + 5
    assert said(1e9, 0.0, 1e9, 1e9 + 5)[-1] == 1e9 + LONGEST + 5
    assert said(1e9, *[1e9 + 30, 1e9] * 100)[-1] == 1e9 + 30


def test_a_clock_that_says_no_number_changes_nothing():
    assert elapsed_time(Elapsed(5.0, 7.0), math.nan) == Elapsed(5.0, 7.0)
    assert said(math.nan, 1e9, math.inf, 1e9 + 1) == [0.0, 1e9, 1e9, 1e9 + 1]
