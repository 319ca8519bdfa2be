import numpy as np
import pytest
from scipy import stats

from medward.attacks.intervals import clopper_pearson
from medward.attacks.validation.sample_size import (
    PLANNED_POWER,
    PLANNED_SHARE,
    rows_to_hold,
    short_groups,
    shortage_note,
)
from medward.guard.errors import MedwardError


def chance_to_hold(n, limit, rate):
    """By the interval itself: the chance that its upper end lies within the limit."""
    held = np.array([clopper_pearson(hits, n).high <= limit for hits in range(n + 1)])
    return float(stats.binom.pmf(np.arange(n + 1), n, rate)[held].sum())


@pytest.mark.parametrize("limit", [0.05, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("share", [0.0, 0.25, PLANNED_SHARE])
def test_the_planned_rows_hold_the_bound_by_the_interval_that_judges_and_fewer_do_not(limit, share):
    n = rows_to_hold(limit, share=share)
    assert chance_to_hold(n, limit, share * limit) >= PLANNED_POWER
    assert all(chance_to_hold(fewer, limit, share * limit) < PLANNED_POWER for fewer in range(1, n))
    assert chance_to_hold(n, limit, limit) <= 0.025, "a rate on the bound is not shown to be within it"


def test_a_few_rows_more_may_be_one_too_few_and_many_more_never_are():
    n = rows_to_hold(0.2)
    assert min(chance_to_hold(more, 0.2, 0.1) for more in range(n, 2 * n)) > PLANNED_POWER - 0.08
    assert min(chance_to_hold(more, 0.2, 0.1) for more in range(2 * n, 3 * n)) > PLANNED_POWER


def test_a_tighter_bound_and_a_smaller_margin_need_more_rows():
    assert rows_to_hold(0.05) > rows_to_hold(0.1) > rows_to_hold(0.2)
    assert rows_to_hold(0.2, share=0.7) > rows_to_hold(0.2) > rows_to_hold(0.2, share=0.0)
    assert rows_to_hold(0.2, power=0.99) > rows_to_hold(0.2)


def test_the_groups_that_are_short_are_named_with_what_they_need():
    needed = rows_to_hold(0.2)
    assert short_groups({"benign": needed, "malignant": 31}, 0.2) == {"malignant": (needed, 31)}
    said = shortage_note('rows labelled "malignant"', needed, 31)
    assert said.startswith(f'too few rows labelled "malignant": {needed} needed, 31 given')


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1])
def test_a_bound_that_is_none_is_refused(limit):
    with pytest.raises(MedwardError, match="between 0 and 1"):
        rows_to_hold(limit)


def test_a_plan_that_no_data_meets_is_refused(monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.sample_size.MOST_PLANNED", 50)
    with pytest.raises(MedwardError, match="needs more than 50 rows"):
        rows_to_hold(0.01)
