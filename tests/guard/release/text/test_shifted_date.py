"""A date is moved by the days asked for, keeps its form, and comes back when moved back."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.release.text.shifted_date import shifted_date

MONTHS = {
    name.lower(): number
    for number in range(1, 13)
    for name in (f"{date(2001, number, 1):%B}", f"{date(2001, number, 1):%b}")
}
FORMS = ["%Y-%m-%d", "%m/%d/%Y", "%Y%m%d", "%B %d, %Y", "%d %b %Y", "%m-%d-%y", "%B %d, %Y at 10:30"]
DAYS = st.dates(date(1951, 1, 1), date(2048, 12, 31))


@given(DAYS, st.integers(-182, 182), st.sampled_from(FORMS))
def test_a_date_keeps_its_form_and_is_moved_by_the_days(day, days, form):
    shift = timedelta(days=days)
    short_may = "%b" in form and day.month == 5  # "May" may be short or whole
    if not short_may and date(1950, 1, 1) <= day + shift <= date(2049, 12, 31):
        assert shifted_date(day.strftime(form), shift, MONTHS, False) == (day + shift).strftime(form)


@pytest.mark.parametrize(
    ("value", "day_first", "moved"),
    [
        ("3/4/2023", False, "3/14/2023"),
        ("3/4/2023", True, "13/4/2023"),
        ("25/12/2022", False, "04/01/2023"),
        ("March 21st, 2023", False, "March 31st, 2023"),
        ("12th of March 2023", False, "22nd of March 2023"),
        ("Monday, March 6, 2023", False, "March 16, 2023"),
        ("MAR 25 2023", False, "APR 04 2023"),
        ("April 2023", False, "April 2023"),
        ("June 2, '23", False, "June 12, '23"),
        ("March 25 at 10:15", False, "April 04 at 10:15"),
        ("Mar 25, 2023 10:15:30 pm", False, "Apr 04, 2023 10:15:30 pm"),
        ("2023-12-25T10:15:00Z", False, "2024-01-04T10:15:00Z"),
        ("12-Feb-21", False, "22-Feb-21"),
        ("Feb 29", False, "Mar 10"),
        ("Christmas", False, None),
        ("31/02/2023", True, None),
        ("99", False, None),
    ],
)
def test_ten_days_on(value, day_first, moved):
    assert shifted_date(value, timedelta(days=10), MONTHS, day_first) == moved
